"""One worker instance in front of one hub: hello, offers, leases, renewals, coming back.

Owns which leases are worked on and what the hub is told about them, over any number of connections. Its event loop
does nothing that takes long, so no model can keep it from renewing a lease.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from traceback import format_exc
from typing import Any

import structlog
from msgspec.structs import replace

from hub import messages
from hub.messages import (
    PROTOCOL, Accept, Assign, BadMessage, Bye, Cancel, Decline, Drain, FailedAck, Hello, LeaseLost, Message, Model,
    Offer, Problem, Reconnect, Renew, ResultAck, Status, ToWorker, Watching, Welcome, decode, encode,
)

from .child import Child
from .errors import Lost, Refused
from .job import TaskFunction
from .outbox import Outbox
from .previews import Shown, packed
from .transports import Connection, Transport
from .work import Work

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0  # between two tries to connect
WELCOME_S = 30.0  # how long the hub may take to answer hello
GOODBYE_S = 3.0  # how long a stopping worker waits for the hub to take what is finished
LOOK_S = 1.0  # between two looks at what was promised, while nothing else happens

log = structlog.get_logger(__name__)


class Session:
    """The life of one worker instance; `url` is the hub's, for links that are relative to it."""

    def __init__(
        self, transport: Transport, url: str, functions: Mapping[str, TaskFunction], models: Sequence[Model], *,
        name: str, slots: int, hardware: Mapping[str, str | int | float | bool | None],
    ) -> None:
        self.transport = transport
        self.url = url
        self.functions = functions
        self.hello = Hello(
            n=1, protocol=PROTOCOL, worker=name, instance=str(uuid.uuid4()), models=list(models), slots=slots,
            hardware=dict(hardware),
        )
        self.children = [Child(number, functions) for number in range(1, slots + 1)]
        self.free_children: asyncio.Queue[Child] = asyncio.Queue()
        self.works: dict[str, Work] = {}
        self.busy: set[asyncio.Task[None]] = set()
        self.reserved: dict[str, tuple[str, float]] = {}  # offer -> task, until when its assignment may come
        self.outbox = Outbox()
        self.news = asyncio.Event()
        self.pictures: dict[tuple[str, str], bytes] = {}
        self.picture = asyncio.Event()
        self.session_id = ""
        self.connected = False
        self.come_back_after = 0.0
        self.draining: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        self.settled = asyncio.Event()
        self.left = asyncio.Event()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stopping` is set, which `drain` does too, for the hub or for whoever runs this worker.

        Raises:
            Refused: the hub does not want this worker.
            TypeError: what it says of itself has values that no message can carry.
        """
        encode(self.hello)  # here, and not again and again in the conversation
        for child in self.children:
            child.start()
            self.free_children.put_nowait(child)
        connecting = asyncio.create_task(self.stay_connected())
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self.drop_unfinished()
            if connecting.done():
                connecting.result()
            elif self.connected:
                await self.say_goodbye()
        finally:
            connecting.cancel()
            stopping.cancel()
            if self.draining is not None:
                self.draining.cancel()
            await asyncio.gather(connecting, stopping, *self.busy, return_exceptions=True)
            for child in self.children:
                child.kill()

    def drain(self) -> None:
        """Take no more offers, see what was taken to its acknowledgement, then stop; harmless when that has begun."""
        if self.draining is None:
            self.post(Drain(reason="this worker is about to stop"))
            self.draining = asyncio.create_task(self.stop_when_idle())

    async def stop_when_idle(self) -> None:
        while (self.works or self.promised) and not self.stopping.is_set():
            self.settled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self.settled.wait()
        self.stopping.set()

    async def drop_unfinished(self) -> None:
        """End what runs; what is finished and not yet acknowledged stays."""
        for work in list(self.works.values()):
            if work.ending is None:
                self.drop(work.lease, "this worker stops")
        await asyncio.gather(*self.busy, return_exceptions=True)

    async def say_goodbye(self) -> None:
        """Let the hub take what is finished, for a moment, then leave."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                if self.works:
                    await self.settled.wait()
        self.post(Bye())
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.left.wait()

    async def stay_connected(self) -> None:
        """Connect, converse, come back: for ever, after pauses that grow and are never the same (full jitter).

        Raises:
            Refused: the hub does not want this worker.
        """
        failures = 0
        while True:
            try:
                connection = await self.transport.open()
                try:
                    await self.converse(connection)
                finally:
                    if self.connected:
                        failures = 0
                    self.connected = False
                    self.reserved.clear()
                    await connection.close()
            except Lost as lost:
                reason = str(lost)
            except Refused:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                log.error("conversation_broke", exception=format_exc())  # without local variables: some are secrets
            failures += 1
            longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2 ** min(failures, 10))
            pause = self.come_back_after + random.uniform(SHORTEST_PAUSE_S, longest)
            self.come_back_after = 0.0
            log.info("hub_lost", hub=self.url, reason=reason, back_in_s=round(pause, 1))
            await asyncio.sleep(pause)

    async def converse(self, connection: Connection) -> None:
        """Say hello, then listen and speak, until the connection ends: for one of both is for both.

        Raises:
            Lost: the connection ended, or the hub asked to come back.
            Refused: the hub does not want this worker.
        """
        hello = replace(self.hello, running=list(self.works), last_seen=self.outbox.heard)
        await connection.send(encode(hello))
        try:
            async with asyncio.timeout(WELCOME_S):
                welcome = await self.listen_for_welcome(connection)
        except TimeoutError:
            raise Lost("the hub did not answer hello") from None
        await until_one_ends(
            self.listen(connection), self.write(connection), self.write_pictures(connection),
            self.renew(welcome.renew_s), self.beat(welcome.heartbeat_s),
        )

    async def listen_for_welcome(self, connection: Connection) -> Welcome:
        """Take what was missed, which comes first, until the hub welcomes this worker."""
        while not isinstance(message := self.read(await connection.receive()), Welcome):
            self.hear(message)
        self.welcomed(message)
        return message

    async def listen(self, connection: Connection) -> None:
        """Take message after message."""
        while True:
            self.hear(self.read(await connection.receive()))

    def hear(self, message: ToWorker | None) -> None:
        """Do what a message asks for, once."""
        if message is not None and self.outbox.hear(message):
            self.take(message)

    def read(self, raw: bytes | str) -> ToWorker | None:
        """One message; what cannot be understood is skipped, because a newer hub may say more than we know."""
        try:
            message: ToWorker = decode(messages.to_worker, raw)
            return message
        except BadMessage as error:
            log.warning("message_skipped", detail=str(error))
            return None

    # --- saying -------------------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Have a message sent, now or on the next connection."""
        self.outbox.post(message)
        self.news.set()

    async def write(self, connection: Connection) -> None:
        """Send what is due, message after message."""
        while True:
            self.news.clear()
            while (message := self.outbox.next()) is not None:
                await connection.send(encode(message))
                if isinstance(message, Bye):
                    self.left.set()
            await self.news.wait()

    def show(self, lease: str, shown: Shown) -> None:
        """Have a picture sent, unless a newer one of its kind comes first."""
        self.pictures[lease, shown.kind] = packed(lease, shown)
        self.picture.set()

    async def write_pictures(self, connection: Connection) -> None:
        """Beside the messages, so that a picture never holds one up."""
        while True:
            await self.picture.wait()
            self.picture.clear()
            while self.pictures:
                lease, kind = next(iter(self.pictures))
                picture = self.pictures.pop((lease, kind))
                if lease in self.works and self.works[lease].watched:
                    await connection.show(picture)

    async def renew(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            for lease in self.works:
                self.post(Renew(lease=lease))

    async def beat(self, every: float) -> None:
        while True:
            self.tell_status()
            await asyncio.sleep(every)

    def tell_status(self) -> None:
        self.post(Status(slots_free=self.free, load=load()))

    @property
    def free(self) -> int:
        """Slots for which nothing runs and nothing was promised lately."""
        return max(0, len(self.children) - len(self.busy) - self.promised)

    @property
    def promised(self) -> int:
        """Offers accepted lately whose assignment has not come."""
        now = time.monotonic()
        self.reserved = {offer: (task, until) for offer, (task, until) in self.reserved.items() if until > now}
        return len(self.reserved)

    # --- hearing ------------------------------------------------------------------------------------------------

    def welcomed(self, welcome: Welcome) -> None:
        """The connection stands. A session that the hub does not know any more starts anew, with what still counts."""
        resumed = welcome.resumed and welcome.session == self.session_id
        if resumed:
            self.outbox.resume(welcome)
        else:
            self.outbox.restart(welcome)
            for work in self.works.values():
                work.watch(False)  # the hub says so again if somebody looks
                if work.ending is not None:
                    self.post(work.ending)
            if self.draining is not None:
                self.post(Drain(reason="this worker is about to stop"))
        self.session_id, self.connected = welcome.session, True
        self.news.set()
        log.info("connected", hub=self.url, worker=self.hello.worker, resumed=resumed, running=len(self.works))

    def take(self, message: ToWorker) -> None:
        """Do what one message asks for."""
        match message:
            case Offer():
                self.consider(message)
            case Assign():
                self.begin(message)
            case Cancel() | LeaseLost():
                self.drop(message.lease, getattr(message, "reason", "") or "lease lost")
            case Watching():
                if message.lease in self.works:
                    self.works[message.lease].watch(message.on)
            case ResultAck() | FailedAck():
                self.forget(message.lease)
            case Reconnect():
                self.come_back_after = message.after_s
                raise Lost("the hub asked to come back")
            case Drain():
                log.info("hub_drains", reason=message.reason, running=len(self.works))
                self.drain()
            case Problem():
                log.info("hub_reported_problem", code=message.code, detail=message.detail)
                self.reserved.pop(message.offer or "", None)

    def consider(self, offer: Offer) -> None:
        """Promise a slot, or say why not."""
        if offer.model not in self.functions:
            self.post(Decline(offer=offer.offer, reason=f"no model {offer.model}"))
        elif self.draining is not None or self.stopping.is_set():
            self.post(Decline(offer=offer.offer, reason="about to stop"))
        elif self.free < 1:
            self.post(Decline(offer=offer.offer, reason="no free slot"))
        else:
            self.reserved[offer.offer] = offer.task, time.monotonic() + 2 * offer.deadline_s
            self.post(Accept(offer=offer.offer))

    def begin(self, assign: Assign) -> None:
        """Start the work on a lease."""
        self.reserved = {offer: kept for offer, kept in self.reserved.items() if kept[0] != assign.task}
        if assign.lease in self.works:
            return
        log.info("task_assigned", task=assign.task, lease=assign.lease, model=assign.model, attempt=assign.attempt)
        work = self.works[assign.lease] = Work(assign, self.url, self.post, self.show)
        self.settled.clear()
        running = work.running = asyncio.create_task(work.carry_out(self.free_children))
        self.busy.add(running)
        running.add_done_callback(lambda _: self.ended(work))

    def ended(self, work: Work) -> None:
        """The work is over: report it, if it still counts."""
        if work.running is not None:
            self.busy.discard(work.running)
        if self.works.get(work.lease) is not work:
            self.tell_status()  # nothing else says that this slot is free again
            return
        if work.ending is None:
            self.forget(work.lease)
        else:
            log.info("task_ended", task=work.assign.task, lease=work.lease, how=type(work.ending).__name__)
            self.post(work.ending)

    def drop(self, lease: str, reason: str) -> None:
        """Stop the work on a lease at once and say no more about it."""
        work = self.works.get(lease)
        if work is not None:
            log.info("lease_dropped", lease=lease, reason=reason)
            self.forget(lease)
            if work.running is not None:
                work.running.cancel()

    def forget(self, lease: str) -> None:
        """Nothing is owed for a lease any more."""
        self.works.pop(lease, None)
        if not self.works:
            self.settled.set()


async def until_one_ends(*parts: Coroutine[Any, Any, None]) -> None:
    """Run them side by side until one ends, and end the others; raises what that one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(ended, key=lambda each: not isinstance(each.exception(), Refused)):  # the final word counts
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def load() -> float:
    """Processes that want to run, per processor, over the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
