"""The task machine: all that can happen to a task, and who may make it happen.

Whatever moves a task's state lives in this one file, as one function per move. A move takes the task and `now`
(seconds), and returns the task after it; it raises `IllegalMove` where TRANSITIONS has no such arrow and
`LeaseLost` where the caller does not hold the task's current lease. Nothing here stores, sends or reads a clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from .errors import Conflict
from .media import Facts

LOST, STALLED, QUARANTINED = "worker_lost", "stalled", "quarantined"  # codes of problems that only the hub finds
PHASES = ("fetch", "segment", "composite", "encode", "upload")


class State(StrEnum):
    """Where a task is in its life.

    waiting: accepted and durable, nobody works on it; entered at creation, or again when an attempt was lost.
    processing: one worker holds its lease; left by a verified result, a failure, a cancel or a lost lease.
    completed, failed, cancelled: ended for good; only its owner's explicit retry makes it wait again.
    """

    WAITING = "waiting"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in ENDED


class Move(StrEnum):
    """What happened, in the past tense."""

    ASSIGNED = "assigned"
    PROGRESSED = "progressed"
    RENEWED = "renewed"
    RELEASED = "released"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"


ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
TRANSITIONS: dict[State, dict[Move, State]] = {
    State.WAITING: {
        Move.ASSIGNED: State.PROCESSING,
        Move.FAILED: State.FAILED,
        Move.CANCELLED: State.CANCELLED,
    },
    State.PROCESSING: {
        Move.PROGRESSED: State.PROCESSING,
        Move.RENEWED: State.PROCESSING,
        Move.RELEASED: State.WAITING,
        Move.COMPLETED: State.COMPLETED,
        Move.FAILED: State.FAILED,
        Move.CANCELLED: State.CANCELLED,
    },
    State.COMPLETED: {},
    State.FAILED: {Move.RETRIED: State.WAITING},
    State.CANCELLED: {Move.RETRIED: State.WAITING},
}


class IllegalMove(Conflict):
    """The task's state has no such arrow; the code says which state it is in."""

    code = "illegal_move"


class LeaseLost(Conflict):
    """The report carries a lease that is not the task's current one; it changed nothing."""

    code = "lease_lost"


class Lease(Struct, frozen=True):
    """The right to work on one task: held by `worker`, ends at `expires_at` (seconds) unless renewed."""

    id: str
    worker: str
    expires_at: float


class Problem(Struct, frozen=True):
    """Why a task failed: `code` is stable, `detail` is for people."""

    code: str
    detail: str


class Output(Struct, frozen=True):
    """One accepted file of a task, as its media record id and what users need to trust it."""

    media_id: str
    purpose: str
    name: str
    size: int
    sha256: str
    frames: int


class Source(Struct, frozen=True):
    """An input as it was when the task was created, so that no move needs to look it up."""

    media_id: str
    name: str
    size: int
    sha256: str
    content_type: str
    facts: Facts


class Attempt(Struct, frozen=True):
    """Evidence of one attempt that did not complete, or was not even begun: then the next has the same number."""

    number: int
    worker: str
    code: str
    detail: str
    ended_at: float


class Task(Struct, frozen=True):
    """One user's order: this video, that background, this model.

    Times are seconds since the epoch, `progress` 0..100, `attempt` counts assignments from 1, `version` grows by
    one with every change, `not_before` is when a released task may be offered again, `results_gone_at` when the files
    behind `outputs` were removed because of their age. `request_key` and `request_hash` are the Idempotency-Key that
    created it and the hash of that request's body. `weight` is the owner's when it was ordered.
    """

    id: str
    owner: str
    model: str
    video: Source
    background: Source | None
    created_at: float
    options: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    weight: int = 1
    state: State = State.WAITING
    phase: str | None = None
    progress: float = 0.0
    message: str = ""
    attempt: int = 0
    lease: Lease | None = None
    worker: str | None = None
    outputs: tuple[Output, ...] = ()
    results_gone_at: float | None = None
    problem: Problem | None = None
    attempts: tuple[Attempt, ...] = ()
    not_before: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    updated_at: float = 0.0
    request_key: str | None = None
    request_hash: str | None = None
    version: int = 1


def advance(task: Task, move: Move, now: float, **changes: Any) -> Task:
    """The task after a legal move, one version on.

    Raises:
        IllegalMove: the state has no such arrow.
    """
    after = TRANSITIONS[task.state].get(move)
    if after is None:
        raise IllegalMove(f"a task that is {task.state} cannot be {move}", code=f"task_{task.state}")
    return replace(task, state=after, updated_at=now, version=task.version + 1, **changes)


