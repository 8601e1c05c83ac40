"""What operators ask."""

from __future__ import annotations

from hub import VERSION
from tests.handlers.running import Api, Place, fine, one_loop, refused, running_hub

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


async def test_monitoring_and_admins_see_numbers_and_nobody_else_does(place: Place) -> None:
    token = "a token of the monitoring"
    async with running_hub(place, METRICS_TOKEN=token) as hub:
        api = Api(hub, place.folder)
        person, admin = await api.user(), await api.user("admin")
        await person.create(api.offer_model())
        refused(await api("GET", "/metrics"), 401, "unauthorized")
        refused(await person("GET", "/metrics"), 403, "forbidden")
        assert (await admin("GET", "/metrics")).status == 200
        answer = await api("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        assert answer.headers["content-type"].startswith("text/plain; version=")
        text = answer.body.decode()
        for line in (
            'hub_tasks{state="waiting"} 1.0', 'hub_tasks{state="processing"} 0.0', "hub_database_up 1.0",
            'hub_requests_total{endpoint="MetricsPage",method="GET",status="403"} 1.0',
        ):
            assert line in text.splitlines(), text
        assert "process_resident_memory_bytes" in text
        api.close()
