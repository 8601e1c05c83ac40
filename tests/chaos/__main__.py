"""Run rounds of chaos: all of a seed, or one of them again.

    python -m tests.chaos --rounds 30 --tasks 200
    python -m tests.chaos --seed 12345 --only 7

Each round prints a line; the last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from tests.odd_media import write_clip

from .processes import adopt_orphans
from .round import Outcome, Round


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--tasks", default=200, show_default=True, help="Tasks in a round.")
@click.option("--faults", default=12, show_default=True, help="Faults in a round.")
@click.option("--seed", type=int, help="What the rounds are drawn from; by chance if not given, and printed.")
@click.option("--only", type=int, help="Run this one round of the seed.")
@click.option("--verbose", is_flag=True, help="Tell each round's story while it happens.")
def main(rounds: int, tasks: int, faults: int, seed: int | None, only: int | None, verbose: bool) -> None:
    """Kill, stop and cut off real processes while tasks flow, and see whether every promise holds."""
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it cleans up, also where a shell ignores it for us
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    clip = place / "clip.mp4"
    write_clip(clip, size=(64, 64), frames=3)
    numbers = range(1, rounds + 1) if only is None else [only]
    print(f"seed {seed}: {len(numbers)} rounds of {tasks} tasks and {faults} faults", flush=True)
    began, outcomes = time.monotonic(), []
    for number in numbers:
        folder = place / f"{number}"
        folder.mkdir()
        story: list[str] = []

        def say(line: str) -> None:
            story.append(line)
            if verbose:
                print(line, flush=True)

        outcome = asyncio.run(Round(seed, number, tasks, faults, folder, say).run(clip.read_bytes()))
        outcomes.append(outcome)
        print(line_of(outcome), flush=True)
        if not outcome.broken:
            shutil.rmtree(folder)
            continue
        (folder / "story.txt").write_text("\n".join([*story, *outcome.broken]) + "\n")
        print("\n".join(["  " + line for line in outcome.broken[:20]]))
        print(f"  logs and story: {folder}\n  again: python -m tests.chaos --seed {seed} --tasks {tasks} "
              f"--faults {faults} --only {number} --verbose", flush=True)
    broken = [outcome.number for outcome in outcomes if outcome.broken]
    print(json.dumps({
        "chaos": {"seed": seed, "rounds": len(outcomes), "tasks": tasks * len(outcomes), "broken": broken,
                  "minutes": round((time.monotonic() - began) / 60, 1)},
        "faults": total(outcome.struck for outcome in outcomes),
        "ended": total(outcome.states for outcome in outcomes),
        "seen": total(outcome.seen for outcome in outcomes),
    }))
    if broken:
        sys.exit(1)
    shutil.rmtree(place)


def total(counts: object) -> dict[str, int]:
    return dict(sorted(sum(counts, Counter()).items()))  # type: ignore[call-overload]


def line_of(outcome: Outcome) -> str:
    """One round in one line."""
    ends, faults = (", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
                    for counts in (outcome.states, outcome.struck))
    verdict = "BROKEN" if outcome.broken else "held"
    return f"round {outcome.number}: {verdict} in {outcome.seconds:.0f} s; {ends}; {faults}"


if __name__ == "__main__":
    main()
