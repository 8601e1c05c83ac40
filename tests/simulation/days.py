"""Many days, on all processors, and the story of one that went wrong."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context

from . import breakages
from .invariants import Broken
from .world import World


@dataclass(slots=True)
class Found:
    """What became of one day, or of many: `broken` says what did not hold, `seen` what happened how often."""

    seed: int
    steps: int = 0
    seconds: float = 0.0
    broken: str = ""
    story: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    days: int = 1
    day_steps: int = 0
    breakage: str = ""


def run_day(seed: int, steps: int, telling: bool = False, breakage: str = "") -> Found:
    """One day. The same seed, steps and breakage are the same day."""
    world = World(seed, telling)
    broken = ""
    try:
        with breakages.broken(breakage):
            world.run(steps)
    except Broken as error:
        broken = str(error)
    return Found(seed, world.steps, world.now, broken, list(world.story), world.seen, 1, steps, breakage)


def run_some(job: tuple[int, int, int, str]) -> list[Found]:
    """Days first..last-1."""
    first, last, steps, breakage = job
    return [run_day(seed, steps, breakage=breakage) for seed in range(first, last)]


def run_many(
    first: int, schedules: int, steps: int, processes: int, total_steps: int | None, broken: list[Found], keep_going: bool,
    breakage: str = "", within: float = math.inf,
) -> Found:
    """Days from `first` on: `schedules`, or as many as make `total_steps`, or as there is time for `within` seconds.

    Broken ones are added to `broken`.
    """
    total = Found(first, days=0, day_steps=steps)
    ends = time.monotonic() + within
    chunk = 10
    last = first + schedules if total_steps is None else first + 100_000_000
    jobs = ((at, min(at + chunk, last), steps, breakage) for at in range(first, last, chunk))
    with get_context("fork").Pool(processes) as pool:
        for days in pool.imap_unordered(run_some, jobs):
            for day in days:
                total.days += 1
                total.steps += day.steps
                total.seconds += day.seconds
                total.seen += day.seen
                if day.broken:
                    broken.append(day)
            enough = total_steps is not None and total.steps >= total_steps or time.monotonic() > ends
            if enough or broken and not keep_going:
                pool.terminate()
                break
    broken.sort(key=lambda day: day.seed)
    return total


def told(found: Found, lines: int = 60) -> str:
    """The end of a broken day's story, and how to see it again."""
    story = run_day(found.seed, found.day_steps, telling=True, breakage=found.breakage).story[-lines:]
    again = f"python -m tests.simulation --seed {found.seed} --steps {found.day_steps}"
    again += f" --breakage {found.breakage}" if found.breakage else ""
    return "\n".join([*story, "", f"broken: {found.broken}", f"again:  {again}"])
