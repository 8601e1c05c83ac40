"""What a seed stands for: which rules, workers, users and faults a day has.

Each day has some faults only, drawn by chance: what hides behind one fault is seen where that fault is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from hub.media import Facts
from hub.rules import Rules

T = TypeVar("T")

MANNERS = (
    "slow",  # its work takes long
    "stubborn",  # does not stop when it should
    "picky",  # declines now and then
    "mute",  # lets offers pass
    "careless",  # sends results that are not what they should be, or fails
    "refusing",  # takes a task and then will not begin
    "hanging",  # its work stands still for ever, while it keeps saying that it is alive
    "lying",  # reports what is not so
    "leaving",  # says drain or bye
)
FAULTS = (
    "cuts",  # connections break, on one side or both
    "batons",  # a worker connects twice
    "slow_network",  # messages take seconds
    "echoes",  # messages come a second time, behind others
    "lost_requests",  # HTTP requests and answers vanish, or come twice
    "hub_crashes", "hub_pauses", "hub_restarts",
    "worker_crashes", "worker_pauses",
    "commit_failures",  # before doing, in part, or done and told failed
    "store_pauses", "store_crashes",
    "late_writes",  # what a dead hub had asked for is written when the next one has begun
    "clock_jumps",
    "admins",  # pause, drain, disable, remove, requeue
    "poison",  # inputs that end the worker that opens them
)

MOST_PIXELS = 640 * 360  # that a small worker takes


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One interface service; it takes every offer without a look at its own slots where it is `trusting`.

    Its models take pictures of up to `max_pixels`; 0 is no limit.
    """

    name: str
    slots: int
    models: tuple[str, ...]
    manners: frozenset[str]
    trusting: bool
    polls: bool
    max_pixels: int

    def takes(self, facts: Facts) -> bool:
        return not self.max_pixels or facts.width * facts.height <= self.max_pixels


@dataclass(frozen=True, slots=True)
class Plan:
    """One day; `tasks` is how many are made at most, `poison` the share of them that end workers."""

    rules: Rules
    models: tuple[str, ...]
    workers: tuple[WorkerPlan, ...]
    users: int
    tasks: int
    faults: frozenset[str]


def some(random: Random, all: Sequence[T], most: int) -> list[T]:
    """Up to `most` of `all`, in their order."""
    chosen = set(random.sample(range(len(all)), random.randint(0, most)))
    return [item for place, item in enumerate(all) if place in chosen]


def draw(random: Random) -> Plan:
    """A day by chance. All times are short against the real ones, and stand in the same relations."""
    rules = Rules(
        lease_s=random.choice((4.0, 8.0)), renew_s=2.0, heartbeat_s=3.0, offer_s=1.5, stop_s=2.0,
        stall_s=random.choice((6.0, 14.0)), max_attempts=random.choice((1, 2, 3, 3, 4)),
        backoff_s=(0.5, 1.5, 3.0), quarantine_workers=2, suspect_after=random.choice((0, 2, 5)),
        user_cap=random.choice((0, 0, 0, 1, 2)), save_every_s=1.0, publish_every_s=0.25, pause_s=2.5,
    )
    models = ("m", "n")[:random.choice((1, 1, 2))]
    workers = tuple(
        WorkerPlan(
            f"w{number}", random.choice((1, 1, 2, 3)), tuple(some(random, models, len(models))) or models[:1],
            frozenset(some(random, MANNERS, 3)) if random.random() < 0.7 else frozenset(),
            random.random() < 0.5, random.random() < 0.25, random.choice((0, 0, MOST_PIXELS)),
        )
        for number in range(1, random.randint(1, 4) + 1)
    )
    faults = frozenset(some(random, FAULTS, len(FAULTS))) if random.random() < 0.9 else frozenset(FAULTS)
    return Plan(rules, models, workers, random.randint(1, 3), random.randint(2, 9), faults)
