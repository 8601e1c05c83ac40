"""Bytes that go from sockets to files, through memory once and round the kernel's page cache (O_DIRECT in open(2)).

Owns the threads that receive and their buffers, which no two uploads have at the same time. Knows neither what the
bytes are nor where they belong.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import select
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import cycle
from time import monotonic
from typing import ParamSpec, TypeVar

THREADS = 3  # that receive: while some wait for the disk or for a hash, others fill their buffers; more are in the way
BUFFER = 2 * 1024 * 1024  # bytes; each is handed to a thread for each job, which with smaller ones costs more
DEPTH = 2  # buffers of a thread: one fills while the other is written and hashed; more only hold up the loop
JOBS = 4  # that can be done with a piece: it is written and hashed, in up to three ways
BLOCK = 4096  # bytes of which a disk takes whole ones only, and of a page of memory
WORTH = BUFFER // 2  # bytes that are written at once for fewer go through the page cache, which gathers them
TURN = 32 * BUFFER  # bytes after which a thread turns to another upload,
TURN_S = 0.06  # and seconds
PATIENCE_MS = 1  # for which a thread waits for a sender who has just filled a buffer

Job = Callable[[int, memoryview], None]
T = TypeVar("T")
P = ParamSpec("P")


class Seat:
    """What one receiving thread works with: its buffers, and a thread beside it for each job."""

    def __init__(self) -> None:
        self.buffers = [a_buffer() for _ in range(DEPTH)]
        self.beside = [ThreadPoolExecutor(1, "beside") for _ in range(JOBS)]


class InOrder:
    """A job that is done piece after piece, and not at all any more once it has failed."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job

    def __call__(self, at: int, piece: memoryview) -> None:
        job, self._job = self._job, None
        if job is not None:
            job(at, piece)
            self._job = job


class Drawer:
    """Threads that receive, and others beside them for what is done with full buffers while the next one fills."""

    def __init__(self) -> None:
        self._receiving = ThreadPoolExecutor(THREADS, "receiving")
        self._seats = [Seat() for _ in range(THREADS)]  # the free ones; made now, so that no upload adds to memory

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run `work` in a thread that may call draw()."""
        return asyncio.wrap_future(self._receiving.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for the threads; nothing can be submitted after that."""
        self._receiving.shutdown()
        for thread in (thread for seat in self._seats for thread in seat.beside):
            thread.shutdown()

    @property
    def idle(self) -> int:
        """How many threads receive nothing now."""
        return len(self._seats)

    def draw(self, source: int, most: int, at: int, jobs: Sequence[Job]) -> int:
        """Take what the non-blocking socket `source` has, up to `most` bytes or a turn; how many that was.

        Each of up to JOBS jobs is called with each piece and where it belongs in the file, the first at `at`: one piece
        after the other, each job at its own pace, while the next pieces are received.

        Raises:
            EOFError: the other end has hung up.
            Exception: what a job raises; it was not called with a later piece.
        """
        end, moved = monotonic() + TURN_S, 0
        steps = [InOrder(job) for job in jobs]
        under_way: deque[list[Future[None]]] = deque()
        with self._seat(under_way) as seat:
            for buffer in cycle(seat.buffers):
                if len(under_way) == DEPTH:
                    settle(under_way.popleft())
                start = (at + moved) % BLOCK  # what is a whole block in the file is one in memory
                piece = buffer[start:start + most - moved]
                count = receive(source, piece, moved > 0)
                if not count:
                    break
                beside = zip(seat.beside[:len(steps)], steps, strict=True)
                under_way.append([thread.submit(step, at + moved, piece[:count]) for thread, step in beside])
                moved += count
                if count < len(piece) or moved >= TURN or monotonic() > end:
                    break
            while under_way:
                settle(under_way.popleft())
        return moved

    @contextmanager
    def _seat(self, used_by: Iterable[Collection[Future[None]]]) -> Iterator[Seat]:
        seat = self._seats.pop()
        try:
            yield seat
        finally:
            for jobs in used_by:
                wait(jobs)
            self._seats.append(seat)


def a_buffer() -> memoryview:
    """Memory that begins with a page, and that the system has given already."""
    memory = mmap.mmap(-1, BUFFER)
    memory.write(bytes(BUFFER))
    return memoryview(memory)


def settle(jobs: Collection[Future[None]]) -> None:
    """Wait for all; raises what one has raised."""
    wait(jobs)
    for job in jobs:
        job.result()


def is_readable(source: int) -> bool:
    """Whether a socket has, or gets within a moment, as much as it wakes anybody for (SO_RCVLOWAT in socket(7))."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(PATIENCE_MS))


def receive(source: int, room: memoryview, more: bool) -> int:
    """Take what the non-blocking socket `source` has and what follows without a pause; 0 where it has nothing for now.

    With `more` something has been taken already: only what is worth it is waited for, for a moment, and the end is as
    good as nothing, since it comes again.

    Raises:
        EOFError: the other end has hung up.
    """
    taken = 0
    if more and len(room) < WORTH:
        return 0
    while taken < len(room):
        try:
            count = os.readv(source, [room[taken:]])
        except BlockingIOError:
            if (more or taken) and is_readable(source):
                continue
            return taken
        except OSError:
            count = 0
        if not count:
            if not more and not taken:
                raise EOFError
            return taken
        taken += count
    return taken


def blocks_of(at: int, piece: memoryview) -> tuple[memoryview, memoryview]:
    """A piece that belongs at `at`, cut where its whole blocks begin that are worth going round the page cache.

    That is none of it where it is small or ends within a block, as what comes from a slow line does.
    """
    head = -at % BLOCK if len(piece) >= WORTH and (at + len(piece)) % BLOCK == 0 else len(piece)
    return piece[:head], piece[head:]


def write_all(file: int, piece: memoryview) -> None:
    """Write through the page cache. Raises OSError; its beginning may be there then."""
    while piece:
        piece = piece[os.write(file, piece):]


def write_direct(file: int, blocks: memoryview) -> int:
    """How many bytes were written round the page cache: 0 where the file system does not know how.

    Raises:
        OSError: the disk does not take them; their beginning may be there.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT)
        try:
            return os.write(file, blocks)
        finally:
            fcntl.fcntl(file, fcntl.F_SETFL, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return 0
