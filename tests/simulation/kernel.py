"""Simulated time, and processes that can be paused and killed between any two of their steps.

Owns the order in which everything happens. Coroutines run on it as they would on asyncio, of which `Loop` offers as
much as hub/runner.py needs. Never decides what happens.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Action = Callable[[], object]


class Life:
    """A process of an operating system: what it was about to do waits while it is paused, and is lost when it dies."""

    __slots__ = ("name", "alive", "paused_until")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused_until = 0.0


class Promise(Generic[T]):
    """Something that will be known: what asyncio.Future is."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.finished = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.callbacks: list[tuple[Life, Callable[[Any], object]]] = []

    def __await__(self) -> Any:
        if not self.finished:
            yield self
        return self.result()

    def done(self) -> bool:
        return self.finished

    def cancelled(self) -> bool:
        return isinstance(self.error, asyncio.CancelledError)

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[no-any-return]

    def exception(self) -> BaseException | None:
        return self.error

    def set_result(self, value: T) -> None:
        self.value = value
        self.finish()

    def set_exception(self, error: BaseException) -> None:
        self.error = error
        self.finish()

    def finish(self) -> None:
        assert not self.finished, "a promise is kept once"
        self.finished = True
        for life, callback in self.callbacks:
            self.kernel.after(0.0, partial(callback, self), life)
        self.callbacks.clear()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Have something called afterwards, by the process that asks for it."""
        if self.finished:
            self.kernel.after(0.0, partial(callback, self))
        else:
            self.callbacks.append((self.kernel.life, callback))


class Thread(Promise[T]):
    """A coroutine that runs in a process: what asyncio.Task is."""

    def __init__(self, kernel: Kernel, work: Coroutine[Any, Any, T], life: Life) -> None:
        super().__init__(kernel)
        self.work = work
        self.life = life
        self.waits_for: object = None
        kernel.threads.append(self)
        kernel.after(0.0, self.resume, life)

    def resume(self, woken_by: object = None) -> None:
        """Go on until the coroutine waits for something else."""
        if not self.finished and woken_by is self.waits_for:
            self.advance(None)

    def cancel(self) -> None:
        """Interrupt it where it waits."""
        if not self.finished:
            self.waits_for = self
            self.kernel.after(0.0, partial(self.advance, asyncio.CancelledError()), self.life)

    def advance(self, error: BaseException | None) -> None:
        if self.finished:
            return
        try:
            wanted = self.work.send(None) if error is None else self.work.throw(error)
        except StopIteration as end:
            self.set_result(end.value)
        except asyncio.CancelledError as end:
            self.set_exception(end)
        except Exception as failure:
            if not self.callbacks:
                raise  # nobody would ever hear of it
            self.set_exception(failure)
        else:
            self.waits_for = wanted
            wanted.callbacks.append((self.life, self.resume))


class Kernel:
    """The queue of everything that is going to happen; `now` is seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self.world = Life("world")
        self.life = self.world
        self.queue: list[tuple[float, int, Life, Action]] = []
        self.threads: list[Thread[Any]] = []

    def after(self, seconds: float, action: Action, life: Life | None = None) -> None:
        """Have something done later by a process: by the one that runs now, if none is named."""
        self.count += 1
        heapq.heappush(self.queue, (self.now + seconds, self.count, life or self.life, action))

    def start(self, work: Coroutine[Any, Any, T], life: Life | None = None) -> Thread[T]:
        """Run a coroutine in a process: in the one that runs now, if none is named."""
        return Thread(self, work, life or self.life)

    def sleep(self, seconds: float) -> Promise[None]:
        woken: Promise[None] = Promise(self)
        self.after(seconds, partial(woken.set_result, None))
        return woken

    def step(self) -> Life:
        """Let the next thing happen; whose it was."""
        while True:
            at, _, life, action = heapq.heappop(self.queue)
            if not life.alive:
                continue
            if life.paused_until > at:
                self.count += 1
                heapq.heappush(self.queue, (life.paused_until, self.count, life, action))
                continue
            self.now = at
            self.life = life
            action()
            self.life = self.world
            return life

    def wake(self, life: Life, at: float) -> None:
        """A pause ends earlier than was said: what waits for its end comes then, before what comes later."""
        if at < life.paused_until:
            waiting, life.paused_until = life.paused_until, at
            self.queue = [(at if whose is life and due == waiting else due, count, whose, action)
                          for due, count, whose, action in self.queue]
            heapq.heapify(self.queue)

    def close(self) -> None:
        """Nothing happens any more: end what still waits."""
        for thread in self.threads:
            if not thread.finished:
                thread.work.close()
        self.queue.clear()


class Event:
    """What asyncio.Event is."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.happened: Promise[None] = Promise(kernel)

    def set(self) -> None:
        if not self.happened.finished:
            self.happened.set_result(None)

    def clear(self) -> None:
        if self.happened.finished:
            self.happened = Promise(self.kernel)

    async def wait(self) -> None:
        await self.happened


class Loop:
    """As much of the asyncio module as hub/runner.py asks for, in simulated time."""

    CancelledError = asyncio.CancelledError

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sleep = kernel.sleep
        self.ensure_future = kernel.start
        self.create_task = kernel.start
        self.call_soon = partial(kernel.after, 0.0)

    def get_running_loop(self) -> Loop:
        return self

    def create_future(self) -> Promise[Any]:
        return Promise(self.kernel)

    def Event(self) -> Event:
        return Event(self.kernel)

    def shield(self, promise: Promise[T]) -> Promise[T]:
        return promise

    async def wait(self, promises: Iterable[Promise[Any]], timeout: float | None = None) -> None:
        """Wait until all are known, or time is over."""
        over: Promise[None] = Promise(self.kernel)
        pending = [promise for promise in promises if not promise.finished]
        left = len(pending)

        def one(_: object) -> None:
            nonlocal left
            left -= 1
            end() if not left else None

        def end() -> None:
            if not over.finished:
                over.set_result(None)

        for promise in pending:
            promise.add_done_callback(one)
        if timeout is not None:
            self.kernel.after(timeout, end)
        if pending:
            await over

    async def wait_for(self, promise: Promise[T], timeout: float) -> T:
        await self.wait([promise], timeout)
        if not promise.finished:
            raise TimeoutError
        return promise.result()

    async def gather(self, *promises: Promise[Any], return_exceptions: bool = False) -> list[Any]:
        await self.wait(promises)
        return [promise.error or promise.value for promise in promises]
