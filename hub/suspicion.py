"""Suspicion against workers: which tasks have failed on each of them since it last completed one.

Owns what a failure counts, and when there are enough of them. Never pauses anybody and never looks into a task.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from .task import LOST, Task

MILD = 3  # times as many mild failures are needed
KEPT = 100  # failures remembered of one worker


class Failure(Struct, frozen=True):
    """A task that failed on a worker with `code`.

    `cause` is what failures may have in common besides the worker: their owner, whose videos may all be broken. Once
    another worker has completed the task, it stands for itself. It is `mild` where the worker blames the input or
    would not begin: that may be true.
    """

    cause: str
    code: str
    mild: bool


class Record:
    """What has failed on one worker, by task, and how often for each cause: `plain` without the mild ones."""

    def __init__(self) -> None:
        self.failures: dict[str, Failure] = {}
        self.plain: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    def put(self, task_id: str, failure: Failure) -> None:
        """Remember a failure, instead of an earlier one of the same task."""
        self.drop(task_id)
        self.failures[task_id] = failure
        for causes in self.told_by(failure):
            causes[failure.cause] += 1
        if len(self.failures) > KEPT:
            self.drop(next(iter(self.failures)))

    def drop(self, task_id: str) -> None:
        """Forget a task, if it failed."""
        failure = self.failures.pop(task_id, None)
        if failure is not None:
            for causes in self.told_by(failure):
                causes[failure.cause] -= 1
                if not causes[failure.cause]:
                    del causes[failure.cause]

    def told_by(self, failure: Failure) -> list[Counter[str]]:
        """Where a failure counts."""
        return [self.all] if failure.mild else [self.all, self.plain]


class Suspicions:
    """What has failed on whom; `after` failures with different causes in a row are enough (0: never).

    So nobody can bring a worker down alone, whatever they upload. `lost` are the workers that have lost a task and
    have taken none since: what else they lose, they lose in the same silence.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.records: dict[str, Record] = {}
        self.lost: set[str] = set()

    def began(self, worker: str) -> None:
        """A worker has taken a task: it is back."""
        self.lost.discard(worker)

    def failed(self, worker: str, task: Task, code: str, mild: bool) -> bool:
        """A task has failed on a worker; whether that was one too many."""
        if not self.after:
            return False
        if code == LOST:
            if worker in self.lost:
                return False
            self.lost.add(worker)
        if worker not in self.records:
            self.records[worker] = Record()
        self.records[worker].put(task.id, Failure(task.owner, code, mild))
        return self.enough(worker)

    def completed(self, worker: str, task: Task) -> dict[str, str]:
        """A worker has completed a task, and is above suspicion; on whom it failed before is not.

        Returns the workers for whom that was one too many, each with its failure's code.
        """
        self.forget(worker)
        guilty = {}
        for other in {attempt.worker for attempt in task.attempts}:
            record = self.records.get(other)
            if record is not None and task.id in record.failures:
                code = record.failures[task.id].code
                record.put(task.id, Failure(task.id, code, False))
                if self.enough(other):
                    guilty[other] = code
        return guilty

    def enough(self, worker: str) -> bool:
        """Whether so much has failed on a worker that it should be paused."""
        record = self.records[worker]
        return len(record.plain) >= self.after or len(record.all) >= MILD * self.after

    def forget(self, worker: str) -> None:
        """Count from zero."""
        self.records.pop(worker, None)
