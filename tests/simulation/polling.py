"""Long polls: the same worker protocol in requests that may be lost, doubled and overtaken.

The hub's side uses the real lines and pickups of handlers/worker_line.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from handlers.worker_line import CLOSE_SESSION_GONE, Pickup
from hub import messages
from hub.errors import Conflict, Forbidden, HubError, Unavailable
from hub.messages import Hello, Message

from .hub import SimulatedHub
from .network import BROKE, Lost, Refused

if TYPE_CHECKING:
    from hub.interface import Interface

    from .workers import Instance
    from .world import World

WAIT_S, GAP_S, MOST = 1.5, 2.5, 20
Answer = tuple[str, list[bytes], int]


class Polling(Pickup):
    """The hub's side: connected while the worker asks, and for some seconds after."""

    def __init__(self, hub: SimulatedHub, interface: Interface) -> None:
        super().__init__(hub.rooms, interface)
        self.hub = hub
        self.asked = 0

    def heard(self, ack: int) -> None:
        super().heard(ack)
        self.line.attach()

    def silence(self, asked: int) -> None:
        if asked == self.asked:
            self.line.left()


async def poll(hub: SimulatedHub, interface: Interface, session: str, said: Sequence[bytes], ack: int) -> Answer:
    """POST /api/workers/poll: the session, what is due, and what the hub has handled."""
    words = [messages.decode(messages.from_worker, data) for data in said]
    greeting = bool(words) and isinstance(words[0], Hello)
    found = hub.transports.get(session)
    if greeting or not isinstance(found, Polling):
        pickup = Polling(hub, interface)
        pickup.line.session = "" if greeting else session
    else:
        pickup = found
    pickup.asked += 1
    if not greeting:
        pickup.heard(ack)
    for word in words:
        hub.world.tell("<- %s  (poll) %s", interface.id, messages.encode(word).decode())
        pickup.line.take(word)
    if pickup.line.stands and not pickup.due(1):
        pickup.wake()
        pickup.held = hub.world.loop.create_future()  # type: ignore[assignment]
        await hub.world.loop.wait([pickup.held], WAIT_S)  # type: ignore[list-item]
    hub.world.kernel.after(GAP_S, partial(pickup.silence, pickup.asked))
    if isinstance(pickup.ended, Forbidden | Unavailable):
        raise pickup.ended
    known = hub.core.sessions.get(pickup.line.session)
    due = pickup.due(MOST)
    for data in due:
        hub.world.watch.told(hub, interface.id, data)
    return pickup.line.session, due, known.seen if known is not None else 0


class Polls:
    """The worker's side: one request after the other, each with all that the hub has not acknowledged."""

    def __init__(self, world: World, instance: Instance) -> None:
        self.world = world
        self.instance = instance
        self.interface = world.network.permitted(instance.worker.name)
        self.hello: Message | None = None
        self.over = False

    def send(self, message: Message) -> None:
        """What is posted goes with the next request; hello is the first."""
        if isinstance(message, Hello):
            self.hello = message
            self.world.kernel.start(self.ask_forever(), self.instance.life)

    def hang_up(self) -> None:
        self.over = True

    def cut_by_chance(self) -> None:
        self.over = True
        self.instance.connection_ended(self, BROKE)

    async def ask_forever(self) -> None:
        session, failures = "", 0
        while not self.over:
            outbox = self.instance.outbox
            said = [self.hello] if self.hello is not None else list(outbox.messages)
            heard = outbox.heard if self.hello is None else 0
            try:
                answer = await self.world.network.ask(
                    poll, self.interface, session, [messages.encode(word) for word in said], heard,
                )
            except (Lost, Unavailable):
                failures += 1
                if failures > 3:
                    self.end(BROKE)
                await self.world.kernel.sleep(self.world.random.uniform(0.1, 1.0))
                continue
            except (Forbidden, Refused):
                self.end(4403)
                return
            except (Conflict, HubError):
                self.end(CLOSE_SESSION_GONE)
                return
            self.hello, failures = None, 0
            session = answer[0]
            self.take(answer)

    def take(self, answer: Answer) -> None:
        if not self.over:
            for data in answer[1]:
                self.instance.heard(self, data)
            self.instance.outbox.acknowledge(answer[2])

    def end(self, code: int) -> None:
        if not self.over:
            self.over = True
            self.instance.connection_ended(self, code)
