"""Turns for those who touch the same thing: asyncio locks by name, made when needed and gone when unused."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """Lets those who move many bytes at a time pass one by one, each in another turn of the event loop.

    However many there are, everybody else waits for one piece at the most before anything happens for them.
    """

    def __init__(self) -> None:
        self._gate = asyncio.Lock()

    async def next(self) -> None:
        """Wait for the next turn that is free; what is to be moved is moved before anything else is awaited."""
        async with self._gate:
            await asyncio.sleep(0)


class Locks:
    """One lock for each name that somebody holds or waits for."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """The lock of this name, for `async with`."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock
