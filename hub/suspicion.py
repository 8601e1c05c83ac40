"""Suspicion against workers: which tasks have failed on each of them since it last completed one.

Owns what a failure counts, and when there are enough of them. Never pauses anybody and never looks into a task.
"""

from __future__ import annotations

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


class Suspicions:
    """What has failed on whom; `after` failures with different causes in a row are enough (0: never).

    So nobody can bring a worker down alone, whatever they upload. `lost` are the workers that have lost a task and
    have taken none since: what else they lose, they lose in the same silence.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.failures: dict[str, dict[str, Failure]] = {}
        self.lost: set[str] = set()

    def began(self, worker: str) -> None:
        """A worker has taken a task: it is back."""
        self.lost.discard(worker)

    def failed(self, worker: str, task: Task, code: str, mild: bool) -> bool:
        """A task has failed on a worker; whether that was one too many."""
        if code == LOST:
            if worker in self.lost:
                return False
            self.lost.add(worker)
        failures = self.failures.setdefault(worker, {})
        failures[task.id] = Failure(task.owner, code, mild)
        if len(failures) > KEPT:
            del failures[next(iter(failures))]
        return self.enough(worker)

    def completed(self, worker: str, task: Task) -> dict[str, str]:
        """A worker has completed a task, and is above suspicion; on whom it failed before is not.

        Returns the workers for whom that was one too many, each with its failure's code.
        """
        self.forget(worker)
        guilty = {}
        for other in {attempt.worker for attempt in task.attempts}:
            failures = self.failures.get(other, {})
            if task.id in failures:
                failure = failures[task.id] = Failure(task.id, failures[task.id].code, False)
                if self.enough(other):
                    guilty[other] = failure.code
        return guilty

    def enough(self, worker: str) -> bool:
        """Whether so much has failed on a worker that it should be paused."""
        failures = self.failures[worker].values()
        plain = {failure.cause for failure in failures if not failure.mild}
        return 0 < self.after and (
            len(plain) >= self.after or len({failure.cause for failure in failures}) >= MILD * self.after
        )

    def forget(self, worker: str) -> None:
        """Count from zero."""
        self.failures.pop(worker, None)
