"""The hashes of a file that grows: of bytes that are still in memory, else in threads behind whoever writes it.

Owns how far each hash is, and from where it gets its next bytes. Never writes, and knows nothing of how the bytes came.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from hub.errors import Unavailable

from . import drawing
from .disk import disk_errors

BUFFER = 1024 * 1024  # bytes that are read and hashed at a time: each is two waits for Python's lock
TURN = 16 * 1024 * 1024  # bytes after which a thread looks at another file
NEAR = drawing.TURN + 2 * BUFFER  # bytes that are read to get where the next are in memory: more than a turn brings
ALGORITHMS = ("sha256", "md5")
WORTH = 4 * 1024 * 1024  # bytes for which a thread begins before the end has come

Submit = Callable[..., asyncio.Future[None]]


@dataclass(frozen=True, slots=True)
class Digest:
    """What was received: hashes in lower-case hex, None where one was not asked for; `size` in bytes."""

    sha256: str
    md5: str | None
    size: int


class Running:
    """One hash, of a file's bytes from `start` up to `done`."""

    def __init__(self, algorithm: str, start: int = 0) -> None:
        self.done = start
        self.over = False  # nobody wants it any more
        self.name = algorithm
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self._lock = Lock()

    def copy(self) -> Running:
        """The same, going its own way from here."""
        with self._lock:
            twin = Running(self.name)
            twin.done, twin._hash = self.done, self._hash.copy()
        return twin

    def digest(self) -> bytes:
        return self._hash.digest()

    def advance(self, path: Path, until: Callable[[], int]) -> None:
        """Hash what the file has up to `until`, which may grow meanwhile."""
        with disk_errors():
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                whole = memoryview(bytearray(BUFFER))
                while not self.over:
                    at = self.done
                    if not (count := os.preadv(file, [whole[:max(0, until() - at)]], at)):
                        break
                    self.take(at, whole[:count])
            finally:
                os.close(file)

    def take(self, at: int, piece: memoryview) -> None:
        """Hash a piece of the file that begins at `at`, if this is where the hash is."""
        with self._lock:
            if self.done == at:
                self._hash.update(piece)
                self.done += len(piece)


class Hashes:
    """Those of the file at `path`, and of a chunk of it while one is held; `submit` runs work in threads."""

    def __init__(self, path: Path, submit: Submit, algorithms: Collection[str]) -> None:
        self._path = path
        self._submit = submit
        self._until = 0
        self._running = [Running(algorithm) for algorithm in algorithms]
        self._chunk: Running | None = None
        self._tasks: dict[Running, asyncio.Task[None]] = {}

    def copy(self) -> Hashes:
        """The same of what is hashed by now, without the held chunk."""
        twin = Hashes(self._path, self._submit, ())
        twin._running = [running.copy() for running in self._running]
        return twin

    def hold(self, algorithm: str, start: int) -> None:
        """Hash what follows the first `start` bytes on its own, too."""
        self._chunk = Running(algorithm, start)

    def release(self) -> None:
        """Forget the held chunk, not its bytes."""
        self._chunk = None

    def at(self, position: int) -> list[drawing.Job]:
        """What to call with the pieces that come from `position` on, while they are in memory; in a thread.

        A hash that is far behind, or cannot be brought up, is left to follow().
        """
        for running in self._all():
            if 0 < position - running.done <= NEAR:
                with suppress(Unavailable):
                    running.advance(self._path, lambda: position)
        return [running.take for running in self._all() if running.done == position]

    def follow(self, until: int, worth: int = WORTH) -> None:
        """The file has `until` bytes now: hash them without being waited for, as soon as there are some."""
        self._until = until
        for running in self._all():
            if running.done + worth <= until and running not in self._tasks:
                self._tasks[running] = task = asyncio.create_task(self._advance(running))
                task.add_done_callback(lambda _, running=running: self._tasks.pop(running))  # type: ignore[misc]

    async def reach(self, until: int) -> None:
        """Wait until all of the first `until` bytes are hashed.

        Raises:
            Unavailable: they cannot be read.
        """
        for _ in range(2):  # what ran already may have seen an earlier end
            self.follow(until, 1)
            await asyncio.gather(*self._tasks.values())
        if any(running.done != until for running in self._all()):
            raise Unavailable("the disk does not give back what it took")

    async def stop(self) -> None:
        """Hash no more; after this nothing has the file open."""
        for running in self._all():
            running.over = True
        await asyncio.gather(*self._tasks.values())

    def digest(self) -> Digest:
        """What is hashed by now; of the whole file, once reach() is done."""
        made = {running.name: running.digest().hex() for running in self._running}
        return Digest(made["sha256"], made.get("md5"), self._until)

    def chunk(self) -> bytes:
        """The hash of the held chunk, once reach() is done."""
        assert self._chunk is not None
        return self._chunk.digest()

    def _all(self) -> list[Running]:
        return [*self._running, *([self._chunk] if self._chunk else [])]

    async def _advance(self, running: Running) -> None:
        """Follow the file's end; whoever waits in reach() sees by `done` whether that was possible."""
        before = -1
        while before < running.done < self._until:
            before = running.done
            try:
                await self._submit(running.advance, self._path, lambda end=before + TURN: min(self._until, end))
            except Unavailable:
                return
