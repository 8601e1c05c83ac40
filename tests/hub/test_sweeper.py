"""Rounds of tidying over a real store contract and real folders; only the time is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hub import sweeper as sweeping
from hub.account import User
from hub.effects import Delete, Effect, Outcome, Publish, Save
from hub.errors import Conflict, Unavailable
from hub.media import Media, Previews, Purpose
from hub.messages import UPDATED
from hub.retention import DAY_S, HOUR_S, Report
from hub.sweeper import Sweeper
from hub.task import Output, Source, State, Task
from hub.upload import Upload
from store.files import Files
from store.memory import MemoryStore
from store.space import Space

from .world import FACTS, a_task

LATER_S = 2 * HOUR_S


class Room:
    """A sweeper over a memory store and folders; `wall` is now unless the test lets time pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = Files({purpose: folder / purpose for purpose in Purpose}, folder / "incoming", folder / "posters")
        self.store = MemoryStore()
        self.start = (folder / "posters").stat().st_mtime
        self.passed = self.jumped = 0.0
        self.published: list[Publish] = []
        self.noticed: list[tuple[str, int]] = []
        self.sweeper = self.new_sweeper()

    def new_sweeper(self, keep_days: float = 30.0) -> Sweeper:
        return Sweeper(
            self.store, self.files, Space(self.files), self, lambda _: nullcontext(), self.commit, keep_days * DAY_S,
            lambda what, size: self.noticed.append((what, size)),
        )

    def now(self) -> float:
        return self.start + self.passed

    def wall(self) -> float:
        return self.now() + self.jumped

    async def commit(self, effects: Sequence[Effect]) -> None:
        changes = [effect for effect in effects if isinstance(effect, Save | Delete)]
        if any(outcome is not Outcome.DONE for outcome in await self.store.commit(changes)):
            raise Conflict("somebody else was first")
        self.published += [effect for effect in effects if isinstance(effect, Publish)]

    async def media(self, id: str, purpose: Purpose = Purpose.VIDEO, bytes: bytes = b"bytes", **fields: Any) -> Media:
        """A record with its bytes and its poster."""
        sha256 = await self.bytes(bytes, purpose)
        await self.files.save_previews(id, Previews(b"poster", b"strip"))
        record = Media(id, "owner", purpose, f"{id}.mp4", "", len(bytes), sha256, "", FACTS, self.wall())
        record = replace(record, **fields)
        await self.store.commit([Save(record, 0)])
        return record

    async def bytes(self, bytes: bytes, purpose: Purpose = Purpose.VIDEO) -> str:
        """Bytes that no record points at."""
        incoming = self.files.receive("once")
        await incoming.write(bytes)
        digest = await incoming.finish()
        await incoming.seal(purpose)
        await incoming.discard()
        return digest.sha256

    async def task(self, id: str, *results: Media, **fields: Any) -> Task:
        outputs = tuple(Output(each.id, each.purpose, each.name, each.size, each.sha256, 72) for each in results)
        task = replace(a_task(id), outputs=outputs, **fields)
        await self.store.commit([Save(task, 0)])
        return task

    async def round(self, after: float = LATER_S, dry: bool = False) -> Report:
        self.passed = after
        return await self.sweeper.sweep(dry)

    def left(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    await room.store.commit([Save(User("owner", "a@b.c", "A", "user", "hash", 1.0), 0)])
    yield room
    room.files.close()


# --- files without a record -------------------------------------------------------------------------------------


async def test_p3_files_without_a_record_go_and_those_with_one_stay(room: Room) -> None:
    await room.media("kept")
    kept = room.left()
    await room.bytes(b"an orphan")
    await room.files.save_previews("nobody", Previews(b"poster", b"strip"))
    (room.folder / "incoming" / "upload").write_bytes(b"half")
    (room.folder / "posters" / "kept.jpg.part").write_bytes(b"half")
    report = await room.round(26 * HOUR_S)
    assert room.left() == kept
    assert (report.orphans.number, report.orphans.size) == (5, 9 + 6 + 5 + 4 + 4)
    assert sorted(size for _, size in room.noticed) == [4, 4, 5, 6, 9] and report.freed == 28
    assert (await room.round(26 * HOUR_S)).orphans.number == 0


async def test_what_may_be_in_the_making_stays(room: Room) -> None:
    await room.media("kept")
    await room.bytes(b"sealed just now, its record follows")
    (room.folder / "incoming" / "upload").write_bytes(b"half")
    before = room.left()
    assert (await room.round(HOUR_S / 2)).orphans.number == 0
    assert room.left() == before


@pytest.mark.parametrize("jump", [-2 * HOUR_S, 2 * HOUR_S, 3650 * DAY_S])
async def test_p8_fault_20_a_wall_clock_that_jumps_makes_nothing_old(room: Room, jump: float) -> None:
    """Fault 20: neither results nor what is in the making go; what is made now has the jumped clock's time."""
    result = await room.media("result", Purpose.RESULT, task_id="task")
    await room.task("task", result, state=State.COMPLETED, ended_at=room.now())
    sha256 = await room.bytes(b"its record follows")
    made = room.files.path(Purpose.VIDEO, sha256).stat()
    before, room.jumped = room.left(), jump
    if jump < 0:
        room.passed = -jump  # two hours later somebody sets the clock back, and a file is sealed
        assert made.st_mtime <= room.wall() + 60
    report = await room.round(room.passed)
    assert room.left() == before and report.freed == 0


async def test_a_resting_upload_that_is_known_stays_however_old(room: Room) -> None:
    upload = Upload("upload", "owner", Purpose.VIDEO, 100, room.wall(), version=1)
    await room.store.commit([Save(upload, 0)])
    (room.folder / "incoming" / "upload").write_bytes(b"half")
    assert (await room.round(90 * DAY_S)).orphans.number == 0
    assert "incoming/upload" in room.left()


async def test_a_content_is_judged_by_the_records_of_its_own_purpose(room: Room) -> None:
    record = await room.media("kept", Purpose.RESULT)
    await room.bytes(b"bytes", Purpose.MASK)
    await room.round()
    assert f"result/{record.sha256[:2]}/{record.sha256}" in room.left()
    assert f"mask/{record.sha256[:2]}/{record.sha256}" not in room.left()


async def test_what_an_open_task_needs_stays_even_without_its_record(room: Room) -> None:
    await room.media("another", bytes=b"another")
    sha256 = await room.bytes(b"the task's video")
    source = Source("gone", "v.mp4", 16, sha256, "video/mp4", FACTS)
    task = await room.task("task", video=source)
    assert (await room.round()).orphans.number == 0
    await room.store.commit([Save(replace(task, state=State.FAILED, version=2), 1)])
    assert (await room.round()).orphans.number == 1


async def test_a_record_that_comes_during_the_round_is_respected(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.media("kept")
    sha256 = await room.bytes(b"an old orphan")

    async def late() -> set[str]:
        record = Media("late", "o", Purpose.VIDEO, "n", "", 13, sha256, "", FACTS, room.wall())
        await room.store.commit([Save(record, 0)])
        return set()

    monkeypatch.setattr(room.sweeper, "needed", late)
    assert (await room.round()).orphans.number == 0
    assert f"video/{sha256[:2]}/{sha256}" in room.left()


async def test_another_hub_s_database_costs_nobody_a_file(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        await room.media(f"media-{number}", bytes=b"%d" % number)
    before = room.left()
    theirs = dict(room.store.collections)
    room.store.collections.clear()
    for _ in range(2):
        report = await room.round()
        assert report.refused and room.left() == before and report.freed == 0
    lost = Media("lost", "owner", Purpose.VIDEO, "n", "", 1, "f" * 64, "", FACTS, 1.0)
    await room.store.commit([Save(User("other", "a@b.c", "A", "user", "hash", 1.0), 0), Save(lost, 0)])
    assert (await room.round()).refused and room.left() == before
    assert caplog.text.count("sweep_refused") == 1
    caplog.clear()
    room.store.collections.update(theirs)
    assert not (await room.round()).refused and room.left() == before


async def test_a_hub_whose_last_file_is_an_orphan_loses_that(room: Room) -> None:
    await room.bytes(b"an orphan")
    assert (await room.round()).orphans.number == 1 and room.left() == set()


async def test_a_dry_round_tells_and_changes_nothing(room: Room) -> None:
    result = await room.media("result", Purpose.RESULT, b"result", task_id="task")
    mask = await room.media("mask", Purpose.MASK, b"mask", task_id="task")
    await room.task("task", result, mask, state=State.COMPLETED, ended_at=room.wall())
    await room.bytes(b"orphan")
    before = room.left()
    report = await room.round(31 * DAY_S, dry=True)
    assert (report.results.number, report.results.size, report.orphans.number) == (1, 10, 1)
    assert room.left() == before and await room.store.get(Media, "result") == result
    assert (await room.round(31 * DAY_S)).freed == report.freed == 16


# --- results ----------------------------------------------------------------------------------------------------


async def test_old_results_go_with_all_that_belongs_to_them_and_their_task_says_so(room: Room) -> None:
    video = await room.media("video", bytes=b"video")
    result = await room.media("result", Purpose.RESULT, b"result", task_id="task")
    mask = await room.media("mask", Purpose.MASK, b"mask", task_id="task")
    task = await room.task("task", result, mask, state=State.COMPLETED, ended_at=room.wall())
    assert (await room.round(30 * DAY_S - 60)).results.number == 0
    report = await room.round(30 * DAY_S + 60)
    assert (report.results.number, report.results.size) == (1, 10)
    after = await room.store.get(Task, "task")
    assert after == replace(
        task, results_gone_at=room.wall(), updated_at=room.wall(), version=task.version + 1,
    )
    assert room.published == [Publish(after, UPDATED)]
    assert await room.store.get(Media, "result") is await room.store.get(Media, "mask") is None
    assert room.left() == {f"video/{video.sha256[:2]}/{video.sha256}", "posters/video.jpg", "posters/video.strip.jpg"}
    assert (await room.round(60 * DAY_S)).results.number == 0


async def test_results_may_be_kept_for_ever(room: Room) -> None:
    result = await room.media("result", Purpose.RESULT, task_id="task")
    await room.task("task", result, state=State.COMPLETED, ended_at=room.wall())
    room.sweeper = room.new_sweeper(keep_days=0)
    assert (await room.round(9999 * DAY_S)).freed == 0


async def test_a_result_that_another_task_has_too_keeps_its_bytes(room: Room) -> None:
    old = await room.media("old", Purpose.RESULT, task_id="task-1")
    new = await room.media("new", Purpose.RESULT, task_id="task-2")
    await room.task("task-1", old, state=State.COMPLETED, ended_at=room.wall())
    await room.task("task-2", new, state=State.COMPLETED, ended_at=room.wall() + 10 * DAY_S)
    assert (await room.round(31 * DAY_S)).results.number == 1
    assert f"result/{new.sha256[:2]}/{new.sha256}" in room.left() and "posters/old.jpg" not in room.left()


async def test_a_task_that_somebody_changes_meanwhile_is_left_for_the_next_round(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await room.media("result", Purpose.RESULT, task_id="task")
    task = await room.task("task", result, state=State.COMPLETED, ended_at=room.wall())
    page = room.store.page

    async def page_and_change(kind: Any, *arguments: Any, **equal: Any) -> Any:
        found = await page(kind, *arguments, **equal)
        if kind is Task and "id" in equal:
            await room.store.commit([Save(replace(task, message="changed", version=task.version + 1), task.version)])
        return found

    monkeypatch.setattr(room.store, "page", page_and_change)
    assert (await room.round(31 * DAY_S)).results.number == 0
    monkeypatch.undo()
    assert (await room.round(31 * DAY_S)).results.number == 1


async def test_what_no_task_took_goes_after_a_day(room: Room) -> None:
    video = await room.media("video", bytes=b"video")
    spare = await room.media("spare", Purpose.RESULT, b"of a lost attempt", task_id="task")
    taken = await room.media("taken", Purpose.RESULT, b"taken", task_id="task")
    await room.task("task", taken, state=State.COMPLETED, ended_at=room.wall())
    assert (await room.round(DAY_S - 60)).leftovers.number == 0
    report = await room.round(DAY_S + 60)
    assert (report.leftovers.number, report.leftovers.size, report.orphans.number) == (1, spare.size, 0)
    assert await room.store.get(Media, "spare") is None and await room.store.get(Media, "taken") == taken
    assert await room.store.get(Media, "video") == video


async def test_an_open_or_retried_task_keeps_its_inputs_and_what_was_sent_for_it(room: Room) -> None:
    video = await room.media("video", bytes=b"video")
    sent = await room.media("sent", Purpose.RESULT, b"sent", task_id="task")
    source = Source("video", video.name, video.size, video.sha256, "", FACTS)
    task = await room.task("task", video=source, state=State.FAILED, ended_at=room.wall())
    again = replace(task, state=State.WAITING, ended_at=None, version=task.version + 1)
    await room.store.commit([Save(again, task.version)])
    before = room.left()
    assert (await room.round(900 * DAY_S)).freed == 0
    assert room.left() == before and await room.store.get(Media, "sent") == sent


# --- records without a file, and the space ----------------------------------------------------------------------


async def test_fault_30_records_without_a_file_are_said_and_stay(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    await room.media("whole", bytes=b"whole")
    lost = await room.media("lost", bytes=b"lost")
    await room.files.delete(Purpose.VIDEO, lost.sha256)
    for _ in range(2):
        report = await room.round()
        assert (report.missing, report.missing_count) == ([lost], 1)
    assert caplog.text.count("records_without_file") == 1  # said once, as long as they are the same
    assert await room.store.get(Media, "lost") == lost
    caplog.clear()


async def test_space_is_counted_by_purpose(room: Room) -> None:
    await room.media("video", bytes=b"12345")
    await room.media("result", Purpose.RESULT, b"123", task_id="x")
    (room.folder / "incoming" / "upload").write_bytes(b"12")
    assert (await room.round(60.0)).used == {"video": 5, "result": 3, "posters": 22, "incoming": 2}


async def test_one_round_that_fails_is_not_the_last(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await room.media("video")
    monkeypatch.setattr(sweeping, "FIRST_S", 0.0)
    monkeypatch.setattr(sweeping, "EVERY_S", 0.001)
    failures: list[Exception] = [ValueError("a record that makes no sense"), Unavailable("the database is away")]
    page = room.store.page

    async def fail_first(*arguments: Any, **equal: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return await page(*arguments, **equal)

    monkeypatch.setattr(room.store, "page", fail_first)
    rounds = asyncio.create_task(room.sweeper.run())
    async with asyncio.timeout(10):
        while room.sweeper.report is None:
            await asyncio.sleep(0.001)
    rounds.cancel()
    assert caplog.text.count("sweep_failed") == 1 and not failures
    caplog.clear()


async def test_p12_a_round_without_a_database_is_put_off(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.media("video")
    before = room.left()
    room.store.away = True
    with pytest.raises(Unavailable):
        await room.round(90 * DAY_S)
    assert room.left() == before and room.sweeper.report is None
