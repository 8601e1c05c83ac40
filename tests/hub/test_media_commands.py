"""`python -m hub media gc`, in a database and folders of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.__main__ import cli
from hub.account import User
from hub.effects import Save
from hub.ids import new_id
from hub.media import Media, Purpose
from hub.retention import HOUR_S
from hub.task import Output, State, Task
from store.mongo import MongoStore, connect

from .world import FACTS, a_task

SHA = "ab" + "0" * 62
OLD = 1_600_000_000.0  # in 2020


class Place:
    """Where the errand runs."""

    def __init__(self, mongo_uri: str, folder: Path) -> None:
        self.uri, self.folder, self.name = mongo_uri, folder, f"errands_{new_id()}"
        self.environment = {
            "MONGODB_URI": mongo_uri, "DB_NAME": self.name, "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "error",
            "UPLOAD_VIDEOS_DIR": str(folder / "videos"), "UPLOAD_BACKGROUNDS_DIR": str(folder / "backgrounds"),
            "OUTPUT_DIR": str(folder / "output"),
        }

    def gc(self, *words: str) -> tuple[int, list[str]]:
        done = CliRunner().invoke(cli, ["media", "gc", *words], env=self.environment)
        return done.exit_code, done.output.splitlines()

    def in_store(self, work: Callable[[MongoStore], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            client = connect(self.uri)
            try:
                return await work(MongoStore(client, self.name, "test"))
            finally:
                client.close()

        return asyncio.run(run())

    def save(self, *records: Any) -> None:
        self.in_store(lambda store: store.commit([Save(record, 0) for record in records]))

    def lay(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def place(mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("hub.logs.configure", lambda format, level: None)  # the tests' own logging stays
    made = Place(mongo_uri, tmp_path)
    made.save(User("u", "a@b.c", "A", "user", "hash", 1.0))
    yield made

    async def drop() -> None:
        client = connect(mongo_uri)
        await client.drop_database(made.name)
        client.close()

    asyncio.run(drop())


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files seem two hours old: the kernel lets nobody set the time of a file's last change."""
    monkeypatch.setattr("store.space.changed_at", lambda facts: facts.st_mtime - 2 * HOUR_S)


def test_it_says_what_goes_and_how_many_bytes(place: Place, later: None) -> None:
    kept = place.lay(f"videos/ab/{SHA}", b"kept")
    orphan = place.lay(f"videos/ab/{SHA[:-1]}1", b"orphan")
    other = place.lay("videos/holiday.mp4", b"somebody else's")
    place.save(Media("m", "u", Purpose.VIDEO, "n", "", 4, SHA, "", FACTS, OLD))
    code, lines = place.gc("--dry-run")
    assert (code, lines) == (0, [f"would remove content {orphan} (6 bytes)", "would remove 6 bytes"])
    assert orphan.exists()
    code, lines = place.gc()
    assert (code, lines) == (0, [f"removed content {orphan} (6 bytes)", "removed 6 bytes"])
    assert kept.exists() and other.exists() and not orphan.exists()
    assert place.gc() == (0, ["removed 0 bytes"])


def test_young_files_are_left_alone(place: Place) -> None:
    orphan = place.lay(f"videos/ab/{SHA}", b"just now")
    os.utime(orphan, (OLD, OLD))  # the name is young, whatever the content's own time
    assert place.gc() == (0, ["removed 0 bytes"]) and orphan.exists()


def test_old_results_go_and_their_task_knows(place: Place) -> None:
    place.lay(f"output/results/ab/{SHA}", b"result")
    media = Media("m", "u", Purpose.RESULT, "r.mp4", "", 6, SHA, "", FACTS, OLD, "t")
    outputs = (Output("m", "result", "r.mp4", 6, SHA, 72),)
    place.save(media, a_task("t", state=State.COMPLETED, outputs=outputs, ended_at=OLD))
    assert place.gc() == (0, ["removed result of task t (6 bytes)", "removed 6 bytes"])
    after = place.in_store(lambda store: store.get(Task, "t"))
    assert after.results_gone_at is not None and after.version == 2
    assert place.in_store(lambda store: store.get(Media, "m")) is None
    assert not (place.folder / "output" / "results" / "ab" / SHA).exists()


def test_fault_30_records_without_a_file_are_listed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.save(Media("m", "u", Purpose.VIDEO, "holiday.mp4", "", 6, SHA, "", FACTS, OLD))
    assert place.gc() == (0, ["no file for video m 'holiday.mp4' of user u", "removed 0 bytes"])
    caplog.clear()


def test_the_wrong_database_costs_nobody_a_file(
    place: Place, later: None, caplog: pytest.LogCaptureFixture
) -> None:
    there = place.lay(f"videos/ab/{SHA}", b"somebody's")
    place.environment["DB_NAME"] = f"errands_{new_id()}"
    code, lines = place.gc()
    assert code == 1 and "knows none of the files" in lines[-1] and there.exists()
    caplog.clear()
