"""Blocking calls beside the event loop, in threads that never keep a process from ending.

Owns nothing but that bridge. The loop's own executor is no choice here: at exit it is waited for, and a transfer
may hang for as long as a dead network lets it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """What `call` returns or raises; when the waiting is cancelled, the call runs on and its outcome is dropped."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def succeed(value: T) -> None:
        if not outcome.done():
            outcome.set_result(value)

    def fail(error: BaseException) -> None:
        if not outcome.done():
            outcome.set_exception(error)

    def work() -> None:
        try:
            value = call()
        except BaseException as error:
            tell(loop, fail, error)
        else:
            tell(loop, succeed, value)

    threading.Thread(target=work, daemon=True).start()
    return await outcome


def tell(loop: asyncio.AbstractEventLoop, receive: Callable[[T], object], value: T) -> bool:
    """Call `receive(value)` in the loop, from any thread; False when that loop has ended."""
    try:
        loop.call_soon_threadsafe(receive, value)
    except RuntimeError:
        return False
    return True
