"""Interface services: instances that live and die, with the real outbox, and manners of every kind.

An instance behaves as worker/session.py does, except where its manners say otherwise. Owns what really runs on its
machine, which is what the watch holds against the hub's slots.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hub.errors import HubError
from hub.messages import (
    Accept, Artifact, Assign, Bye, Cancel, Decline, Drain, Failed, FailedAck, Hello, LeaseLost, Message, Model, Offer,
    Progress, Reconnect, Renew, Result, ResultAck, Status, Welcome, decode, to_worker,
)
from worker.outbox import Outbox

from . import front
from .hub import BROKEN, GOOD, POISON, TOO_SHORT
from .kernel import Life, Promise
from .network import Lost, Refused, Wire
from .plan import WorkerPlan
from .polling import Polls

if TYPE_CHECKING:
    from .world import World

WELCOME_S = 3.0
FINAL = range(4400, 4500)


class Work:
    """One lease on one machine: `ending` is the report that is kept until the hub has it."""

    def __init__(self, assign: Assign, session: str, now: float) -> None:
        self.lease = assign.lease
        self.task = assign.task
        self.poison = POISON in assign.inputs[0].url
        self.good = assign.inputs[0].sha256  # of a result that is as its source
        self.session = session
        self.begun_at = now
        self.ending: Result | Failed | None = None
        self.dropped = False


class Worker:
    """One registered service; `instance` is its process, while there is one."""

    def __init__(self, world: World, plan: WorkerPlan) -> None:
        self.world = world
        self.plan = plan
        self.name = plan.name
        self.born = 0
        self.instance: Instance | None = None
        self.wanted = False

    def start(self) -> None:
        """Somebody starts the service, if it does not run."""
        if self.instance is None:
            self.wanted = True
            self.born += 1
            self.instance = Instance(self.world, self, f"{self.name}.{self.born}")

    def die(self, back_in: float) -> None:
        """Its process is gone, with all that it knew; somebody starts it again after a while."""
        instance, world = self.instance, self.world
        if instance is not None:
            world.tell("%s dies", instance.life.name)
            instance.life.alive = False
            if instance.wire is not None:
                instance.wire.hang_up() if world.chance(0.7) else instance.wire.cut_by_chance()
            self.instance = None
            world.kernel.after(back_in, self.start, world.kernel.world)

    def has(self, manner: str) -> bool:
        """Whether it behaves so, by chance, now."""
        return manner in self.plan.manners and not self.world.calm


class Instance:
    """One process of a service. `works` are the leases that it owes something for, `busy` what takes up its slots,
    `reserved` the slots that it has promised, until when."""

    def __init__(self, world: World, worker: Worker, name: str) -> None:
        self.world, self.worker, self.plan = world, worker, worker.plan
        self.life = Life(name)
        self.outbox = Outbox()
        self.works: dict[str, Work] = {}
        self.busy: set[Work] = set()
        self.reserved: dict[str, float] = {}
        self.past: list[str] = []
        self.session = ""
        self.connected = self.draining = False
        self.wire: Wire | Polls | None = None
        self.ended: Promise[int] = Promise(world.kernel)
        for duty in (self.stay_connected(), self.renew(), self.beat(), self.misbehave()):
            world.kernel.start(duty, self.life)

    # --- the connection -----------------------------------------------------------------------------------------

    async def stay_connected(self) -> None:
        world = self.world
        while True:
            code = await self.converse()
            if code in FINAL:
                world.tell("is sent away: %d", code)
                self.worker.die(world.random.uniform(1.0, 4.0))
            await world.kernel.sleep(world.random.uniform(0.05, 1.0))

    async def converse(self) -> int:
        """Say hello, then listen until the connection ends: its close code."""
        try:
            wire = Polls(self.world, self) if self.plan.polls else await self.world.network.dial(self)
        except Lost:
            return 1006
        except Refused:
            return 4403
        self.wire, self.connected, self.ended = wire, False, Promise(self.world.kernel)
        wire.send(Hello(
            n=1, protocol=1, worker=self.worker.name, instance=self.life.name, slots=self.plan.slots,
            models=[Model(name, max_pixels=self.plan.max_pixels) for name in self.plan.models],
            running=list(self.works), last_seen=self.outbox.heard,
        ))
        self.world.kernel.after(WELCOME_S, partial(self.check_welcome, wire))
        code = await self.ended
        self.connected = False
        self.reserved.clear()
        return code

    def check_welcome(self, wire: Wire | Polls) -> None:
        if wire is self.wire and not self.connected:
            wire.hang_up()
            self.connection_ended(wire, 1006)

    def connection_ended(self, wire: Wire | Polls, code: int) -> None:
        if wire is self.wire and not self.ended.finished:
            self.world.tell("has lost its connection: %d", code)
            self.wire = None
            wire.hang_up()
            self.ended.set_result(code)

    def connect_again(self) -> None:
        """Take another connection while the old one stands, as a worker does that trusts it no more."""
        if not self.ended.finished:
            self.wire = None
            self.ended.set_result(1006)

    def heard(self, wire: Wire | Polls, data: bytes) -> None:
        if wire is not self.wire:
            return
        message: Message = decode(to_worker, data)
        if isinstance(message, Welcome) and not self.connected:
            self.welcomed(message)
        elif self.outbox.hear(message):
            self.take(message)

    def welcomed(self, welcome: Welcome) -> None:
        if welcome.resumed and welcome.session == self.session:
            self.outbox.resume(welcome)
        else:
            self.outbox.restart(welcome)
            for work in self.works.values():
                if work.ending is not None:
                    self.outbox.post(work.ending)
        self.session, self.connected = welcome.session, True
        self.world.tell("is welcome (session %s, %s)", welcome.session, "resumed" if welcome.resumed else "new")
        self.post(Status(slots_free=self.free))

    def post(self, message: Message) -> None:
        self.outbox.post(message)
        while self.connected and isinstance(self.wire, Wire) and (due := self.outbox.next()) is not None:
            self.wire.send(due)

    async def renew(self) -> None:
        while True:
            await self.world.kernel.sleep(self.world.plan.rules.renew_s)
            if self.connected:
                for lease in self.works:
                    self.post(Renew(lease=lease))

    async def beat(self) -> None:
        while True:
            await self.world.kernel.sleep(self.world.plan.rules.heartbeat_s)
            if self.connected:
                self.post(Status(slots_free=self.free))

    # --- what the hub asks for ----------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        self.reserved = {task: until for task, until in self.reserved.items() if until > self.world.now}
        return max(0, self.plan.slots - len(self.busy) - len(self.reserved))

    def take(self, message: Message) -> None:
        match message:
            case Offer():
                self.consider(message)
            case Assign():
                self.begin(message)
            case Cancel() | LeaseLost():
                self.drop(message.lease)
            case ResultAck() | FailedAck():
                self.works.pop(message.lease, None)
            case Reconnect():
                self.connect_again()
            case Drain():
                self.draining = True

    def consider(self, offer: Offer) -> None:
        world = self.world
        if self.worker.has("mute") and world.chance(0.3):
            return
        if self.worker.has("picky") and world.chance(0.4) or (not self.plan.trusting and self.free < 1):
            self.post(Decline(offer=offer.offer, reason="no"))
            return
        self.reserved[offer.task] = world.now + 2 * offer.deadline_s
        self.post(Accept(offer=offer.offer))

    def begin(self, assign: Assign) -> None:
        world = self.world
        self.reserved.pop(assign.task, None)
        if assign.lease in self.works:
            return
        world.tell("begins task %s under lease %s, attempt %d", assign.task, assign.lease, assign.attempt)
        world.watch.begins(self, assign)
        work = self.works[assign.lease] = Work(assign, self.session, world.now)
        self.past.append(assign.lease)
        self.busy.add(work)
        world.kernel.start(self.carry_out(work), self.life)

    def drop(self, lease: str) -> None:
        """Stop working on a lease, which takes a moment; nothing is owed for it any more."""
        work = self.works.pop(lease, None)
        if work is not None and work in self.busy:
            world = self.world
            work.dropped = True
            most = world.plan.rules.stop_s
            takes = world.random.uniform(most, 3 * most) if self.worker.has("stubborn") else most * 0.5 * world.random.random()
            world.kernel.after(takes, partial(self.stopped, work), self.life)

    def stopped(self, work: Work) -> None:
        self.busy.discard(work)

    # --- the work -----------------------------------------------------------------------------------------------

    async def carry_out(self, work: Work) -> None:
        """Fetch, segment, send, report."""
        world, random = self.world, self.world.random
        if self.worker.has("refusing") and world.chance(0.4):
            self.finish(work, Failed(lease=work.lease, code="refused", retry_after=random.choice((None, 1.0))))
            return
        pace = random.uniform(0.5, 3.0) if self.worker.has("slow") else random.uniform(0.02, 0.4)
        for percent in (5.0, 35.0, 65.0, 95.0):
            await world.kernel.sleep(pace)
            if work.dropped:
                return
            if work.poison and percent > 30.0:
                world.seen["poison taken"] += 1
                self.worker.die(random.uniform(0.5, 3.0))
                return
            self.post(Progress(lease=work.lease, phase="segment", progress=percent))
            while self.worker.has("hanging") and percent > 30.0 and world.chance(0.5):
                await world.kernel.sleep(20.0)
                if work.dropped:
                    return
        if self.worker.has("careless") and world.chance(0.4):
            retryable = world.chance(0.7)
            self.finish(work, Failed(lease=work.lease, code="model_failed", retryable=retryable, detail="out of memory"))
            return
        await self.hand_in(work)

    async def hand_in(self, work: Work) -> None:
        """Upload the result and report it."""
        random = self.world.random
        careless = self.worker.has("careless") and self.world.chance(0.4)
        sha256 = random.choice((TOO_SHORT, BROKEN)) if careless else work.good
        while not work.dropped:
            try:
                upload = await self.world.network.ask(front.upload, work.lease, sha256)
            except Lost:
                await self.world.kernel.sleep(random.uniform(0.1, 1.0))
            except HubError as error:
                if error.code == "lease_lost":
                    self.works.pop(work.lease, None)
                    self.busy.discard(work)
                    return
                await self.world.kernel.sleep(random.uniform(0.1, 1.0))
            else:
                artifact = Artifact(purpose="result", upload_id=upload, sha256=sha256, frames=72)
                self.finish(work, Result(lease=work.lease, artifacts=[artifact]))
                return

    def finish(self, work: Work, ending: Result | Failed) -> None:
        if not work.dropped:
            self.busy.discard(work)
            work.ending = ending
            if isinstance(ending, Failed) and not ending.retryable:
                self.world.watch.hopeless[work.lease] = ending.code
            self.world.tell("has finished task %s: %s", work.task, type(ending).__name__)
            self.post(ending)

    # --- bad manners --------------------------------------------------------------------------------------------

    async def misbehave(self) -> None:
        """What an instance does that nobody asked for."""
        world, random = self.world, self.world.random
        while not world.calm and self.plan.manners & {"lying", "leaving"}:
            await world.kernel.sleep(random.expovariate(0.4))
            if self.worker.has("lying") and self.connected:
                self.lie()
            if self.worker.has("leaving") and self.connected and world.chance(0.3):
                self.leave()

    def lie(self) -> None:
        """Say something that is not so."""
        random, leases = self.world.random, self.world.watch.leases_ever
        lease = random.choice(leases) if leases and random.random() < 0.8 else "no-such-lease"
        artifact = Artifact(purpose="result", upload_id="no-such-upload", sha256=GOOD)
        lies: list[Message] = [
            Progress(lease=lease, phase="segment", progress=random.uniform(0.0, 100.0)),
            Progress(lease=lease, phase="no-such-phase", progress=1.0),
            Result(lease=lease, artifacts=[artifact]),
            Result(lease=lease, artifacts=[artifact, artifact]),
            Failed(lease=lease, code="made_up", retryable=random.random() < 0.5),
            Accept(offer=f"id-{random.randrange(1000):06}"),
            Decline(offer="no-such-offer"),
            Status(slots_free=64),
            Renew(lease=lease),
        ]
        lie = random.choice(lies)
        self.world.seen[f"lie: {type(lie).__name__}"] += 1
        self.post(lie)
        if isinstance(self.wire, Wire):
            self.wire.send(Progress(lease=lease, phase="segment", progress=random.choice((101.0, -1.0, 1e300))))

    def leave(self) -> None:
        """Say that no more is wanted, or goodbye, whatever still runs."""
        if self.world.chance(0.5):
            self.draining = True
            self.post(Drain())
        else:
            self.post(Bye())
            self.worker.die(self.world.random.uniform(0.3, 3.0))
