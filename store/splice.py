"""Bytes that go from a socket to a file inside the kernel: splice(2), through a pipe.

Owns the pipe, which holds nothing between two calls. Knows neither what the bytes are nor where they belong.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ROOM = 1024 * 1024  # bytes in the pipe; Linux lets everybody have so many
PIECE = 64 * 1024


kept = threading.local()  # each thread's pipe, which it uses again


@contextmanager
def empty_pipe() -> Iterator[Pipe]:
    """A pipe with nothing in it, for the block."""
    pipe: Pipe = getattr(kept, "pipe", None) or Pipe()
    kept.pipe = None
    try:
        yield pipe
    except BaseException:
        pipe.close()  # something may have been left in it
        raise
    kept.pipe = pipe


class Pipe:
    """The way from a socket to a file."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # a system with many pipes gives out small ones
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, ROOM)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give back the descriptors; harmless when called twice."""
        if self.out < 0:
            return
        os.close(self.out)
        os.close(self.into)
        self.out = self.into = -1

    def fill(self, source: int, most: int, more: bool) -> int:
        """Take what the non-blocking socket `source` has, up to `most` bytes; 0 where it has nothing for now.

        With `more`, where something has been taken already, the end is as good as nothing for now: it comes again.

        Raises:
            EOFError: the other end has hung up.
            NotImplementedError: the system does not splice from this.
        """
        try:
            count = os.splice(source, self.into, min(most, ROOM), flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return 0
        except ConnectionError:
            count = 0
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise EOFError from error
            raise NotImplementedError from error
        if not count and not more:
            raise EOFError
        return count

    def empty(self, file: int, count: int) -> None:
        """Append the `count` bytes that are in the pipe to `file`, at its position.

        Raises:
            OSError: the disk does not take them.
        """
        while count:
            try:
                count -= os.splice(self.out, file, count, flags=os.SPLICE_F_MOVE)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                count -= self.copy(file, count)

    def copy(self, file: int, count: int) -> int:
        """What empty() does, for a file system that does not splice."""
        piece = memoryview(os.read(self.out, min(count, PIECE)))
        count = len(piece)
        while piece:
            piece = piece[os.write(file, piece):]
        return count
