"""On any day, whatever happens: every viewer ends with exactly what the store holds, and is never fooled on the way.

The runner, the core, the topics and the subscribers are the real ones; the store is in memory, and viewers come and go,
read late or not at all, and change their transport, while the hub is stopped, started and killed.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import sight
from hub.account import User
from hub.effects import Delete, Publish, Verify
from hub.errors import HubError
from hub.media import Media, Mismatch
from hub.messages import DELETED, MERGED, PROGRESSED, Accept, Assign, Failed, Offer, Progress, Result
from hub.subscriber import Direct, Subscriber
from hub.task import Task
from hub.topics import Frame
from tests.hub.stage import Stage, Transport
from tests.hub.world import ARTIFACT, a_result, a_task

ANN = User("ann", "ann@x", "Ann", "user", "", 0.0)
WAYS = ("socket", "stream", "poll")
SEEN = ("state", "attempt", "phase", "progress", "message", "problem", "worker", "result")


class Viewer:
    """One browser; `picture` is what it shows, by task."""

    def __init__(self) -> None:
        self.picture: dict[str, dict[str, Any]] = {}
        self.cursor: str | None = None
        self.way = ""
        self.subscriber: Subscriber | None = None
        self.pipe: list[bytes] = []
        self.full = False

    # --- what it is told ----------------------------------------------------------------------------------------

    def joined(self, told: dict[str, Any]) -> None:
        """The answer to a subscription: everything that was missed, or a new picture."""
        cursor = f"{told['epoch']}:{told['offset']}"
        if told["recovered"]:
            assert self.cursor is not None
            for event in told["events"]:
                self.see(event)
            assert self.cursor == cursor, "recovered, but not up to where the topic stands"
        else:
            self.picture = {item["id"]: item for item in told["snapshot"]["items"]}
            self.cursor = cursor

    def see(self, event: dict[str, Any]) -> None:
        """An event is the next one, and progress goes on."""
        epoch, _, place = str(self.cursor).rpartition(":")
        first = event["data"]["first"] if event["type"] == MERGED else event["offset"]
        assert event["epoch"] == epoch and first == int(place) + 1, "an event came twice, out of order or too late"
        self.cursor = f"{epoch}:{event['offset']}"
        data = event["data"]
        if event["type"] == DELETED:
            self.picture.pop(data["id"], None)
        elif event["type"] != MERGED:
            known = self.picture.get(data["id"], {})
            if event["type"] == PROGRESSED:
                assert known and data["progress"] >= known["progress"] or data["attempt"] > known["attempt"]
            self.picture[data["id"]] = {**known, **data}

    # --- how it is connected ------------------------------------------------------------------------------------

    async def connect(self, stage: Stage, way: str) -> None:
        self.drop()
        self.way = way
        if way == "socket":
            self.subscriber = Direct(self.wake, self.send, line, lambda shot: b"")
        else:
            self.subscriber = Subscriber(self.wake)
        rooms: Any = SimpleNamespace(runner=stage.runner, store=stage.store)
        reply = await sight.join(rooms, ANN, self.subscriber, "tasks", self.cursor)
        self.joined(json.loads(msgspec.json.encode(reply)))
        if way == "poll":
            self.drop()

    def wake(self) -> None:
        """Nothing: it looks when it reads."""

    def send(self, data: bytes) -> bool:
        self.pipe.append(data)
        return not self.full

    def drop(self) -> None:
        """The connection is lost, with what was under way."""
        if self.subscriber is not None:
            self.subscriber.close()
        self.subscriber, self.full = None, False
        self.pipe.clear()

    async def read(self, stage: Stage) -> None:
        """Take what has come; whoever was cut off, or polls, asks anew."""
        if self.subscriber is None:
            return await self.connect(stage, self.way or "poll")
        if self.way == "socket":
            while self.pipe or self.full:
                self.hear()
                if self.full and isinstance(self.subscriber, Direct):
                    self.full = False
                    self.subscriber.drained()
        else:
            self.pipe += [line(frame) for frame in self.subscriber.take()]
            self.hear()
        if self.subscriber.lagged:
            await self.connect(stage, self.way)

    def hear(self) -> None:
        for event in b"".join(self.pipe).splitlines():
            self.see(json.loads(event))
        self.pipe.clear()


def line(frame: Frame) -> bytes:
    return frame.data + b"\n"


class Scene(Stage):
    """A life of the hub, whose worker takes whatever is offered."""

    worker: Transport

    async def begin(self, life: int) -> None:
        await self.start()
        self.runner.topics.rounds.later = asyncio.get_running_loop().call_soon
        held = list(self.core.leases)
        self.worker = await self.join(instance=f"i{life}", slots=8, running=held)
        self.answered = 0

    async def verify(self, effect: Verify) -> list[Media] | Mismatch:
        return [a_result(f"result of {effect.lease}", version=1, task_id=effect.task.id)]

    def work(self) -> None:
        """Accept what was offered."""
        while self.answered < len(self.worker.written):
            message = self.worker.written[self.answered]
            self.answered += 1
            if isinstance(message, Offer):
                self.say(Accept(offer=message.offer))

    @property
    def leases(self) -> list[str]:
        sent = [message.lease for message in self.worker.written if isinstance(message, Assign)]
        return [lease for lease in (sent or list(self.core.leases)) if lease in self.core.leases]


class Day:
    """What happens, step by step."""

    def __init__(self) -> None:
        self.lives, self.made = 1, 0
        self.stage = Scene("life1")
        self.viewers = [Viewer() for _ in range(3)]

    async def go(self, steps: list[tuple[str, int, int]]) -> None:
        await self.stage.begin(1)
        for number, viewer in enumerate(self.viewers):
            await viewer.connect(self.stage, WAYS[number])
            await self.create(0, 0)
        await self.stage.runner.carry_out([])
        self.stage.work()
        for what, which, amount in steps:
            with suppress(HubError):
                await getattr(self, what)(which, amount)
            for _ in range(amount % 4):
                await asyncio.sleep(0)
            self.stage.work()
        await self.evening()

    # --- what users and workers do ------------------------------------------------------------------------------

    async def create(self, which: int, amount: int) -> None:
        self.made += 1
        task = a_task(f"task-{self.made:03}", created_at=self.stage.clock.wall())
        self.stage.runner.decide(self.stage.core.submit(task, self.stage.clock.now()))

    async def stored(self, which: int) -> Task | None:
        tasks = await self.stage.store.page(Task, 50)
        return tasks[which % len(tasks)] if tasks else None

    async def cancel(self, which: int, amount: int) -> None:
        await self.move(which, "cancel")

    async def retry(self, which: int, amount: int) -> None:
        await self.move(which, "retry")

    async def move(self, which: int, move: str) -> None:
        task = await self.stored(which)
        if task is not None:
            self.stage.runner.decide(getattr(self.stage.core, move)(task, self.stage.clock.now()))

    async def delete(self, which: int, amount: int) -> None:
        task = await self.stored(which)
        if task is not None and task.state.ended and task.id not in self.stage.core.tasks:
            self.stage.runner.decide([Delete(Task, task.id), Publish(task, DELETED)])

    async def progress(self, which: int, amount: int) -> None:
        leases = self.stage.leases
        if leases:
            self.stage.clock.time += 0.3
            lease = leases[which % len(leases)]
            task = self.stage.core.lease_of(lease)
            percent = min(100.0, task.progress + amount / 10)
            self.stage.say(Progress(lease=lease, phase="segment", progress=percent))

    async def finish(self, which: int, amount: int) -> None:
        leases = self.stage.leases
        if leases:
            self.stage.say(Result(lease=leases[which % len(leases)], artifacts=[ARTIFACT]))

    async def fail(self, which: int, amount: int) -> None:
        leases = self.stage.leases
        if leases:
            self.stage.say(Failed(lease=leases[which % len(leases)], code="oops", retryable=amount > 50))

    async def wait(self, which: int, amount: int) -> None:
        for _ in range(which + 1):
            self.stage.clock.time += 1.0
            self.stage.runner.decide(self.stage.core.tick(self.stage.clock.now()))

    # --- what becomes of the hub --------------------------------------------------------------------------------

    async def stop(self, which: int, amount: int) -> None:
        """It is stopped in order, and started."""
        await self.stage.runner.stop()
        await self.again()

    async def kill(self, which: int, amount: int) -> None:
        """It is killed at this very moment, and started."""
        duties = list(self.stage.runner.duties)
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        await self.again()

    async def again(self) -> None:
        for viewer in self.viewers:
            viewer.drop()
        self.lives += 1
        self.stage = Scene(f"life{self.lives}", self.stage)
        await self.stage.begin(self.lives)

    # --- what viewers do ----------------------------------------------------------------------------------------

    async def connect(self, which: int, amount: int) -> None:
        await self.viewers[which % 3].connect(self.stage, WAYS[amount % 3])

    async def drop(self, which: int, amount: int) -> None:
        self.viewers[which % 3].drop()

    async def read(self, which: int, amount: int) -> None:
        await self.viewers[which % 3].read(self.stage)

    async def fill(self, which: int, amount: int) -> None:
        """A viewer does not read for a while, and what is sent to it stays under way."""
        viewer = self.viewers[which % 3]
        viewer.full = isinstance(viewer.subscriber, Direct)

    async def evening(self) -> None:
        """Nothing happens any more: everybody sees what the store holds."""
        for _ in range(3):
            self.stage.work()
            await self.stage.settled()
            await self.stage.runner.carry_out([])
            self.stage.clock.time += 0.3
            self.stage.runner.decide(self.stage.core.tick(self.stage.clock.now()))
        await self.stage.settled()
        await self.stage.runner.carry_out([])
        for _ in range(5):
            await asyncio.sleep(0)
        held = {task.id: self.stage.runner.view(task) for task in await self.stage.store.page(Task, 50)}
        want = {id: {name: view[name] for name in SEEN} for id, view in held.items()}
        for viewer in self.viewers:
            await viewer.read(self.stage)
            shown = {id: {name: view[name] for name in SEEN} for id, view in viewer.picture.items()}
            assert shown == json.loads(json.dumps(want))
        await self.stage.runner.stop()


NEWS = ("create", "finish", "fail", "cancel", "retry", "delete", "wait", *["progress"] * 9)
MOVES = ("connect", "drop", "read", "read", "fill", "fill", "stop", "kill")
STEP = st.tuples(st.sampled_from(NEWS + MOVES), st.integers(0, 7), st.integers(0, 100))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=10, max_size=60))
def test_p9_p10_every_viewer_ends_with_what_the_store_holds(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(Day().go(steps))
