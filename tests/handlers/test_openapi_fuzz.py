"""Requests that nobody would write, made out of the description: the answers are as described, and no error of ours."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, SerializationContext

from handlers.tus_headers import BODY
from tests.handlers.running import Answer, Api, described, one_loop

EXAMPLES = 3  # requests of each kind for each operation; the same in every run
SKIPPED = {
    "/", "/{path}",  # files, tested as such
    "/api/live", "/api/live/stream", "/api/workers/session",  # conversations, not requests
    "/api/auth/logout", "/api/auth/password",  # would end the session that the others need
}


@schemathesis.serializer(BODY)
def piece(context: SerializationContext, value: Any) -> bytes:
    """A piece of an upload."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class Stranger:
    """Sends what was made up; `known` are ids that mean something, by the beginning of the path."""

    def __init__(self, api: Api, tokens: dict[str, str], known: dict[str, str], order: dict[str, str]) -> None:
        self.api = api
        self.tokens = tokens
        self.known = known
        self.order = order
        self.statuses: dict[str, set[int]] = {}

    def send(self, case: Case, sensible: bool) -> None:
        """One request; a `sensible` one means things that are there."""
        if sensible:
            self.mean_something(case)
        for name, values in (("wait", case.query), ("Accept", case.headers), ("Authorization", case.headers)):
            values.pop(name, None)  # whoever asks so is kept waiting; and tokens are known, not made up
        ways = case.operation.definition.raw["security"]
        token = next((self.tokens[way] for each in ways for way in each if way in self.tokens), "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = case.call(base_url=self.api.hub.url, headers=headers, timeout=30)
        answer = Answer(response.status_code, {k.lower(): v[0] for k, v in response.headers.items()}, response.content)
        where = f"{case.method} {case.formatted_path}"
        assert answer.status < 500, (where, case, answer)
        described().check(case.method, case.formatted_path, answer)
        self.statuses.setdefault(f"{case.method} {case.path}", set()).add(answer.status)

    def mean_something(self, case: Case) -> None:
        start = next((start for start in self.known if case.path.startswith(start)), None)
        if start is not None and case.method not in ("DELETE", "PATCH"):
            for name in {"id", "name", "task_id"} & case.path_parameters.keys():
                case.path_parameters[name] = self.known[start]
        if case.path == "/api/tasks" and isinstance(case.body, dict):
            case.body = {**case.body, **self.order}


async def prepared(api: Api) -> Stranger:
    """Somebody who may do everything, in a hub in which there is something."""
    person, admin = await api.user(), await api.user("admin")
    name, _ = await api.interface()
    _, token = await api.interface()
    task = await person.create(api.offer_model())
    known = {
        "/api/tasks/": task["id"], "/api/admin/tasks/": task["id"], "/output/": task["id"],
        "/api/videos/": task["video"]["id"], "/api/uploads/": task["video"]["id"], "/videos/": task["video"]["id"],
        "/posters/": task["video"]["id"], "/api/admin/users/": person.user.id, "/api/admin/interfaces/": name,
    }
    tokens = {"user": person.token, "admin": admin.token, "monitoring": admin.token, "worker": token}
    return Stranger(api, tokens, known, {"video_id": task["video"]["id"], "model": task["model"]})


@one_loop
async def test_whatever_is_sent_the_answer_is_as_described(api: Api) -> None:
    stranger = await prepared(api)
    await asyncio.to_thread(everything, stranger)
    done = {status for statuses in stranger.statuses.values() for status in statuses}
    assert {200, 201, 304, 400, 404, 422} <= done


def everything(stranger: Stranger) -> None:
    for found in schemathesis.openapi.from_dict(described().document).get_all_operations():
        operation = found.ok()
        if operation.method.upper() not in ("HEAD", "OPTIONS") and operation.path not in SKIPPED:
            for mode in GenerationMode:
                cases = operation.as_strategy(generation_mode=mode)
                several = settings(
                    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                with suppress(Unsatisfiable):  # nothing that can be sent here would be wrong
                    several(given(cases, st.booleans())(stranger.send))()
