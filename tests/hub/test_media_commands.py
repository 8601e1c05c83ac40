"""`python -m hub media gc`, in a database and folders of its own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from hub.account import User
from hub.effects import Save
from hub.ids import new_id
from hub.media import Media, Purpose
from hub.retention import HOUR_S
from hub.task import Output, State, Task
from store.mongo import MongoStore, connect

from .test_commands import Line, line
from .world import FACTS, a_task

__all__ = ["line"]

SHA = "ab" + "0" * 62
OLD = 1_600_000_000.0  # in 2020


class Place:
    """A command line and the folders that it tidies."""

    def __init__(self, line: Line, folder: Path) -> None:
        self.line, self.folder = line, folder
        for name in ("videos", "backgrounds"):
            line.environment[f"UPLOAD_{name.upper()}_DIR"] = str(folder / name)
        line.environment["OUTPUT_DIR"] = str(folder / "output")

    def gc(self, *words: str, **environment: str) -> tuple[int, list[str]]:
        done = self.line("media", "gc", *words, **environment)
        return done.exit_code, done.output.splitlines()

    def save(self, *records: Any) -> None:
        async def work() -> None:
            client = connect(self.line.uri)
            await MongoStore(client, self.line.name, "test").commit([Save(record, 0) for record in records])
            client.close()

        asyncio.run(work())

    def lay(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def place(line: Line, tmp_path: Path) -> Place:
    made = Place(line, tmp_path)
    made.save(User("u", "a@b.c", "A", "user", "hash", 1.0))
    return made


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
    after = place.line.ask(Task, id="t")
    assert after.results_gone_at is not None and after.version == 2
    assert place.line.ask(Media, id="m") is None
    assert not (place.folder / "output" / "results" / "ab" / SHA).exists()


def test_fault_30_records_without_a_file_are_listed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.save(Media("m", "u", Purpose.VIDEO, "holiday.mp4", "", 6, SHA, "", FACTS, OLD))
    assert place.gc() == (0, ["no file for video m 'holiday.mp4' of user u", "removed 0 bytes"])
    caplog.clear()


def test_the_wrong_database_costs_nobody_a_file(
    place: Place, later: None, caplog: pytest.LogCaptureFixture
) -> None:
    there = place.lay(f"videos/ab/{SHA}", b"somebody's")
    code, lines = place.gc(DB_NAME=f"errands_{new_id()}")
    assert code == 1 and "knows none of the files" in lines[-1] and there.exists()
    caplog.clear()
