"""What a real hub process must bear: a log without room, a thousand who say nothing, many who do not read."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.wire import Caller, Talk, handshake, masked
from hub.account import User
from hub.interface_commands import enter_interface
from hub.ids import new_id
from store.mongo import MongoStore, connect
from tests.handlers.fake_worker import FakeWorker
from tests.handlers.running import Api, eventually, small_video
from tests.resuming.client import Client, Heard
from tests.resuming.process import HubProcess

pytestmark = [
    pytest.mark.mongo,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and /dev/full are Linux's"),
]
INTO_NOTHING = ("sh", "-c", 'exec "$@" --first-admin >/dev/full 2>&1', "sh")  # each write says ENOSPC
POOL = 32  # connections to the database, which the driver opens as it needs them
CLEAN = (0, 120)  # 120 is Python's word for a good end whose last words found no room


@asynccontextmanager
async def records(hub: HubProcess) -> AsyncIterator[MongoStore]:
    """The process's records, beside it."""
    client = connect(hub.environment["MONGODB_URI"])
    yield MongoStore(client, hub.environment["DB_NAME"], "test")
    client.close()


@asynccontextmanager
async def a_worker(hub: HubProcess) -> AsyncIterator[FakeWorker]:
    """A worker that has joined the process, with one slot."""
    async with records(hub) as store:
        token, _ = await enter_interface(store, "box")
    api = Api(hub, hub.folder)  # type: ignore[arg-type]
    made = FakeWorker(api, "box", token, "m")
    await made.join()
    yield made
    await made.leave()
    api.close()


async def served(person: Client) -> Any:
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
        async with records(hub) as store:
            assert await store.count(User, role="admin") == 0, "nobody could be told the password"
    finally:
        hub.stop()
    assert hub.process is not None and hub.process.returncode in CLEAN


# --- many connections


@pytest.fixture
async def hub(mongo_uri: str, tmp_path: Path) -> AsyncIterator[HubProcess]:
    """A hub that may have as many descriptors as the system allows, as may this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this needs some thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process = HubProcess(mongo_uri, tmp_path / "hub", MAX_VIEWERS_PER_USER="10000")
    await process.start()
    yield process
    process.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pid(hub: HubProcess) -> int:
    assert hub.process is not None
    return hub.process.pid


def descriptors(hub: HubProcess) -> int:
    return len(list(Path(f"/proc/{pid(hub)}/fd").iterdir()))


def connections(hub: HubProcess) -> int:
    """How many TCP connections to its port the process holds (proc_pid_net(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening, nobody = "0A", "0"
    return sum(row[1].endswith(f":{hub.port:04X}") and row[3] != listening and row[9] != nobody for row in rows)


def peak(hub: HubProcess) -> int:
    """The most memory that the process has had, in bytes."""
    status = Path(f"/proc/{pid(hub)}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def viewer(hub: HubProcess, token: str, hear: Callable[[bytes], None], *more: dict[str, Any]) -> Talk:
    """One who has signed in, and then says `more`."""
    talk = await Talk.open(hub.port, "/api/live", hear)
    for message in ({"type": "auth", "id": 1, "token": token}, *more):
        talk.say(json.dumps(message).encode())
    return talk


async def test_fault_23_a_thousand_idle_viewers_cost_nobody_anything_and_leave_nothing(hub: HubProcess) -> None:
    """P14; bench/fanout measures ten thousand, and their memory."""
    person = Client(hub.url, await asyncio.to_thread(hub.user))
    async with a_worker(hub) as worker:
        await served(person)
        await worker.finish(await worker.take())
        before, welcomed = descriptors(hub), list[bytes]()
        talks = [await viewer(hub, person.token, welcomed.append) for _ in range(1000)]
        await eventually(lambda: len(welcomed) >= 1000, 60)
        assert not any(b'"error"' in answer for answer in welcomed)
        assert descriptors(hub) >= before + 1000
        task = await served(person)
        assert (await worker.take()).task == task["id"]
        for talk in talks:
            talk.close()
        await eventually(lambda: descriptors(hub) <= before + POOL, 60)


async def flow(hub: HubProcess, token: str, video: str, gone: Callable[[], bool]) -> None:
    """Create tasks and cancel them, each of which all viewers are told, until those are `gone`."""
    caller = await Caller.open(hub.port)
    wish = json.dumps({"video_id": video, "model": "m"}).encode()
    while not gone():
        status, answer = await caller.post("/api/tasks", token, wish)
        assert status == 201, answer
        status, answer = await caller.post(f"/api/tasks/{json.loads(answer)['id']}/cancel", token, b"")
        assert status == 200, answer
    caller.transport.close()


@pytest.mark.chaos
async def test_fault_26_a_herd_and_fifty_who_do_not_read_need_little_memory(hub: HubProcess) -> None:
    """P11, P15: the load of faults 24 and 25, far below 512 MB; bench/fanout sends five thousand."""
    token = await asyncio.to_thread(hub.user)
    person = Client(hub.url, token)
    async with a_worker(hub):
        first = await served(person)
    hub.kill()
    await hub.start()
    heard = list[bytes]()
    subscribe = {"type": "subscribe", "id": 2, "topic": "tasks"}
    herd = await asyncio.gather(*(viewer(hub, token, heard.append, subscribe) for _ in range(2000)))
    await eventually(lambda: sum(b'"subscribed"' in each for each in heard) == 2000, 60)
    for talk in herd:
        talk.close()
    await eventually(lambda: not connections(hub), 60)
    with ExitStack() as stack:
        for _ in range(50):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", hub.port))
            hello = [{"type": "auth", "id": 1, "token": token}, subscribe]
            deaf.send(handshake(hub.port, "/api/live") + b"".join(masked(json.dumps(each).encode()) for each in hello))
        await eventually(lambda: connections(hub) == 50, 60)
        await flow(hub, token, first["video"]["id"], lambda: connections(hub) == 1)
    assert peak(hub) < 256_000_000
    async with a_worker(hub) as worker:
        assert (await worker.take()).task == first["id"]
    assert (await served(person))["state"] == "waiting"
