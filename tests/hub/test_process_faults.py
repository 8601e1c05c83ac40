"""What a real hub process must bear: a log without room, a thousand who say nothing, many who do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub.commands import enter_interface
from hub.ids import new_id
from store.mongo import MongoStore, connect
from tests.handlers.fake_worker import FakeWorker
from tests.handlers.running import small_video
from tests.resuming.client import Client, Heard
from tests.resuming.process import HubProcess

pytestmark = pytest.mark.mongo
INTO_NOTHING = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")  # each write says ENOSPC
CLEAN = (0, 120)  # 120 is Python's word for a good end whose last words found no room


@asynccontextmanager
async def a_worker(hub: HubProcess) -> AsyncIterator[FakeWorker]:
    """A worker that has joined the process, with one slot."""
    client = connect(hub.environment["MONGODB_URI"])
    token, _ = await enter_interface(MongoStore(client, hub.environment["DB_NAME"], "test"), "box")
    client.close()
    made = FakeWorker(SimpleNamespace(hub=hub), "box", token, "m")  # type: ignore[arg-type]
    await made.join()
    yield made
    await made.leave()


async def served(person: Client) -> dict[str, Any]:
    """Upload a video and create a task of it; the task."""
    video = fine(await asyncio.to_thread(
        person, "POST", "/api/videos?name=v", small_video() + new_box(), Content_Type="video/mp4",
    ))
    wish = b'{"video_id": "%s", "model": "m"}' % video["id"].encode()
    return fine(await asyncio.to_thread(person, "POST", "/api/tasks", wish, Content_Type="application/json"))


def new_box() -> bytes:
    """What makes a video another one, and players skip."""
    noise = new_id().encode()
    return (len(noise) + 8).to_bytes(4) + b"free" + noise


def fine(answer: Heard) -> Any:
    assert answer.status == 201, (answer.status, answer.body)
    return answer.json


@pytest.mark.parametrize("format", ["console", "json"])
async def test_fault_18_a_hub_whose_log_is_full_serves_on(mongo_uri: str, tmp_path: Path, format: str) -> None:
    hub = HubProcess(mongo_uri, tmp_path / "hub", LOG_FORMAT=format, LOG_LEVEL="debug")
    await hub.start(INTO_NOTHING)
    try:
        async with a_worker(hub) as worker:
            task = await served(Client(hub.url, await asyncio.to_thread(hub.user)))
            assert (await worker.take()).task == task["id"]
    finally:
        hub.stop()
    assert hub.process is not None and hub.process.returncode in CLEAN
