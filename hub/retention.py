"""What may go and what must stay: decided over lists of what lies on the disk and of what the records say.

Owns the ages. Never looks at a disk or a database, and never removes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from .media import Media, Purpose
from .task import Task

HOUR_S, DAY_S = 3600.0, 24 * 3600.0
YOUNG_S = HOUR_S  # a file that was changed within the last hour may be in the making: its record comes later
RESTING_S = 25 * HOUR_S  # an unfinished upload may rest for a day before it goes on
SHOWN = 100  # records without a file that a report names


class Kind(StrEnum):
    """What a file is to the hub."""

    CONTENT = "content"
    POSTER = "poster"
    INCOMING = "incoming"
    PART = "part"  # half of something that is written anew, never continued


class Found(Struct, frozen=True):
    """One of the hub's own files on the disk.

    `key` is the sha256 of a content, the media's id of a poster, the upload's id of what is coming in; `purposes` are
    those whose contents are kept in this folder; `changed_at` is the wall clock's time, `size` bytes.
    """

    kind: Kind
    key: str
    path: str
    size: int
    changed_at: float
    purposes: tuple[Purpose, ...] = ()


class Gone(Struct):
    """How many things went (or would go, in a dry round), and their bytes."""

    number: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        self.number += 1
        self.size += size


class Report(Struct):
    """One round of tidying: what there is, and what went. Sizes are bytes.

    `used` is by purpose, and by "posters" and "incoming"; `orphans` are files that no record points at, `results`
    those of tasks that were kept long enough, `leftovers` what workers sent and no task took. `missing` names records
    whose file is not there, `missing_count` is how many there are. `refused` says that the records know not a single
    content of those on the disk, and this looks like another hub's database: no file was touched.
    """

    at: float
    dry: bool = False
    used: dict[str, int] = field(default_factory=dict)
    orphans: Gone = field(default_factory=Gone)
    results: Gone = field(default_factory=Gone)
    leftovers: Gone = field(default_factory=Gone)
    missing: list[Media] = field(default_factory=list)
    missing_count: int = 0
    refused: bool = False

    @property
    def freed(self) -> int:
        """Bytes that went; less where equal files share their bytes."""
        return self.orphans.size + self.results.size + self.leftovers.size


def orphans(found: Iterable[Found], known: Collection[Found], wall: float) -> list[Found]:
    """The files without a record that are too old to be in the making.

    `known` are those that a record points at. Of an upload that is coming in, which may have
    several files, the one changed last counts for all.
    """
    listed = list(found)
    touched: dict[str, float] = {}
    for each in listed:
        if each.kind is Kind.INCOMING:
            touched[each.key] = max(each.changed_at, touched.get(each.key, 0.0))
    gone = []
    for each in listed:
        if each.kind is Kind.INCOMING:
            old = touched[each.key] + RESTING_S <= wall
        else:
            old = each.changed_at + YOUNG_S <= wall
        if old and (each.kind is Kind.PART or each not in known):
            gone.append(each)
    return gone


def expired(tasks: Iterable[Task], wall: float, keep_s: float) -> list[Task]:
    """The ended tasks whose results were kept for long enough; `keep_s` of 0 keeps them for ever."""
    return [
        task for task in tasks
        if keep_s and task.outputs and task.results_gone_at is None
        and task.ended_at is not None and task.ended_at + keep_s <= wall
    ]


def leftovers(records: Iterable[Media], tasks: Mapping[str, Task], wall: float) -> list[Media]:
    """What workers sent a day ago and no task has taken, of tasks that have ended or are gone.

    `tasks` are those that the records name, by id. An open task keeps everything: a result may be on its way.
    """
    spare = []
    for record in records:
        if record.task_id is None or record.created_at + DAY_S > wall:
            continue
        task = tasks.get(record.task_id)
        if task is None or task.state.ended and not taken(task, record):
            spare.append(record)
    return spare


def taken(task: Task, record: Media) -> bool:
    """Whether a record is one of a task's results that are still kept."""
    return task.results_gone_at is None and any(output.media_id == record.id for output in task.outputs)
