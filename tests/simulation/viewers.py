"""Browsers: they subscribe, see events, lose the connection, come back with their cursor, and must never be fooled.

The hub's side is the real viewer of handlers/live.py with its real subscriber; the browser's side believes nothing.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from handlers.live import Viewer as HubViewer
from hub import messages
from hub.account import User as Account
from hub.errors import HubError
from hub.messages import COMPLETED, DELETED, MERGED, PROGRESSED, UPDATED, Subscribe
from hub.subscriber import Subscriber

from .hub import SimulatedHub
from .kernel import Promise
from .network import Lane

if TYPE_CHECKING:
    from .world import World

QUEUE = 12  # frames that wait for a slow browser, so few that some are cut off


class Viewer:
    """One browser that watches "tasks" of its user; `picture` is what it shows: task views by id."""

    def __init__(self, world: World, user: str) -> None:
        self.world = world
        self.user = user
        self.picture: dict[str, dict[str, Any]] = {}
        self.cursor: str | None = None
        self.standing = False
        self.ended: Promise[None] = Promise(world.kernel)
        self.lane: Lane | None = None
        self.sight: Sight | None = None

    def begin(self) -> None:
        kernel = self.world.kernel
        kernel.start(self.watch(), kernel.world)

    async def watch(self) -> None:
        world = self.world
        while True:
            self.ended = Promise(world.kernel)
            await world.kernel.sleep(world.network.latency())
            hub = world.hub
            if hub is not None and hub.ready:
                lane = self.lane = Lane(world, world.kernel.world, partial(self.read, self.ended))
                sight = self.sight = Sight(world, hub, self.user, lane, slow=not world.calm and world.chance(0.2))
                world.kernel.start(sight.subscribe(self.cursor), hub.life)
                world.kernel.after(world.random.expovariate(0.15), partial(self.end, hub, lane))
                await self.ended
                sight.viewer.subscriber.close()
            self.standing = False
            await world.kernel.sleep(world.random.uniform(0.05, 1.0))

    def end(self, hub: SimulatedHub, lane: Lane) -> None:
        """The connection ends some time, or when the hub does; in calm weather it stays."""
        if self.world.calm and hub is self.world.hub:
            return
        lane.end(self.world.random.randint(0, len(lane.queue)), 0.0)

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is under way to this browser."""
        sight, lane = self.sight, self.lane
        return self.standing and sight is not None and lane is not None and not (sight.woken or lane.queue or lane.cut)

    def hub_gone(self) -> None:
        """The hub's process has ended: its connections are reset."""
        if self.lane is not None:
            self.lane.end(self.world.random.randint(0, len(self.lane.queue)), 0.0)

    def read(self, ended: Promise[None], item: bytes | int) -> None:
        self.world.tell("the browser of %s reads %s", self.user, item if isinstance(item, int) else item.decode())
        if isinstance(item, int):
            if not ended.finished:
                ended.set_result(None)
            return
        message = json.loads(item)
        if message["type"] == "subscribed":
            self.subscribed(message)
        else:
            self.see(message)

    def subscribed(self, reply: dict[str, Any]) -> None:
        self.standing = True
        if reply["recovered"]:
            self.world.seen["viewer recovered"] += 1
            for event in reply["events"]:
                self.see(event)
        else:
            self.world.seen["viewer began anew"] += 1
            self.show({view["id"]: {**view, "epoch": reply["epoch"]} for view in reply["snapshot"]["items"]})
        cursor = f"{reply['epoch']}:{reply['offset']}"
        if reply["recovered"]:
            self.expect(self.cursor == cursor, f"recovered up to {self.cursor}, the topic is at {cursor}")
        self.cursor = cursor

    def show(self, picture: dict[str, dict[str, Any]]) -> None:
        """A snapshot replaces what was shown, and is never older than that."""
        for id, view in picture.items():
            known = self.picture.get(id) if not self.world.disk.late_writes else None
            self.expect(known is None or view["version"] >= known["version"], f"the snapshot of {id} is older than an event")
        self.picture = picture

    def see(self, event: dict[str, Any]) -> None:
        """An event is the next one, and newer than what is shown."""
        epoch, _, offset = (self.cursor or "").rpartition(":")
        here = f"{event['epoch']}:{event['offset']}"
        first = event["data"]["first"] if event["type"] == MERGED else event["offset"]
        self.expect(event["epoch"] == epoch and first == int(offset) + 1, f"{here} came after {self.cursor}")
        self.cursor = here
        if event["type"] == MERGED:
            self.world.seen["progress merged"] += 1
            return
        data, id = event["data"], event["data"]["id"]
        if event["type"] == DELETED:
            self.picture.pop(id, None)
            return
        known = self.picture.get(id)
        if known is not None:
            same = event["type"] == UPDATED  # news of its place in line
            newer = data["version"] > known["version"] - same or self.world.disk.late_writes
            self.expect(newer, f"{event['type']} of {id} is older than what was shown")
            self.expect(known["state"] != COMPLETED, f"{id} was completed and is now {event['type']}")
        if event["type"] == PROGRESSED:
            self.expect(known is not None, f"progress of {id}, which was never shown")
            if known is not None and known["attempt"] == data["attempt"] and known["state"] == "processing":
                back = known["epoch"] == epoch and data["progress"] < known["progress"]
                self.expect(not back, f"progress of {id} went back")
        self.picture[id] = {**(known or {}), **data, "epoch": epoch}

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.world.watch.complain(f"P9/P10: {self.user} is fooled: {otherwise}")


class Few(Subscriber):
    """A viewer for whom little may wait."""

    MAX_FRAMES = QUEUE
    __slots__ = ()


class Sight:
    """The hub's side of a browser's connection."""

    def __init__(self, world: World, hub: SimulatedHub, user: str, lane: Lane, slow: bool) -> None:
        self.world = world
        self.lane = lane
        self.slow = slow
        self.account = Account(user, user, user, "x", "user", 0.0)
        self.subscriber = Few(self.wake)
        self.viewer = HubViewer(hub.rooms, None, self.subscriber)
        self.answered = self.woken = False

    async def subscribe(self, cursor: str | None) -> None:
        try:
            reply = await self.viewer.subscribe(Subscribe(id=1, topic="tasks", after=cursor), self.account)
        except HubError:
            self.lane.end(0, 0.0)
            return
        self.lane.put(messages.encode(reply))
        self.answered = True
        self.wake()

    def wake(self) -> None:
        """Write what is delivered: now, or when a slow browser has read."""
        if self.answered and not self.woken:
            self.woken = True
            pause = self.world.random.uniform(0.5, 3.0) if self.slow else 0.0
            self.world.kernel.after(pause, self.write)

    def write(self) -> None:
        self.woken = False
        for frame in self.subscriber.take():
            self.lane.put(bytes(frame.data))
        if self.subscriber.lagged:
            self.world.seen["viewer cut off"] += 1
            self.lane.end(len(self.lane.queue), 0.1)
