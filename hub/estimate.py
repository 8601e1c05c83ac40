"""How long work takes, learned from the work that was done.

Owns seconds per megapixel-frame for each model, and for each worker with that model. Never guesses: without a
finished task of a model there is no estimate of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from msgspec import Struct

from .media import Facts
from .task import State, Task

KEPT = 64  # last tasks that an estimate looks at
PAIRS = 10_000  # (model, worker) pairs remembered; the longest unused are forgotten first


class Span(Struct, frozen=True):
    """A time in seconds: half of the cases take at most `p50`, nine out of ten at most `p90`."""

    p50: float
    p90: float

    def __add__(self, other: Span) -> Span:
        return Span(self.p50 + other.p50, self.p90 + other.p90)

    def scaled(self, factor: float) -> Span:
        return Span(self.p50 * factor, self.p90 * factor)


def size_of(facts: Facts) -> float:
    """How much work a video is, in megapixel-frames."""
    return facts.frames * facts.width * facts.height / 1e6


class Estimates:
    """Rates of the last tasks, by model, and by model and worker."""

    def __init__(self) -> None:
        self.rates: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self.known: dict[tuple[str, str], Span] = {}

    def learn(self, model: str, worker: str, facts: Facts, seconds: float) -> None:
        """A worker has finished a video in so many seconds."""
        work = size_of(facts)
        if work > 0 and seconds > 0:
            for pair in ((model, worker), (model, "")):
                rates = self.rates.setdefault(pair, deque(maxlen=KEPT))
                rates.append(seconds / work)
                self.rates.move_to_end(pair)
                self.known.pop(pair, None)
            while len(self.rates) > PAIRS:
                pair, _ = self.rates.popitem(last=False)
                self.known.pop(pair, None)

    def recall(self, ended: Iterable[Task]) -> None:
        """Learn from tasks that ended before this process began, oldest first.

        Only those that were completed at the first attempt tell how long the work takes: others waited in between.
        """
        for task in ended:
            tells = task.state is State.COMPLETED and task.attempt == 1
            if tells and task.worker and task.started_at and task.ended_at:
                self.learn(task.model, task.worker, task.video.facts, task.ended_at - task.started_at)

    def rate(self, model: str, worker: str = "") -> Span | None:
        """Seconds per megapixel-frame of a model, on one worker or on any; None while nobody has finished one."""
        pair = (model, worker) if (model, worker) in self.rates else (model, "")
        if pair not in self.known and pair in self.rates:
            ordered = sorted(self.rates[pair])
            middle, high = len(ordered) // 2, min(len(ordered) - 1, len(ordered) * 9 // 10)
            self.known[pair] = Span(ordered[middle], ordered[high])
        return self.known.get(pair)

    def span(self, model: str, facts: Facts, worker: str = "") -> Span | None:
        """How long a video will take."""
        rate = self.rate(model, worker)
        return None if rate is None else rate.scaled(size_of(facts))
