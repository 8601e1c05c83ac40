"""What makes a day bad: each fault as a small duty that strikes now and then, and peace at the end of it.

Owns when the surroundings fail. What messages, requests and commits suffer is in `network` and `disk`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hub.errors import HubError
from hub.interface import Interface
from hub.task import State, Task

from . import front
from .network import Lost, Wire

if TYPE_CHECKING:
    from .kernel import Life
    from .workers import Worker
    from .world import World

EVERY_S = {  # mean seconds between two strikes
    "cuts": 3.0, "batons": 5.0, "hub_crashes": 9.0, "hub_pauses": 8.0, "hub_restarts": 14.0, "worker_crashes": 6.0,
    "worker_pauses": 6.0, "store_pauses": 8.0, "store_crashes": 8.0, "clock_jumps": 6.0, "admins": 2.5,
}


class Nemesis:
    """All that strikes by itself; `lurking` while the next commit is waited for, to kill the hub amid it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lurking = False

    def begin(self) -> None:
        for name in EVERY_S:
            if self.world.fault(name):
                self.world.kernel.start(self.strike(name), self.world.kernel.world)

    async def strike(self, name: str) -> None:
        world = self.world
        while True:
            await world.kernel.sleep(world.random.expovariate(1 / EVERY_S[name]))
            if world.calm:
                return
            world.seen[name] += 1
            getattr(self, name)()

    def make_peace(self) -> None:
        """Everything that was broken is mended, but for what admins want so."""
        world = self.world
        lives = [w.instance.life for w in world.workers if w.instance is not None]
        for life in [*lives, *([world.hub.life] if world.hub is not None else [])]:
            world.kernel.wake(life, world.now + 0.1)
        world.disk.away_until = min(world.disk.away_until, world.now + 0.1)
        world.kernel.start(self.forgive(), world.kernel.world)

    async def forgive(self) -> None:
        """Admins let everybody work again, perhaps not all."""
        for worker in self.world.workers:
            if self.world.chance(0.8):
                for _ in range(100):
                    if await self.ask(self.let_work, worker.name):
                        break
                    await self.world.kernel.sleep(0.3)
            instance = worker.instance
            if instance is not None and instance.draining and self.world.chance(0.8):
                worker.die(0.2)

    async def let_work(self, hub: Any, name: str) -> None:
        if self.world.disk.read(Interface, name) is None:
            await front.add_interface(hub, name)
        await front.change_interface(hub, name, enabled=True, paused=False, draining=False)

    # --- the network --------------------------------------------------------------------------------------------

    def cuts(self) -> None:
        instances = [w.instance for w in self.world.workers if w.instance is not None and w.instance.wire is not None]
        if instances:
            wire = self.world.random.choice(instances).wire
            assert wire is not None
            wire.cut_by_chance()

    def batons(self) -> None:
        """A worker takes a second connection; the first still stands, and what is on its way there arrives."""
        instances = [w.instance for w in self.world.workers if w.instance is not None and isinstance(w.instance.wire, Wire)]
        if instances:
            self.world.random.choice(instances).connect_again()

    # --- processes ----------------------------------------------------------------------------------------------

    def hub_crashes(self) -> None:
        """At any moment, or when something is on its way to the database next."""
        if self.world.chance(0.5):
            self.kill()
        else:
            self.lurking = True

    def commit_begins(self) -> None:
        if self.lurking and not self.world.calm:
            self.lurking = False
            self.world.kernel.after(self.world.random.uniform(0.0, 0.02), self.kill, self.world.kernel.world)

    def kill(self) -> None:
        self.world.tell("kill -9 of the hub")
        self.world.end_hub(self.world.random.choice((0.05, 0.5, 2.0, 6.0)))

    def hub_restarts(self) -> None:
        hub = self.world.hub
        if hub is not None and hub.ready:
            self.world.kernel.start(hub.go_down(), hub.life)

    def hub_pauses(self) -> None:
        if self.world.hub is not None:
            self.pause(self.world.hub.life, self.world.random.choice((1.0, 4.0, 12.0)))

    def pause(self, life: Life, seconds: float) -> None:
        self.world.tell("%s stands still for %.1f s", life.name, seconds)
        life.paused_until = max(life.paused_until, self.world.now + seconds)

    def some_worker(self) -> Worker:
        return self.world.random.choice(self.world.workers)

    def worker_crashes(self) -> None:
        self.some_worker().die(self.world.random.choice((0.1, 1.0, 5.0)))

    def worker_pauses(self) -> None:
        instance = self.some_worker().instance
        if instance is not None:
            self.pause(instance.life, self.world.random.choice((1.0, 5.0, 15.0)))

    def store_pauses(self) -> None:
        disk, seconds = self.world.disk, self.world.random.choice((0.5, 2.0, 6.0))
        self.world.tell("the database is away for %.1f s", seconds)
        disk.away_until = max(disk.away_until, self.world.now + seconds)

    def store_crashes(self) -> None:
        self.world.disk.crash(self.world.random.choice((0.3, 1.0, 5.0)))

    def clock_jumps(self) -> None:
        jump = self.world.random.choice((-3600.0, -10.0, 10.0, 3600.0, 3.15e8))
        self.world.tell("the wall clock jumps by %+.0f s", jump)
        self.world.wall_offset += jump

    # --- admins -------------------------------------------------------------------------------------------------

    def admins(self) -> None:
        random, name = self.world.random, self.some_worker().name
        processing = [task.id for task in self.world.disk.all(Task) if task.state is State.PROCESSING]
        moves = [
            partial(self.ask, front.change_interface, name, paused=True),
            partial(self.ask, front.change_interface, name, paused=False),
            partial(self.ask, front.change_interface, name, enabled=True, paused=False),
            partial(self.ask, front.change_interface, name, enabled=False),
            partial(self.ask, front.change_interface, name, draining=True),
            partial(self.ask, front.remove_interface, name),
            partial(self.ask, front.add_interface, name),
        ]
        if processing:
            moves += 3 * [partial(self.ask, front.move, random.choice(processing), "requeue")]
        self.world.kernel.start(random.choice(moves)(), self.world.kernel.world)

    async def ask(self, handle: Any, *facts: Any, **named: Any) -> bool:
        """An admin's request; whether it was done."""
        self.world.tell("an admin: %s %s %s", handle.__name__, facts, named or "")
        try:
            await self.world.network.ask(handle, *facts, **named)
        except (Lost, HubError):
            return False
        return True
