"""The database stops answering while people and workers are here (P12): a real mongod, frozen and thawed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from hub.ids import new_id
from store.embedded import Embedded
from tests.handlers.fake_worker import worker
from tests.handlers.running import Answer, Api, Person, Place, database_is_back, fine, refused, running_hub, small_video
from tests.handlers.test_live import page
from tests.mongo import run

pytestmark = pytest.mark.mongo
PATIENCE_S = 6.0


@dataclass(frozen=True)
class Own:
    """A mongod that nobody else uses, and a folder."""

    pid: int
    place: Place

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    mongod = Embedded(tmp_path / "database")
    run(mongod.start())
    assert mongod.pid is not None
    made = Own(mongod.pid, Place(mongod.uri, tmp_path))
    yield made
    made.thaw()
    run(mongod.stop())


async def test_p12_fault_6_frozen_database_is_503_soon_and_all_is_well_afterwards(
    own: Own, caplog: pytest.LogCaptureFixture
) -> None:
    """P12: 503 and Retry-After in time, however many ask; sockets stay, liveness stays, service comes back."""
    async with running_hub(own.place) as hub:
        api = Api(hub, own.place.folder)
        person, leaving = await api.user(), await api.user()
        async with worker(api) as maker, page(api, person) as viewer:
            await viewer.ask("subscribe", topic="tasks")
            video = await person.upload_video()
            task = await person.create(maker.model, video["id"])
            assign = await maker.take()
            await viewer.events("assigned")
            own.freeze()
            try:
                answers = await ask_everything(api, person, leaving, video, task, maker.model)
                assert viewer.socket.state == maker.socket.state == viewer.socket.state.OPEN
            finally:
                own.thaw()
            thawed = perf_counter()
            for answer in answers:
                refused(answer, 503, "unavailable")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            await database_is_back(hub)
            async with asyncio.timeout(10):
                while (await api("GET", "/readyz")).status != 200:
                    await asyncio.sleep(0.1)
            assert perf_counter() - thawed < 10
            await maker.tell(assign, 50)
            await maker.finish(assign)
            assert (await viewer.events("completed"))[-1]["data"]["id"] == task["id"]
            assert (await person.create(maker.model, video["id"]))["state"] == "waiting"
        api.close()
    lines = {line.split()[0] for line in caplog.messages}
    assert lines <= {"event='commit_failed'"}
    caplog.clear()


async def ask_everything(
    api: Api, person: Person, leaving: Person, video: Any, task: Any, model: str
) -> list[Answer]:
    """What needs the database, many times at once; each answer in time, and those that do not need it at once."""
    account = {"email": "a@b.test", "password": "long enough"}
    wish = {"video_id": video["id"], "model": model}
    requests = [
        lambda: person("GET", "/api/tasks"), lambda: person("GET", f"/api/tasks/{task['id']}"),
        lambda: person("POST", "/api/tasks", json_body=wish), lambda: person("GET", "/api/videos"),
        lambda: person("POST", "/api/tasks", json_body=wish, headers={"Idempotency-Key": new_id()}),
        lambda: person("POST", f"/api/tasks/{task['id']}/cancel", b""), lambda: api("GET", video["content_url"]),
        lambda: person("DELETE", f"/api/videos/{video['id']}"),
        lambda: api("POST", "/api/auth/login", json_body=account),
        lambda: api("POST", "/api/auth/register", json_body=account), lambda: api("GET", "/readyz"),
        lambda: person("POST", "/api/videos", small_video(), {"Content-Type": "video/mp4"}),
        lambda: leaving("POST", "/api/auth/logout", b""),
    ]

    async def timed(request: Any) -> Answer:
        since = perf_counter()
        answer: Answer = await request()
        assert perf_counter() - since < PATIENCE_S, answer
        return answer

    asked = [asyncio.create_task(timed(request)) for request in requests * 4]
    for _ in range(10):
        since = perf_counter()
        assert fine(await api("GET", "/livez")) == {"status": "ok"}
        assert perf_counter() - since < 0.5
        await asyncio.sleep(0.2)
    return await asyncio.gather(*asked)