def held(task: Task, lease_id: str) -> Lease:
    """The task's lease, if `lease_id` is it.

    Raises:
        LeaseLost: the task runs under another lease, or under none.
    """
    if task.lease is None or task.lease.id != lease_id:
        raise LeaseLost(f"lease {lease_id} is not the current lease of task {task.id}")
    return task.lease


def assign(task: Task, lease: Lease, now: float) -> Task:
    """A worker takes the task: a new lease, a new attempt, progress from zero."""
    return advance(
        task, Move.ASSIGNED, now, lease=lease, worker=lease.worker, attempt=task.attempt + 1, phase="fetch",
        progress=0.0, message="", problem=None, not_before=0.0, started_at=task.started_at or now,
    )


def progress(task: Task, lease_id: str, phase: str, percent: float, message: str, now: float) -> Task:
    """The holder tells how far it is; within an attempt progress never goes back."""
    held(task, lease_id)
    return advance(
        task, Move.PROGRESSED, now, phase=phase if phase in PHASES else task.phase,
        progress=max(task.progress, percent), message=message,
    )


def renew(task: Task, lease_id: str, expires_at: float, now: float) -> Task:
    """The holder is alive: its lease lasts until `expires_at`, never shorter than it already does."""
    lease = held(task, lease_id)
    return advance(task, Move.RENEWED, now, lease=replace(lease, expires_at=max(lease.expires_at, expires_at)))


def release(task: Task, lease_id: str, code: str, detail: str, not_before: float, now: float) -> Task:
    """The attempt is over without a result and another may follow, not earlier than `not_before`."""
    held(task, lease_id)
    return advance(
        task, Move.RELEASED, now, lease=None, worker=None, phase=None, progress=0.0, message="",
        not_before=not_before, attempts=task.attempts + (evidence(task, code, detail, now),),
    )


def give_back(task: Task, lease_id: str, now: float) -> Task:
    """The holder would not begin: the task waits as if it had never been assigned, and the attempt does not count."""
    held(task, lease_id)
    return advance(
        task, Move.RELEASED, now, lease=None, worker=None, phase=None, progress=0.0, message="",
        attempt=task.attempt - 1, started_at=task.started_at if task.attempt > 1 else None,
    )


def refuse(task: Task, lease_id: str, code: str, detail: str, now: float) -> Task:
    """The holder says that it will not begin: the same, but who said it is remembered."""
    after = give_back(task, lease_id, now)
    return replace(after, attempts=task.attempts + (evidence(task, code, detail, now),))


def complete(task: Task, lease_id: str, outputs: tuple[Output, ...], now: float) -> Task:
    """The holder's result was verified: the end."""
    held(task, lease_id)
    return advance(
        task, Move.COMPLETED, now, lease=None, phase=None, progress=100.0, message="", outputs=outputs, ended_at=now,
    )


def fail(task: Task, problem: Problem, now: float) -> Task:
    """The task cannot be done: the end, with the reason; a running attempt's evidence is kept."""
    attempts = task.attempts
    if task.lease is not None:
        attempts += (evidence(task, problem.code, problem.detail, now),)
    return advance(
        task, Move.FAILED, now, lease=None, phase=None, problem=problem, attempts=attempts, ended_at=now,
    )


def cancel(task: Task, now: float) -> Task:
    """The owner does not want it any more: the end, whoever works on it."""
    return advance(task, Move.CANCELLED, now, lease=None, phase=None, message="", ended_at=now)


def retry(task: Task, now: float) -> Task:
    """The owner wants an ended task done after all: it waits again, its attempts counted from zero."""
    return advance(
        task, Move.RETRIED, now, attempt=0, worker=None, progress=0.0, message="", problem=None, outputs=(),
        attempts=(), not_before=0.0, started_at=None, ended_at=None,
    )


def drop_results(task: Task, now: float) -> Task:
    """The files of a completed task were kept for long enough: what they were is still known."""
    return replace(task, results_gone_at=now, updated_at=now, version=task.version + 1)


def evidence(task: Task, code: str, detail: str, now: float) -> Attempt:
    """What is kept of the attempt that runs now."""
    return Attempt(task.attempt, task.worker or "", code, detail, now)
