"""One interface service's presence: what it can do, what it holds, and what was said in which order.

Owns the numbering of messages in both directions, the outbox that survives a lost connection, and the slots.
Never touches a socket and never decides which task goes where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from .media import Facts
from .messages import Assign, Hello, Message, Model, encode
from .task import Task
from .verdict import misfit

OUTBOX = 1024  # messages kept for a worker that does not acknowledge
REST_S, LONGEST_REST_S = 5.0, 60.0  # seconds without offers after one was not answered: twice as long each time


class Phase(StrEnum):
    """ready: takes offers. draining: finishes what it holds. gone: no longer counted on."""

    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class Offered(Struct, frozen=True):
    """A slot held for one task until the worker answers or `deadline` (seconds) passes."""

    task_id: str
    deadline: float


class WorkerSession:
    """The life of one worker instance, over any number of connections.

    `offers` maps offer ids to what was offered, `leases` maps lease ids to task ids; both fill slots. `untold` are
    the leases whose assignment the worker has not acknowledged: it may not know yet that it holds them. `stopping`
    maps leases that are over to when (seconds) their slots are taken to be free, unless the worker says so before.
    `warm` is the model that it ran last, and so has loaded. `paused` is an admin's word. Before `rests_until` (seconds)
    it gets no offers, since it left one unanswered; `rest_s` is how long it rests. `displaced` are earlier instances,
    whose place this one has taken.
    """

    def __init__(self, id: str, hello: Hello, now: float) -> None:
        self.id = id
        self.worker = hello.worker
        self.instance = hello.instance
        self.hardware: dict[str, Any] = dict(hello.hardware)
        self.phase = Phase.READY
        self.attached = True
        self.heard_at = now
        self.offers: dict[str, Offered] = {}
        self.leases: dict[str, str] = {}
        self.untold: set[str] = set()
        self.stopping: dict[str, float] = {}
        self.warm = ""
        self.paused = False
        self.rest_s = self.rests_until = 0.0
        self.displaced: tuple[str, ...] = ()
        self.seen = hello.n
        self.last_number = self.acknowledged = 0
        self.outbox: deque[Message] = deque()
        self.models: dict[str, Model] = {}
        self.slots = 1
        self.describe(hello)

    def describe(self, hello: Hello) -> None:
        """Take over what the worker says it can do."""
        self.models = {model.name: model for model in hello.models}
        self.slots = hello.slots
        self.rest_s = self.rests_until = 0.0

    @property
    def usable(self) -> bool:
        """Whether the worker takes offers at all: connected, ready, not paused."""
        return self.phase is Phase.READY and self.attached and not self.paused

    @property
    def free(self) -> int:
        """Slots that can be offered now."""
        if not self.usable:
            return 0
        return max(0, self.slots - len(self.offers) - len(self.leases) - len(self.stopping))

    def takes(self, model: str, facts: Facts) -> bool:
        """Whether the worker has this model for a video of that size."""
        offer = self.models.get(model)
        return offer is not None and misfit(offer, facts) is None

    def rest(self, now: float) -> None:
        """The worker left an offer without an answer: perhaps it is not able to, so others are asked meanwhile."""
        self.rest_s = min(max(REST_S, 2 * self.rest_s), LONGEST_REST_S)
        self.rests_until = now + self.rest_s

    def begin(self, lease_id: str, task: Task) -> None:
        """The worker gets a lease, and loads that task's model for it."""
        self.leases[lease_id] = task.id
        self.rest_s = 0.0
        self.untold.add(lease_id)
        self.warm = task.model

    def stopped(self, slots_free: int, verifying: Container[str]) -> None:
        """The worker says how many slots are free: so many of those that it should stop are still at work.

        Tasks whose result is `verifying` fill a slot here, and none there.
        """
        at_work = [id for id, task in self.leases.items() if id not in self.untold and task not in verifying]
        working = self.slots - slots_free - len(at_work)
        while len(self.stopping) > max(0, working):
            del self.stopping[next(iter(self.stopping))]

    def post(self, message: Message) -> bytes:
        """Number a message, keep it until it is acknowledged, and give its bytes."""
        self.last_number += 1
        numbered = msgspec.structs.replace(message, n=self.last_number, ack=self.seen)
        self.outbox.append(numbered)
        if len(self.outbox) > OUTBOX:
            self.drop_first()
        return encode(numbered)

    def accept(self, message: Message, now: float) -> bool:
        """Note that a message arrived; False if it is a repeat of one that was handled before."""
        self.heard_at = now
        self.acknowledge(message.ack)
        if message.n <= self.seen:
            return False
        self.seen = message.n
        return True

    def acknowledge(self, number: int) -> None:
        """Forget what the worker has handled."""
        self.acknowledged = max(self.acknowledged, min(number, self.last_number))
        while self.outbox and self.outbox[0].n <= number:
            self.drop_first()

    def drop_first(self) -> None:
        """The oldest message is not kept any more."""
        message = self.outbox.popleft()
        if isinstance(message, Assign):
            self.untold.discard(message.lease)

    def knows(self, lease_id: str) -> bool:
        """Whether the worker was told of a lease that it holds, be it that the message is still on its way."""
        sent = any(isinstance(message, Assign) and message.lease == lease_id for message in self.outbox)
        return lease_id in self.leases and (sent or lease_id not in self.untold)

    def outdated(self, hello: Hello) -> bool:
        """Whether a hello comes late: its sender has handled more by now than it knew of when it said this."""
        return hello.last_seen < self.acknowledged

    def missed(self, last_seen: int) -> list[bytes]:
        """What a returning worker has not seen, in order, to be sent again."""
        self.acknowledge(last_seen)
        return [encode(msgspec.structs.replace(message, ack=self.seen)) for message in self.outbox]
