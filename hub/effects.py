"""What a decision wants done, as plain values; the runner does it, a test compares it with ==."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct

from .messages import Artifact, Message
from .task import Task


class Outcome(Enum):
    """What became of one change.

    DONE: made durable. MISSED: its guard did not hold, since somebody else was first. TAKEN: so is a unique value.
    IMPOSSIBLE: the store can never take it.
    """

    DONE = "done"
    MISSED = "missed"
    TAKEN = "taken"
    IMPOSSIBLE = "impossible"


class Save(Struct, frozen=True):
    """Make `record` durable, if the stored version is still `previous` (0: if there is none)."""

    record: Any
    previous: int


class Delete(Struct, frozen=True):
    """Forget the record of this kind and id, if its stored version is still `previous` (0: whatever it is)."""

    kind: type[Any]
    id: str
    previous: int = 0


class Send(Struct, frozen=True):
    """Give `message` to the worker session `session`, in order."""

    session: str
    message: Message


class Publish(Struct, frozen=True):
    """Tell everybody who watches `task` that `type` happened to it."""

    task: Task
    type: str


class Verify(Struct, frozen=True):
    """Look into the files that a worker sent for `lease`, compare them with `task`'s source, and report back."""

    task: Task
    lease: str
    artifacts: tuple[Artifact, ...]


class Close(Struct, frozen=True):
    """End a worker session's connection; a `code` from 4400 to 4499 means: do not come back as you are."""

    session: str
    code: int
    reason: str


Effect = Save | Delete | Send | Publish | Verify | Close
