"""Users: they create, cancel, retry and delete, do not get every answer, and ask again.

Owns what each user has been told, which is what the watch holds against the hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hub.errors import Conflict, HubError, Invalid, NotFound, Unavailable
from hub.task import IllegalMove

from . import front
from .network import Lost
from .viewers import Viewer

if TYPE_CHECKING:
    from .world import World

MOVES = ("cancel", "retry", "delete", "look")


class User:
    """One user with a browser."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.known: list[str] = []
        self.viewer = Viewer(world, name)
        self.asked = 0

    def begin(self) -> None:
        kernel = self.world.kernel
        kernel.start(self.live(), kernel.world)
        kernel.start(self.order(), kernel.world)
        self.viewer.begin()

    async def order(self) -> None:
        """Create tasks, one after the other, some in a hurry."""
        world, random = self.world, self.world.random
        while world.tasks_left and not world.calm:
            await world.kernel.sleep(random.choice((0.01, random.expovariate(0.5))))
            if world.tasks_left and not world.calm:
                world.tasks_left -= 1
                self.asked += 1
                poison = world.fault("poison") and world.chance(0.25)
                model, priority = random.choice(world.plan.models), random.choice((0, 0, 0, 5, -5))
                order = front.Order(model, priority, poison, world.chance(0.3))
                work = self.create(f"key-{self.name}-{self.asked}", order)
                world.kernel.start(work, world.kernel.world) if world.chance(0.5) else await work

    async def create(self, key: str, order: front.Order) -> None:
        """Ask for a task until there is an answer; impatient ones ask twice at once."""
        world = self.world
        for _ in range(200):
            if world.chance(0.1):
                world.kernel.start(self.ask_once(key, order), world.kernel.world)
            if await self.ask_once(key, order):
                return
            await world.kernel.sleep(world.random.uniform(0.1, 1.5))

    async def ask_once(self, key: str, order: front.Order) -> bool:
        """One request; whether there is no need for another."""
        try:
            task = await self.world.network.ask(front.create, self.name, key, order)
        except (Lost, Unavailable):
            return False
        except Conflict as error:
            assert error.code == "running", f"creating was refused: {error.code}"
            return False
        except NotFound:
            return True
        except Invalid as error:
            if order.large and error.code == "does_not_fit":
                return True
            assert error.code == "unknown_model", f"creating was refused: {error.code}"
            return self.world.calm
        self.world.tell("%s has task %s: %s", self.name, task, order)
        self.world.watch.accepted(task, self.name, key)
        if task not in self.known:
            self.known.append(task)
        return True

    async def live(self) -> None:
        """Do something to a task now and then."""
        world, random = self.world, self.world.random
        while not world.calm:
            await world.kernel.sleep(random.expovariate(0.5))
            if self.known and not world.calm:
                world.kernel.start(self.do(random.choice(MOVES), random.choice(self.known)), world.kernel.world)

    async def do(self, what: str, task: str) -> None:
        """One request about a task; refusals must be those that the task's life explains."""
        world = self.world
        if what == "delete":
            world.watch.unwanted.add(task)
        handle: Any = front.move if what in ("cancel", "retry") else getattr(front, what)
        facts = (task, what) if handle is front.move else (task,)
        try:
            await world.network.ask(handle, *facts)
        except (Lost, Unavailable):
            return
        except NotFound:
            world.watch.not_found(task)
        except IllegalMove:
            world.seen[f"{what} refused"] += 1
        except Conflict:
            world.seen[f"{what} came second"] += 1
        except HubError as error:
            raise AssertionError(f"{what} was refused: {error.code}") from error
        else:
            world.seen[f"{what} done"] += 1
            if what == "delete":
                world.watch.deleted(task)
                self.known.remove(task) if task in self.known else None
