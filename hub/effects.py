"""What a decision wants done, as plain values; the runner does it, a test compares it with ==."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from .messages import Artifact, Message
from .task import Task


class Outcome(Enum):
    """What became of one change: made durable, guard missed (someone else was first), or a unique value is taken."""

    DONE = "done"
    MISSED = "missed"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Save:
    """Make `record` durable, if the stored version is still `previous` (0: if there is none)."""

    record: Any
    previous: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget the record of this kind and id."""

    kind: type[Any]
    id: str


@dataclass(frozen=True, slots=True)
class Send:
    """Give `message` to the worker session `session`, in order."""

    session: str
    message: Message


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell everybody who watches `task` that `type` happened to it."""

    task: Task
    type: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Look into the files that a worker sent for `lease`, compare them with `task`'s source, and report back."""

    task: Task
    lease: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """End a worker session's connection; a `code` from 4400 to 4499 means: do not come back as you are."""

    session: str
    code: int
    reason: str


Effect = Save | Delete | Send | Publish | Verify | Close
