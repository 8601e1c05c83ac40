"""Turns for those who touch the same thing: locks by name, and who uses an input while another would delete it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from hub.errors import Conflict, NotFound


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


class Inputs:
    """Files that tasks are being made of, and files that are being deleted: never the same at the same time.

    From the first look at a file to the moment in which the task with it is stored, nobody else can know of the task.
    """

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._going: set[str] = set()

    @contextmanager
    def used(self, ids: Collection[str]) -> Iterator[None]:
        """A task is made of these files.

        Raises:
            NotFound: one of them is being deleted.
        """
        if self._going.intersection(ids):
            raise NotFound("this file is being deleted")
        self._used.update(ids)
        try:
            yield
        finally:
            self._used.subtract(ids)
            self._used = +self._used

    @contextmanager
    def going(self, id: str) -> Iterator[None]:
        """A file is being deleted.

        Raises:
            Conflict: code in_use: a task is just being made of it.
            NotFound: it is being deleted already.
        """
        if self._used[id]:
            raise Conflict("a task is just being made of this", code="in_use")
        if id in self._going:
            raise NotFound("this file is being deleted")
        self._going.add(id)
        try:
            yield
        finally:
            self._going.discard(id)
