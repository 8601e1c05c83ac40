"""Run simulated days: one by its seed, with its story, or as many as you like.

    python -m tests.simulation --seed 12345 --steps 400
    python -m tests.simulation --schedules 10000 --processes 2
    python -m tests.simulation --total-steps 1000000
    python -m tests.simulation --breakages
    python -m tests.simulation --breakage no-fence
"""

from __future__ import annotations

import sys
import time

import click

from . import breakages
from .days import Found, run_day, run_many, told


def list_breakages(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(breakages.explained())
        context.exit()


@click.command()
@click.option("--seed", type=int, help="Run this one day and tell its story.")
@click.option("--steps", default=500, show_default=True, help="Steps of a day, before its evening.")
@click.option("--schedules", default=1000, show_default=True, help="How many days to run.")
@click.option("--first", default=1, show_default=True, help="The first day's seed.")
@click.option("--processes", default=2, show_default=True)
@click.option("--total-steps", type=int, help="Run days until so many steps are done.")
@click.option("--within", default=3600.0, show_default=True, help="Begin no more days after so many seconds.")
@click.option("--lines", default=80, show_default=True, help="Last lines of a story to print.")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first day that breaks a promise.")
@click.option("--seen", is_flag=True, help="Print how often everything happened.")
@click.option("--breakage", type=click.Choice(list(breakages.BREAKAGES)), default=None, help="Break one rule of the hub first.")
@click.option("--breakages", is_flag=True, is_eager=True, callback=list_breakages, expose_value=False, help="List what can be broken.")
def main(
    seed: int | None, steps: int, schedules: int, first: int, processes: int, total_steps: int | None, within: float,
    lines: int, keep_going: bool, seen: bool, breakage: str | None,
) -> None:
    """Simulated days."""
    if seed is not None:
        day = run_day(seed, steps, telling=True, breakage=breakage or "")
        print("\n".join(day.story[-lines:]))
        print(f"\nseed {seed}: {day.steps} steps, {day.seconds:.0f} simulated seconds: {day.broken or 'everything held'}")
        sys.exit(1 if day.broken else 0)
    began = time.monotonic()
    broken: list[Found] = []
    total = run_many(first, schedules, steps, processes, total_steps, broken, keep_going, breakage or "", within)
    took = time.monotonic() - began
    print(
        f"{total.days} days, {total.steps} steps, {total.seconds:.0f} simulated seconds in {took:.1f} s "
        f"({60 * total.days / took:.0f} days a minute): {len(broken)} broken"
    )
    if seen:
        for name, times in sorted(total.seen.items()):
            print(f"  {times:8}  {name}")
    for found in broken[:20]:
        print(f"\nseed {found.seed}: {found.broken}")
    if broken:
        print("\n" + told(broken[0], lines))
        sys.exit(1)


if __name__ == "__main__":
    main()
