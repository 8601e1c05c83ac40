"""What lies between the hub and everybody else: connections that break, requests that get lost, poll by poll.

Within one connection messages keep their order, as on TCP; when it is cut, a part of what was under way still
arrives, and each side notices in its own time. Requests may be lost, doubled and overtaken by others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from handlers.worker_line import CLOSE_SESSION_GONE, Line
from hub import messages
from hub.errors import Forbidden, HubError
from hub.messages import BadMessage

from .kernel import Life, Promise, Thread

if TYPE_CHECKING:
    from hub.interface import Interface

    from .hub import SimulatedHub
    from .workers import Instance
    from .world import World

T = TypeVar("T")
BROKE = 1006  # the close code of a connection that just ended
PATIENCE_S = 6.0  # seconds after which a client gives up a request


class Lost(Exception):
    """No answer: the request may have done what it should, or not."""


class Refused(Exception):
    """An answer that is final: do not come back as you are."""


class Lane:
    """One direction of a connection: whole messages in order; the last is the close code.

    Where it `echoes`, messages may come a second time, as behind a proxy that repeats what it is not sure of.
    """

    def __init__(
        self, world: World, life: Life, receive: Callable[[bytes | int], None], echoes: bool = False,
    ) -> None:
        self.world = world
        self.life = life
        self.receive = receive
        self.queue: deque[bytes] = deque()
        self.cut = False
        self.echoes = echoes

    def put(self, data: bytes) -> None:
        if not self.cut:
            self.queue.append(data)
            self.world.kernel.after(self.world.network.latency(), self.arrive, self.life)

    def arrive(self) -> None:
        if self.queue:
            data = self.queue.popleft()
            self.receive(data)
            if self.echoes and self.world.fault("echoes") and self.world.chance(0.1):
                self.world.seen["message came twice"] += 1
                self.world.kernel.after(self.world.network.latency(), partial(self.echo, data), self.life)

    def echo(self, data: bytes) -> None:
        if not self.cut:
            self.receive(data)

    def end(self, keep: int, seconds: float, code: int = BROKE) -> None:
        """Nothing more goes in; the first `keep` messages under way arrive, and after `seconds` the end is noticed."""
        if self.cut:
            return
        self.cut = True
        while len(self.queue) > keep:
            self.queue.pop()
        self.world.kernel.after(seconds, partial(self.finish, code), self.life)

    def finish(self, code: int) -> None:
        while self.queue:
            self.receive(self.queue.popleft())
        self.receive(code)


class Wire:
    """A websocket between one worker instance and the hub."""

    def __init__(self, world: World, hub: SimulatedHub, instance: Instance, interface: Interface) -> None:
        self.world = world
        self.hub = hub
        self.instance = instance
        self.line = Line(hub.rooms, interface, self)
        self.up = Lane(world, hub.life, self.hub_hears, echoes=True)
        self.down = Lane(world, instance.life, self.worker_hears, echoes=True)
        world.network.wires.append(self)

    # the hub's side, which is what hub/runner.py calls a transport

    def write(self, data: bytes) -> None:
        self.world.watch.told(self.hub, self.instance.worker.name, data)
        self.down.put(data)

    def close(self, code: int, reason: str) -> None:
        self.world.tell("closes the connection of %s: %d %s", self.instance.life.name, code, reason)
        self.down.end(len(self.down.queue), self.world.network.latency(), code)
        self.up.end(0, self.world.network.latency())

    def hub_hears(self, item: bytes | int) -> None:
        if isinstance(item, int):
            self.line.left()
            return
        try:
            message = messages.decode(messages.from_worker, item)
            self.world.tell("<- %s  %s", self.instance.life.name, item.decode())
            self.line.take(message)
        except BadMessage as error:
            self.write(messages.encode(messages.Problem(code="bad_message", detail=str(error))))
        except Forbidden as error:
            self.close(4403, error.detail)
        except HubError as error:
            self.close(CLOSE_SESSION_GONE, error.detail)

    # the worker's side

    def send(self, message: messages.Message) -> None:
        self.up.put(messages.encode(message))

    def worker_hears(self, item: bytes | int) -> None:
        if isinstance(item, int):
            self.instance.connection_ended(self, item)
        else:
            self.instance.heard(self, item)

    def hang_up(self) -> None:
        """The worker closes it, or its process has gone."""
        self.up.end(len(self.up.queue), self.world.network.latency())
        self.down.end(0, 0.0)

    def cut_by_chance(self) -> None:
        """It breaks: some of what was under way is lost, and a side may not notice for long."""
        random, pick = self.world.random, self.world.random.choice
        self.up.end(random.randint(0, len(self.up.queue)), pick((0.0, 0.1, 2.0, 10.0)))
        self.down.end(random.randint(0, len(self.down.queue)), pick((0.0, 0.1, 2.0, 6.0)))


class Network:
    """Everything that is under way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wires: list[Wire] = []

    def latency(self) -> float:
        """Seconds that a message takes one way."""
        world = self.world
        if world.fault("slow_network") and world.chance(0.05):
            return world.random.uniform(0.1, 3.0)
        return world.random.uniform(0.001, 0.03)

    def standing(self) -> list[Wire]:
        """The connections that have not ended on both sides."""
        self.wires = [wire for wire in self.wires if not (wire.up.cut and wire.down.cut)]
        return self.wires

    def hub_gone(self, hub: SimulatedHub) -> None:
        for wire in self.standing():
            if wire.hub is hub:
                wire.up.end(0, 0.0)
                wire.down.end(self.world.random.randint(0, len(wire.down.queue)), self.world.random.choice((0.0, 0.3, 2.0)))

    def permitted(self, name: str) -> Interface:
        """What a token opens.

        Raises:
            Refused: nothing.
        """
        from hub.interface import Interface

        interface = self.world.disk.read(Interface, name)
        if interface is None or not interface.enabled:
            raise Refused("this token opens nothing")
        return interface

    async def dial(self, instance: Instance) -> Wire:
        """A new connection for a worker.

        Raises:
            Lost: there is none to be had now.
            Refused: there will be none.
        """
        await self.world.kernel.sleep(self.latency())
        hub = self.world.hub
        if hub is None or not hub.ready:
            raise Lost("connection refused")
        return Wire(self.world, hub, instance, self.permitted(instance.worker.name))

    async def ask(self, handle: Callable[..., Awaitable[T]], *facts: Any, **named: Any) -> T:
        """One HTTP request and its answer.

        Raises:
            Lost: there was no answer.
            HubError: the hub's refusal.
        """
        world, kernel = self.world, self.world.kernel
        answer: Promise[T] = Promise(kernel)
        kernel.after(PATIENCE_S, partial(self.fail, answer))
        for _ in range(2 if world.fault("lost_requests") and world.chance(0.1) else 1):
            if world.fault("lost_requests") and world.chance(0.1):
                world.seen["request lost"] += 1
            else:
                kernel.after(self.latency(), partial(self.enter, answer, handle, facts, named), kernel.world)
        return await answer

    def enter(
        self, answer: Promise[T], handle: Callable[..., Awaitable[T]], facts: tuple[Any, ...], named: dict[str, Any],
    ) -> None:
        """A request reaches the hub, if there is one."""
        world, kernel = self.world, self.world.kernel
        hub = world.hub
        if hub is None or not hub.ready:
            kernel.after(self.latency(), partial(self.fail, answer))
            return

        def done(thread: Thread[T]) -> None:
            if thread.error is not None and not isinstance(thread.error, HubError):
                world.watch.complain(f"a request ends with {thread.error!r}")
            if world.fault("lost_requests") and world.chance(0.1):
                world.seen["answer lost"] += 1
            else:
                kernel.after(self.latency(), partial(self.deliver, answer, thread), kernel.world)

        work: Any = handle(hub, *facts, **named)
        kernel.start(work, hub.life).callbacks.append((hub.life, done))

    def deliver(self, answer: Promise[T], thread: Thread[T]) -> None:
        if not answer.finished:
            answer.set_exception(thread.error) if thread.error is not None else answer.set_result(thread.value)

    def fail(self, answer: Promise[T]) -> None:
        if not answer.finished:
            answer.set_exception(Lost("no answer"))
