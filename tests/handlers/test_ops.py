"""What operators ask."""

from __future__ import annotations

from hub import VERSION
from tests.handlers.running import Api, fine, one_loop, refused

pytestmark = one_loop


async def test_it_lives_is_ready_and_says_its_version(api: Api) -> None:
    assert fine(await api("GET", "/livez")) == {"status": "ok"}
    assert fine(await api("GET", "/readyz"))["status"] == "ready"
    assert fine(await api("GET", "/version"))["version"] == VERSION


async def test_it_answers_to_every_name_for_those_who_only_ask_how_it_is(api: Api) -> None:
    assert (await api("GET", "/livez", headers={"Host": "pod-7.cluster.test"})).status == 200
    refused(await api("GET", "/api/models", headers={"Host": "pod-7.cluster.test"}), 421, "bad_host")


async def test_unknown_places_are_not_found_whatever_the_method(api: Api) -> None:
    for method in ("GET", "POST", "DELETE", "PATCH"):
        refused(await api(method, "/api/nowhere", b"x" if method == "POST" else None), 404, "not_found")
