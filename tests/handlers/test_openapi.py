"""The description of the API: complete, valid, and true. Every test of the edges checks answers against it as well."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from handlers.answers import METHODS, Answering
from handlers.app import routes
from handlers.openapi import describe
from hub import VERSION
from hub.settings import Settings
from store.probe_wire import REFUSALS
from tests.docs import ROOT
from tests.handlers.described import Described, codes
from tests.handlers.running import Answer, Api, described, fine, one_loop
from tests.test_docs import read, statuses

ID = "01a216c1-e7c2-7f61-899c-830a07f73401"
HANDSHAKE = {"/api/workers/session": {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x",
}}
ROUTES = routes(Settings.parse({}, ROOT), ROOT / "static")
OPERATIONS = [
    (method.upper(), path) for path, item in described().document["paths"].items() for method in item
    if method != "parameters"
]


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = described().document["paths"][path][method.lower()]
    return found


def ways(method: str, path: str) -> set[str]:
    """The ways to prove who asks."""
    return {way for each in operation(method, path)["security"] for way in each}


def example(path: str) -> str:
    """A request to a path, with an id wherever one is asked for."""
    return "/js/main.js" if path == "/{path}" else re.sub(r"\{\w+\}", ID, path.replace("{digest}", 32 * "0"))


@one_loop
async def test_it_is_told_to_everybody_once(api: Api) -> None:
    answer = await api("GET", "/openapi.json")
    told = fine(answer)
    assert told == described().document
    assert told["info"]["version"] == VERSION
    again = await api("GET", "/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_it_is_an_openapi_document() -> None:
    assert described().document["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(described().document).iter_errors()] == []


def test_every_route_and_method_is_in_it_and_nothing_else() -> None:
    paths = list(described().document["paths"])
    first = [next(at for at, route in enumerate(ROUTES) if re.fullmatch(route[0], example(path))) for path in paths]
    assert sorted(first) == list(range(len(ROUTES)))
    served = {
        (method, path) for at, path in zip(first, paths, strict=True)
        for method in METHODS.split(", ") if ROUTES[at][1].serves(method)
    }
    assert served == set(OPERATIONS)


@one_loop
async def test_a_running_hub_has_these_methods_and_no_others(api: Api) -> None:
    for path in described().document["paths"]:
        for method in METHODS.split(", "):
            answer = await api(method, example(path))
            assert (answer.status == 405) == ((method, path) not in OPERATIONS), f"{method} {path}"


@one_loop
async def test_a_stranger_is_asked_who_that_is_where_it_says_so(api: Api) -> None:
    for method, path in OPERATIONS:
        headers = {"Tus-Resumable": "1.0.0"} if path.startswith("/api/uploads") else HANDSHAKE.get(path, {})
        topics = "?topics=tasks" if path.startswith("/api/live") else ""
        answer = await api(method, example(path) + topics, headers=headers)
        assert (answer.status == 401) == bool(ways(method, path)), f"{method} {path}: {answer.status}"


@one_loop
async def test_admins_alone_come_in_where_it_says_so(api: Api) -> None:
    person = await api.user()
    for method, path in OPERATIONS:
        if ways(method, path) == {"admin"}:
            answer = await person(method, example(path))
            assert answer.status == 403, f"{method} {path}"


def test_problems_have_the_status_that_the_reference_says() -> None:
    for method, path in OPERATIONS:
        for status, code in codes(operation(method, path)):
            assert statuses().get(code, 422 if code in REFUSALS else 0) == int(status), f"{method} {path}: {code}"


def test_problems_that_the_reference_names_are_in_it() -> None:
    heading = r"^### (?:[^\n:]+: )?([A-Z]+) (/\S*)\n(.*?)(?=^#)"
    sections = re.findall(heading, read("docs/reference/http.md"), re.MULTILINE | re.DOTALL)
    assert sections
    for method, path, text in sections:
        if method == "HEAD":
            continue  # its problems have no body, so no code
        found = described().path(example(path))
        assert found is not None, path
        for status, names in re.findall(r"\b([45]\d\d)((?: `\w+`(?:,| or|))+)", text):
            named = {(status, name) for name in re.findall(r"\w+", names) if name != "or"}
            assert named <= codes(operation(method, found)), f"{method} {path}"


def test_a_file_may_be_refused_for_every_reason_that_there_is() -> None:
    for path in ("/api/videos", "/api/backgrounds", "/api/tasks/result"):
        assert {("422", code) for code in REFUSALS} <= codes(operation("POST", path))


def test_what_an_endpoint_does_must_be_written_down() -> None:
    class Silent(Answering):
        def get(self) -> None:
            """Nothing that the description knows."""

    with pytest.raises(LookupError, match="GET /silent"):
        describe([(r"/silent", Silent)])


# --- how answers are held against it ----------------------------------------------------------------------------


@one_loop
async def test_an_answer_that_is_not_as_described_is_found(api: Api) -> None:
    person = await api.user()
    task = await person.create(api.offer_model())
    headers = {"content-type": "application/json; charset=utf-8"}

    def check(change: dict[str, Any], status: int = 200, method: str = "GET", without: str = "") -> None:
        said = {name: value for name, value in {**task, **change}.items() if name != without}
        described().check(method, f"/api/tasks/{task['id']}", Answer(status, headers, json.dumps(said).encode()))

    check({})
    wrong: list[dict[str, Any]] = [
        {"change": {"state": "asleep"}}, {"change": {"more": 1}}, {"change": {}, "without": "eta"},
        {"change": {"created_at": "yesterday"}}, {"change": {}, "status": 202}, {"change": {}, "method": "PUT"},
        {"change": {"video": {**task["video"], "width": "64"}}},
    ]
    for each in wrong:
        with pytest.raises(AssertionError):
            check(**each)


@one_loop
async def test_a_description_that_lacks_something_is_found(api: Api) -> None:
    person = await api.user()
    answer = await person("GET", "/api/auth/me")
    document = copy.deepcopy(described().document)
    del document["components"]["schemas"]["User"]["properties"]["email"]
    with pytest.raises(AssertionError, match="email"):
        Described(document).check("GET", "/api/auth/me", answer)
