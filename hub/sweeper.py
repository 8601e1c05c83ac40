"""Tidies the hub's folders: results that were kept long enough, what nobody took, and files that no record points at.

Owns the order in which it looks and removes, so that a crash at any point leaves no more than the next round finds.
What may go is decided in hub/retention; what lies on the disk is known by a `Space`. Records go first, their files
after them: a record without its file would be a promise broken, a file without a record is only waste.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog

from .account import User
from .effects import Delete, Effect, Publish, Save
from .errors import Conflict, HubError
from .media import Media
from .messages import UPDATED
from .ports import Clock, Files, Space, Store
from .retention import SHOWN, Found, Gone, Kind, Report, expired, leftovers, orphans
from .task import State, Task, drop_results
from .upload import State as Receiving, Upload

T = TypeVar("T", bound=Any)
log = structlog.get_logger(__name__)

FIRST_S, EVERY_S = 60.0, 3600.0  # seconds from the start to the first round, and between two
PAGE = 200
MOST = 10_000  # orphans that one round takes away; the next finds the others

Turns = Callable[[str], AbstractAsyncContextManager[Any]]  # one at a time for each content, by its sha256


class Sweeper:
    """Goes round. `commit` makes effects durable, `turns` keeps apart who records and who removes the same bytes.

    `keep_s` is for how long results are kept, 0 for ever; `notice` is told of each thing that goes, and its bytes.
    `report` is what the last round found, None before it.
    """

    def __init__(
        self, store: Store, files: Files, space: Space, clock: Clock, turns: Turns,
        commit: Callable[[Sequence[Effect]], Awaitable[None]], keep_s: float,
        notice: Callable[[str, int], None] = lambda what, size: None,
    ) -> None:
        self.store = store
        self.files = files
        self.space = space
        self.clock = clock
        self.turns = turns
        self.commit = commit
        self.keep_s = keep_s
        self.notice = notice
        self.report: Report | None = None

    async def run(self) -> None:
        """Go round every hour, as long as the hub lives."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                await self.sweep()
            except HubError as error:  # the database or the disk is away: the next round finds the same
                log.info("sweep_put_off", detail=str(error))
            except Exception:  # whatever it is, the next round may get further
                log.exception("sweep_failed")
            await asyncio.sleep(EVERY_S)

    async def sweep(self, dry: bool = False) -> Report:
        """One round; in a dry one nothing is changed.

        Raises:
            Unavailable: the database or the disk does not answer; what was done until then is done.
        """
        at = min(self.clock.wall(), self.clock.now())  # a wall clock that jumps, either way, makes nothing old
        report, told = Report(at, dry), set[str]()
        async for records in self.all(Media):
            await self.look_at_records(records, report, told)
        spare = await self.look_at_files(report)
        for each in spare if not report.refused else ():
            if dry or await self.remove(each):
                self.count(report.orphans, f"{each.kind} {each.path}", each.size)
        self.tell(report)
        self.report = report
        return report

    async def all(self, kind: type[T], **equal: Any) -> AsyncIterator[list[T]]:
        """All records of a kind, some at a time."""
        before: str | None = None
        while page := await self.store.page(kind, PAGE, before, **equal):
            yield page
            before = page[-1].id

    # --- records ------------------------------------------------------------------------------------------------

    async def look_at_records(self, records: list[Media], report: Report, told: set[str]) -> None:
        """Find those without a file; drop results that are old, and what no task has taken.

        `told` are the tasks whose results have gone: the records of one may be on two pages.
        """
        missing = await self.space.without_file(records)
        if missing:  # one that was deleted just now is none
            there = await self.store.present(Media, "id", [record.id for record in missing])
            missing = [record for record in missing if record.id in there]
        report.missing_count += len(missing)
        report.missing += missing[:SHOWN - len(report.missing)]
        ids = tuple({record.task_id for record in records if record.task_id is not None})
        tasks = {task.id: task for task in await self.store.page(Task, len(ids), id=ids)} if ids else {}
        for task in expired(tasks.values(), report.at, self.keep_s):
            if task.id not in told and (report.dry or await self.expire(task)):
                told.add(task.id)
                self.count(report.results, f"result of task {task.id}", sum(output.size for output in task.outputs))
        for record in leftovers(records, tasks, report.at):
            if not report.dry:
                await self.drop([record])
            self.count(report.leftovers, f"{record.purpose} {record.id}, which no task took", record.size)

    def count(self, gone: Gone, what: str, size: int) -> None:
        gone.add(size)
        self.notice(what, size)

    async def expire(self, task: Task) -> bool:
        """Have a task say that its results are gone, then drop them; False where somebody changed it just now."""
        after = drop_results(task, self.clock.now())
        try:
            await self.commit([Save(after, task.version), Publish(after, UPDATED)])
        except Conflict:
            return False
        await self.drop(await self.store.page(Media, PAGE, task_id=task.id))
        return True

    async def drop(self, records: list[Media]) -> None:
        """Forget records, then their bytes."""
        await self.commit([Delete(Media, record.id) for record in records])
        for record in records:
            await remove_bytes(self.store, self.files, self.turns, record)

    # --- files --------------------------------------------------------------------------------------------------

    async def look_at_files(self, report: Report) -> list[Found]:
        """Count everything; the files that no record points at."""
        used: Counter[str] = Counter()
        incoming: list[Found] = []  # an upload's files are judged together
        spare: list[Found] = []
        contents = known_contents = 0
        async for batch in self.space.batches():
            for each in batch:
                used[place_of(each)] += each.size
            incoming += [each for each in batch if each.kind is Kind.INCOMING]
            others = [each for each in batch if each.kind is not Kind.INCOMING]
            known = await self.known(others)
            contents += sum(each.kind is Kind.CONTENT for each in others)
            known_contents += sum(each.kind is Kind.CONTENT for each in known)
            spare += orphans(others, known, report.at)[:MOST - len(spare)]
        living = await self.store.present(Upload, "id", [each.key for each in incoming], state=Receiving.RECEIVING)
        spare += orphans(incoming, {each for each in incoming if each.key in living}, report.at)[:MOST]
        report.used = dict(used)
        report.refused = contents > 0 and known_contents == 0 and await self.strange(report)
        if any(each.kind is Kind.CONTENT for each in spare):
            needed = await self.needed()
            spare = [each for each in spare if each.key not in needed]
        return spare

    async def strange(self, report: Report) -> bool:
        """Whether a database that knows not one of the files is most likely not theirs: it is new, or has others."""
        return report.missing_count > 0 or await self.store.count(User) == 0

    async def known(self, found: list[Found]) -> set[Found]:
        """Those that some record points at."""
        known: set[Found] = set()
        for purposes in {each.purposes for each in found}:
            alike = [each for each in found if each.purposes == purposes]
            field, equal = ("sha256", {"purpose": purposes}) if purposes else ("id", {})
            keys = await self.store.present(Media, field, [each.key for each in alike], **equal)
            known |= {each for each in alike if each.key in keys}
        return known

    async def needed(self) -> set[str]:
        """What open tasks read, whatever became of the records."""
        needed: set[str] = set()
        async for tasks in self.all(Task, state=(State.WAITING, State.PROCESSING)):
            for task in tasks:
                needed |= {task.video.sha256, task.background.sha256 if task.background else ""}
        return needed

    async def remove(self, found: Found) -> bool:
        """Remove an orphan, if it still is one."""
        if found.kind is not Kind.CONTENT:
            return await self.space.remove(found)
        async with self.turns(found.key):
            return not await self.known([found]) and await self.space.remove(found)

    def tell(self, report: Report) -> None:
        """Log what an operator has to know."""
        if report.refused and not (self.report and self.report.refused):
            log.warning("sweep_refused", detail="the database knows none of the files: is it this hub's?")
        ids = [record.id for record in report.missing]
        if ids and (self.report is None or ids != [record.id for record in self.report.missing]):
            log.warning("records_without_file", count=report.missing_count, ids=ids[:10])
        if not report.dry:
            log.info(
                "swept", orphans=report.orphans.number, results=report.results.number,
                leftovers=report.leftovers.number, freed=report.freed,
            )


def place_of(found: Found) -> str:
    """Under which name the space of a file is counted."""
    if found.purposes:
        return found.purposes[0].value
    return "incoming" if found.kind is Kind.INCOMING else "posters"


async def remove_bytes(store: Store, files: Files, turns: Turns, record: Media) -> None:
    """Remove what a deleted record pointed at: its previews, and the content where no other record has the same."""
    await files.delete_previews(record.id)
    async with turns(record.sha256):
        if await store.count(Media, sha256=record.sha256, purpose=record.purpose) == 0:
            await files.delete(record.purpose, record.sha256)
