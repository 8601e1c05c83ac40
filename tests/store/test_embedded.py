"""The embedded MongoDB, always with a real mongod: it starts, comes back, is alone on its folder, and goes with us."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, PyMongoError
from structlog.testing import capture_logs

from store import embedded, system
from store.embedded import Embedded, EmbeddedError, attached
from tests.mongo import run

pytestmark = pytest.mark.mongo
Documents = Any
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A mongod that several tests look at and none harms."""
    mongod = Embedded(tmp_path_factory.mktemp("hub"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JWT_SECRET", "not-for-mongod")
        run(mongod.start())
    yield mongod
    run(mongod.stop())


@asynccontextmanager
async def documents(uri: str) -> AsyncIterator[Documents]:
    """A collection on the server at `uri` whose writes are acknowledged when they are in the journal."""
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        yield client.get_database("test").get_collection("documents")


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs under this id; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_data_outlives_a_clean_stop_and_stopping_twice_is_harmless(tmp_path: Path) -> None:
    mongod = Embedded(tmp_path)
    began = monotonic()
    await mongod.start()
    async with documents(mongod.uri) as collection:
        await collection.insert_one({"_id": 1})
    assert monotonic() - began < 5
    assert mongod.version.count(".") == 2
    with pytest.raises(RuntimeError):
        await mongod.start()
    first = mongod.pid
    await mongod.stop()
    await mongod.stop()
    assert first and not alive(first) and mongod.pid is None

    os.truncate(tmp_path / "mongo/mongod.log", embedded.LARGEST_LOG + 1)
    await mongod.start()
    async with documents(mongod.uri) as collection:
        assert await collection.find_one({"_id": 1})
    await mongod.stop()
    assert (tmp_path / "mongo/mongod.log.1").stat().st_size == embedded.LARGEST_LOG + 1
    assert (tmp_path / "mongo/mongod.log").stat().st_size < embedded.LARGEST_LOG


async def test_p5_fault_5_acknowledged_writes_outlive_kill_9_and_the_same_client_goes_on(tmp_path: Path) -> None:
    mongod = Embedded(tmp_path)
    acknowledged: list[int] = []

    async def write(collection: Documents) -> None:
        number = 0
        while True:
            with suppress(PyMongoError):
                with suppress(DuplicateKeyError):  # written before the kill, acknowledged by this
                    await collection.insert_one({"_id": number})
                acknowledged.append(number)
                number += 1

    await mongod.start()
    async with documents(mongod.uri) as collection:
        writing = asyncio.create_task(write(collection))
        with capture_logs() as logged:
            for _ in range(2):
                before, killed = len(acknowledged), mongod.pid
                assert killed
                await until(lambda: len(acknowledged) > before + 20)
                os.kill(killed, signal.SIGKILL)
                await until(lambda: mongod.pid != killed and len(logged) >= 2)
                before, began = len(acknowledged), monotonic()
                await until(lambda: len(acknowledged) > before + 20)
                assert monotonic() - began < 5
        writing.cancel()
        await asyncio.wait([writing])
        kept = {document["_id"] async for document in collection.find()}
        assert kept >= set(acknowledged) and len(acknowledged) > 80
    await mongod.stop()
    assert [each["log_level"] for each in logged if each["event"] == "mongod_died"] == ["warning"] * 2
    assert [each["exit_code"] for each in logged if each["event"] == "mongod_died"] == [-9, -9]


async def test_it_tries_again_until_mongod_can_start(tmp_path: Path) -> None:
    mongod = Embedded(tmp_path)
    await mongod.start()
    assert mongod.pid
    with capture_logs() as logged:
        os.kill(mongod.pid, signal.SIGSTOP)
        (tmp_path / "mongo/db").rename(tmp_path / "mongo/away")
        os.kill(mongod.pid, signal.SIGKILL)
        await until(lambda: any(each["event"] == "mongod_restart_failed" for each in logged))
        (tmp_path / "mongo/away").rename(tmp_path / "mongo/db")
        await until(lambda: any(each["event"] == "mongod_started" for each in logged))
    async with documents(mongod.uri) as collection:
        await collection.insert_one({})
    await mongod.stop()
    assert "mongod.log" in next(each["error"] for each in logged if each["event"] == "mongod_restart_failed")


async def test_a_second_hub_is_refused_and_the_first_goes_on(running: Embedded) -> None:
    second = Embedded(running.home.parent, patience=0.2)
    with pytest.raises(EmbeddedError, match="another hub uses .*: stop it, or give MONGODB_URI"):
        await second.start()
    async with documents(running.uri) as collection:
        await collection.insert_one({})
    await second.stop()


async def test_an_errand_uses_the_mongod_of_a_running_hub_and_leaves_it(running: Embedded) -> None:
    before = running.pid
    async with attached(running.home.parent) as uri, documents(uri) as collection:
        await collection.insert_one({})
    assert before == running.pid and alive(before or 0)
    async with documents(running.uri) as collection:
        assert await collection.find_one()


async def test_motor_takes_the_uri(running: Embedded) -> None:
    client: Any = AsyncIOMotorClient(running.uri)
    assert (await client.admin.command("hello"))["isWritablePrimary"]
    client.close()


def test_nobody_else_can_reach_it(running: Embedded) -> None:
    def rows(kind: str) -> list[list[str]]:
        return [line.split() for line in Path(f"/proc/{running.pid}/net/{kind}").read_text().splitlines()[1:]]

    opened = [os.readlink(link) for link in Path(f"/proc/{running.pid}/fd").iterdir() if link.is_symlink()]
    sockets = {name[len("socket:["):-1] for name in opened if name.startswith("socket:[")}
    assert not [row for kind in ("tcp", "tcp6", "udp", "udp6") for row in rows(kind) if row[9] in sockets]
    assert {row[7] for row in rows("unix") if row[6] in sockets and len(row) > 7} == {"./m.sock"}
    assert running.home.stat().st_mode & 0o777 == 0o700


def test_mongod_gets_neither_our_secrets_nor_ctrl_c(running: Embedded) -> None:
    assert running.pid
    assert b"not-for-mongod" not in Path(f"/proc/{running.pid}/environ").read_bytes()
    assert os.getsid(running.pid) != os.getsid(0)


BONDS = ["prctl", "nothing", *(["setpriv"] if shutil.which("setpriv") else [])]
HUB = """
import asyncio, structlog, sys
from pathlib import Path
from store import embedded
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
async def main():
    mongod = embedded.Embedded(Path(sys.argv[1]))
    await mongod.start()
    print(mongod.pid, flush=True)
    await asyncio.Event().wait()
if sys.argv[2] == "prctl":
    embedded.shutil.which = lambda name, path=None: None
elif sys.argv[2] == "nothing":
    embedded.bound_to_parent = lambda: ([], None)
asyncio.run(main())
"""


async def test_p15_mongod_goes_with_a_killed_hub_and_the_next_hub_starts(tmp_path: Path) -> None:
    """Also where nothing binds mongod to its parent, the next hub gets the folder; at one time, as each takes long.

    A mongod that is bound goes also when it hears nothing: asked to end while it recovers, it may hang for ever.
    """

    async def kill_and_start_again(bond: str) -> None:
        folder = tmp_path / bond
        hub = subprocess.Popen([sys.executable, "-c", HUB, str(folder), bond], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert hub.stdout
            orphan = int(await asyncio.to_thread(hub.stdout.readline))
            if bond != "nothing":
                os.kill(orphan, signal.SIGSTOP)
        finally:
            hub.kill()
            hub.communicate()
        if bond != "nothing":
            await until(lambda: not alive(orphan), seconds=5)
        mongod = Embedded(folder)
        await mongod.start()
        assert not alive(orphan)
        async with documents(mongod.uri) as collection:
            await collection.insert_one({})
        await mongod.stop()

    with capture_logs() as logged:
        await asyncio.gather(*(kill_and_start_again(bond) for bond in BONDS))
    assert [each["home"] for each in logged if each["event"] == "orphan_found"] == [str(tmp_path / "nothing/mongo")]


async def test_any_path_will_do_and_an_errand_without_a_hub_leaves_no_mongod(tmp_path: Path) -> None:
    async def write(folder: Path) -> None:
        async with attached(folder) as uri, documents(uri) as collection:
            await collection.insert_one({})
            assert await collection.count_documents({}) == 1

    with capture_logs() as logged:
        await asyncio.gather(write(tmp_path / ("l" * 120)), write(tmp_path / "Blank, plus+ Größe: 100%"))
    started = [each["pid"] for each in logged if each["event"] == "mongod_started"]
    assert len(started) == 2 and not any(alive(pid) for pid in started)


async def test_a_set_that_was_made_under_another_address_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(embedded, "OPTIONS", tuple(each.replace("m.sock", "n.sock") for each in embedded.OPTIONS))
        elsewhere.setattr(embedded, "SOCKET", "n.sock")
        async with attached(tmp_path) as uri, documents(uri) as collection:
            await collection.insert_one({"_id": 1})
    async with attached(tmp_path) as uri, documents(uri) as collection:
        assert await collection.find_one({"_id": 1})


async def test_a_start_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    mongod = Embedded(tmp_path)
    starting = asyncio.create_task(mongod.start())
    await until(lambda: mongod.pid is not None)
    process = mongod.pid
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert process and not alive(process)
    async with attached(tmp_path, patience=0.0) as uri, documents(uri) as collection:
        await collection.insert_one({})


async def test_where_none_is_installed_it_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "WHEELS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="no mongod is installed: .*MONGODB_URI"):
        await Embedded(tmp_path).start()


async def test_spoilt_data_is_refused_with_the_place_to_look(tmp_path: Path) -> None:
    (tmp_path / "mongo/db").mkdir(parents=True)
    (tmp_path / "mongo/db/storage.bson").write_bytes(b"spoilt")
    with pytest.raises(EmbeddedError, match=r"mongod ended with \d+: see .*mongod\.log"):
        await Embedded(tmp_path).start()
    assert (tmp_path / "mongo/mongod.log").stat().st_size > 0


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "mongo").write_text("in the way")
    with pytest.raises(EmbeddedError, match="mongo cannot be used .*MONGODB_URI"):
        await Embedded(tmp_path).start()
