"""One process of the hub in the simulated world: the real core, runner, verifier and topics, put together as
hub/__main__.py does.

Owns nothing that the real hub would not own; whatever passes through is shown to the watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from handlers.registry import Registry
from hub.core import Core, Link
from hub.effects import Effect, Publish
from hub.elsewhere import Elsewhere
from hub.errors import MediaRefused, Unavailable
from hub.media import Facts, Previews, Purpose
from hub.messages import Input, Message
from hub.runner import Runner
from hub.task import Source, Task
from hub.topics import Topics
from hub.verify import Verifier
from hub.views import Views

from .disk import SimulatedStore
from .kernel import Life, Promise

if TYPE_CHECKING:
    from .world import World

FACTS = Facts(640, 360, "30000/1001", 72, 2.4, 0, "h264", "yuv420p", "mp4", "aac")
LARGE = replace(FACTS, width=1920, height=1080)
SHORT = Facts(640, 360, "30000/1001", 71, 2.37, 0, "h264", "yuv420p", "mp4", "aac")
GOOD, TOO_SHORT, BROKEN, GOOD_LARGE = "a" * 64, "b" * 64, "c" * 64, "d" * 64  # hashes of files, by what they are
CONTENTS = {GOOD: FACTS, GOOD_LARGE: LARGE, TOO_SHORT: SHORT}
HEALTHY, POISON = "holiday.mov", "poison.mov"


def source(poison: bool, large: bool) -> Source:
    name = POISON if poison else HEALTHY
    sha256 = GOOD_LARGE if large else GOOD
    return Source("video-1", name, 1000, sha256, "video/quicktime", CONTENTS[sha256])


class Clock:
    """The clocks of one process: `now` is anchored when it begins, `wall` is what an admin has set it to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.anchor = self.wall() - world.now

    def now(self) -> float:
        return self.anchor + self.world.now

    def wall(self) -> float:
        from .world import MORNING

        return MORNING + self.world.now + self.world.wall_offset


class Files:
    """Where results lie: as much of hub.ports.Files as the verifier asks for."""

    def path(self, purpose: Purpose, sha256: str) -> Path:
        return Path(sha256)

    async def save_previews(self, media_id: str, previews: Previews) -> None:
        pass


class SimulatedHub(Runner):
    """The runner of one process. `ready` once it takes connections and requests."""

    def __init__(self, world: World, life: Life) -> None:
        self.world = world
        self.life = life
        self.ready = self.looked_again = False
        self.creating: set[tuple[str, str]] = set()
        store = SimulatedStore(world, life.name)
        clock = Clock(world)
        views = Views(lambda path, expires: path, "videos", "backgrounds")
        core = Core(world.plan.rules, world.new_id, links, world.random.random)
        verifier: Any = Verifier(store, Files(), self.probe)  # type: ignore[arg-type]
        self.receive, core.receive = core.receive, self.listen  # type: ignore[method-assign]
        super().__init__(core, store, clock, views, Topics(life.name), verifier)
        self.elsewhere = SimulatedElsewhere(self)
        self.rooms: Any = SimpleNamespace(runner=self, store=store, clock=clock, views=views)
        self.registry = self.rooms.registry = Registry(self.rooms)

    async def come_up(self) -> None:
        """Read the store, then open the doors; a database that does not answer ends the process."""
        world = self.world
        world.tell("the hub starts")
        try:
            await self.start()
            await self.registry.read()
        except Unavailable:
            world.tell("the hub cannot read the database and gives up")
            world.end_hub(world.random.uniform(0.5, 2.0))
            return
        self.own(self.registry.watch())
        self.ready = True
        world.watch.hub_is_up()
        world.tell("the hub is up with %d open tasks", len(self.core.tasks))

    async def go_down(self) -> None:
        """SIGTERM."""
        self.world.tell("the hub is told to stop")
        self.ready = False
        self.close_sockets()
        await self.stop()
        self.world.end_hub(self.world.random.uniform(0.1, 1.0))

    async def probe(self, path: Path, purpose: Purpose) -> tuple[Facts, Previews]:
        """Look into a result, which takes its time."""
        world = self.world
        await world.kernel.sleep(world.random.uniform(0.05, 0.4 if world.calm or world.chance(0.8) else 4.0))
        if str(path) == BROKEN:
            raise MediaRefused("no video in it")
        return CONTENTS[str(path)], Previews(b"poster")

    # --- what the watch gets to see -----------------------------------------------------------------------------

    def decide(self, effects: Sequence[Effect]) -> Promise[None]:  # type: ignore[override]
        self.world.watch.decided(self, effects)
        return super().decide(effects)  # type: ignore[return-value]

    def listen(self, session: str, message: Message, now: float) -> list[Effect]:
        effects = self.receive(session, message, now)
        self.world.watch.received(session, message, effects)
        return effects

    def publish(self, effect: Publish) -> None:
        self.world.watch.published(self, effect)
        super().publish(effect)


class SimulatedElsewhere(Elsewhere):
    """What the watch has to know of readings."""

    def __init__(self, hub: SimulatedHub) -> None:
        super().__init__(hub)
        self.hub = hub

    async def read_again(self, task_id: str) -> None:
        self.hub.world.watch.distrust(task_id)
        await super().read_again(task_id)
        self.hub.world.watch.distrust(task_id)

    async def look_again(self) -> None:
        await super().look_again()
        self.hub.looked_again = True


def links(task: Task, lease: str) -> Link:
    """Addresses for one lease."""
    return Link([Input("video", f"/videos/{task.video.name}?job={lease}", task.video.sha256, 1000)], f"/uploads?job={lease}")
