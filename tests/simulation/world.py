"""One simulated day: everything that lives in it, what chance does to it, and how it is brought to a quiet end.

Owns the seed's dice, the clocks, and the story of what happened. Whether it was right is told by `invariants`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

from hub.interface import Interface

from .disk import Disk
from .hub import SimulatedHub
from .invariants import Broken, Watch
from .kernel import Kernel, Life, Loop
from .nemesis import Nemesis
from .network import Network
from .plan import Plan, draw
from .users import User
from .workers import Worker

MORNING = 1_700_000_000.0  # the wall clock when a simulation begins
TOLD = 400  # last lines of the story that are kept
TICK_S = 0.5
AVOID_S, LONGEST_REFUSAL_S = 10.0, 6.0
LOOK_AGAIN_S = 12.0  # no write of a dead hub comes later
HISTORY = 40  # events that a topic keeps, so few that viewers do miss some


class Log:
    """What hub code logs: a warning that is not the expected one breaks the day."""

    def __init__(self, world: World) -> None:
        self.world = world

    def info(self, event: str, **facts: Any) -> None:
        self.world.seen[event] += 1

    def warning(self, event: str, **facts: Any) -> None:
        self.world.seen[event] += 1
        self.world.watch.heard_warning(event, facts)

    error = exception = warning


class World:
    """All that there is. `calm` is set once nothing bad happens by itself any more."""

    def __init__(self, seed: int, telling: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.plan: Plan = draw(self.random)
        self.telling = telling
        self.story: deque[str] = deque(maxlen=TOLD)
        self.seen: Counter[str] = Counter()
        self.kernel = Kernel()
        self.loop = Loop(self.kernel)
        self.numbers = count(1)
        self.calm = False
        self.wall_offset = 0.0
        self.steps = 0
        self.watch = Watch(self)
        self.disk = Disk(self)
        self.network = Network(self)
        self.hub: SimulatedHub | None = None
        self.hub_number = 0
        self.plans = {plan.name: plan for plan in self.plan.workers}
        self.workers = [Worker(self, plan) for plan in self.plan.workers]
        self.users = [User(self, f"u{number}") for number in range(1, self.plan.users + 1)]
        self.tasks_left = self.plan.tasks
        self.nemesis = Nemesis(self)

    # --- what everybody asks ------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.kernel.now

    def new_id(self) -> str:
        """Ids in the order of their making."""
        return f"id-{next(self.numbers):06}"

    def fault(self, name: str) -> bool:
        """Whether this fault may happen today, and still."""
        return not self.calm and name in self.plan.faults

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def tell(self, text: str, *facts: object) -> None:
        """A line of the story, by whoever acts now."""
        if self.telling:
            self.story.append(f"{self.now:9.3f}  {self.kernel.life.name:<8} {text % facts if facts else text}")

    # --- the day ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        for plan in self.plan.workers:
            self.disk.remember(Interface(plan.name, f"token of {plan.name}", 0.0))
        self.start_hub()
        for worker in self.workers:
            self.kernel.after(self.random.random(), worker.start)
        for user in self.users:
            user.begin()
        self.nemesis.begin()

    def start_hub(self) -> None:
        """A new process of the hub, with nothing but what the disk has."""
        assert self.hub is None
        self.hub_number += 1
        self.watch.hub_begins()
        self.hub = SimulatedHub(self, Life(f"hub.{self.hub_number}"))
        self.kernel.start(self.hub.come_up(), self.hub.life)

    def end_hub(self, back_in: float) -> None:
        """The hub's process is gone, with all that it knew."""
        if self.hub is not None:
            self.hub.life.alive = False
            self.network.hub_gone(self.hub)
            for user in self.users:
                user.viewer.hub_gone()
            self.hub = None
            self.kernel.after(back_in, self.start_hub, self.kernel.world)

    def step(self) -> None:
        """The next thing happens, and everything that must hold is looked at.

        Raises:
            Broken: it does not hold.
        """
        life = self.kernel.step()
        self.steps += 1
        hub = self.hub
        if hub is not None and life is hub.life and hub.ready:
            self.watch.look_at(hub)
        if self.watch.broken is not None:
            raise self.watch.broken

    def run(self, steps: int) -> None:
        """A bad day of so many steps, then a quiet evening until everything is done.

        Raises:
            Broken: something that must hold does not.
        """
        with simulated(self):
            try:
                self.begin()
                for _ in range(steps):
                    self.step()
                self.settle()
            except Broken:
                raise
            except Exception as error:
                raise Broken(f"{type(error).__name__}: {error}") from error
            finally:
                self.kernel.close()

    def settle(self) -> None:
        """Nothing bad happens any more: within a bounded time every task that can be done is done."""
        self.tell("*** the day is over, nothing bad happens any more")
        self.calm = True
        self.nemesis.make_peace()
        until = self.now + self.patience
        while not self.watch.at_rest():
            self.step()
            if self.now > until:
                self.watch.complain_of_unrest()
        self.watch.look_back()

    @property
    def patience(self) -> float:
        """Seconds within which a quiet world comes to rest: each task may need all its attempts, one after the other."""
        rules = self.plan.rules
        attempt = max(rules.lease_s, rules.stall_s) + max(rules.backoff_s) * (1 + rules.jitter) + rules.stop_s
        return 30.0 + self.plan.tasks * (rules.max_attempts + 1) * (attempt + 10.0)


@contextmanager
def simulated(world: World) -> Iterator[None]:
    """The hub's code in this world: its loop is ours, its log is heard."""
    log = Log(world)
    with (
        patch("hub.runner.asyncio", world.loop), patch("hub.runner.log", log), patch("hub.runner.TICK_S", TICK_S),
        patch("hub.verify.asyncio", world.loop), patch("hub.verify.log", log),
        patch("hub.elsewhere.asyncio", world.loop), patch("hub.elsewhere.log", log),
        patch("hub.elsewhere.LOOK_AGAIN_S", LOOK_AGAIN_S), patch("hub.dispatcher.AVOID_S", AVOID_S),
        patch("hub.workload.LONGEST_REFUSAL_S", LONGEST_REFUSAL_S),
        patch("handlers.registry.asyncio", world.loop), patch("handlers.registry.log", log),
        patch("handlers.worker_line.log", log), patch("hub.topics.HISTORY", HISTORY),
    ):
        yield
