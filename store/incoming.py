"""One file that is coming in: where its next bytes go, how many of them survive a power cut, and what they hash to.

Owns the order of writes and syncs behind the offset that a client is told. Never decides whether bytes are wanted.

    <upload id>         the bytes; after a crash as many of them count as are there then
    <upload id>.hold    while a chunk comes in that counts as a whole or not at all: the size before it
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hub.errors import DiskFull, NotFound, Unavailable
from hub.media import Purpose

from .disk import disk_errors, sync_folder, write_whole
from .hashes import Digest, Hashes

if TYPE_CHECKING:
    from .files import Files

PIECE = 256 * 1024  # bytes that one thread call writes and hashes; while it does, the next piece fills
CATCH_UP = 4 * PIECE  # bytes of an earlier life that are hashed beside each piece
HOLD = ".hold"

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Arrived:
    """What an earlier life left of an upload: `size` in bytes, `at` when the last came (seconds since the epoch)."""

    size: int
    at: float


class Incoming:
    """One file that is coming in, made by Files.receive; its methods are awaited one after the other.

    `path` is where its bytes are, `size` how many were given to write(), `durable` how many survive a power cut. Every
    method may raise DiskFull, or Unavailable where the disk itself fails. After that the file is back at its durable
    bytes (gone, if there are none), `size` says so, and writing may go on from there.

    A faster path than write() asks descriptor() for the file, positioned behind the last byte, appends to it there by
    whatever means, and reports to moved() how many bytes it has appended, before anything else is called; an OSError
    of its own goes to failed(). Whoever hashes behind it reads what was appended from the file. Nothing else changes
    for it: hold(), sync(), pause(), finish() and discard() are called as after write().
    """

    def __init__(self, files: Files, path: Path, offset: int = 0) -> None:
        self.path = path
        self.size = offset
        self.durable = offset
        self._files = files
        self._buffer = bytearray()
        self._step: asyncio.Future[Any] | None = None
        self._synced = False  # whether nothing has come since the last sync
        self._file = -1
        self._digest: Digest | None = None
        self._discarded = False
        self._mark = 0  # where the held chunk begins
        self._held: Hashes | None = None  # of what is before it
        self._check: hashlib._Hash | None = None
        self._hashes = Hashes()

    # --- bytes come ---------------------------------------------------------------------------------------------

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a copy of `chunk`; waits for the disk only when it is a whole piece behind.

        Raises:
            NotFound: it was discarded meanwhile.
        """
        self._digest, self._synced = None, False
        whole = memoryview(chunk)
        for start in range(0, len(whole), PIECE):
            part = whole[start:start + PIECE]
            self._buffer += part
            self.size += len(part)
            if len(self._buffer) >= PIECE:
                await self._settle()
                if self._discarded:
                    raise NotFound("this upload is gone")
                self._step = self._files.submit(self._append, self._taken())

    async def append(self, source: Path) -> None:
        """Append all of another file.

        Raises:
            NotFound: code upload_gone: it is not there.
        """
        try:
            file = await self._files.submit(os.open, source, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound("a part is gone", code="upload_gone") from None
        try:
            while piece := await self._files.submit(os.read, file, PIECE):
                await self.write(piece)
        finally:
            os.close(file)

    async def descriptor(self) -> int:
        """The open file, positioned behind all that was written, for a path that is faster than write()."""
        self._digest, self._synced = None, False
        await self._flush()
        await self._do(self._open)
        return self._file

    def moved(self, count: int) -> None:
        """A faster path has appended `count` bytes."""
        self.size += count

    async def failed(self, error: OSError) -> None:
        """A faster path could not append: back to the durable bytes.

        Raises:
            DiskFull, Unavailable: always, as write() would have.
        """
        await self._do(self._fail, error)

    async def sync(self) -> int:
        """Make everything written so far survive a power cut; the durable size in bytes."""
        await self._flush()
        await self._settle()
        if self._synced:
            return self.durable
        await self._do(self._make_durable)
        self._synced = True
        self.size = self.durable + len(self._buffer)
        return self.durable

    async def pause(self) -> int:
        """Sync and let go of the descriptor, which write() opens again; the durable size in bytes."""
        await self.sync()
        self._let_go()
        return self.durable

    async def recover(self) -> int:
        """After a crash: what is there counts, but for a held chunk, and is durable now; the size in bytes."""
        self.size = self.durable = await self._do(self._recover)
        self._synced = self.durable > 0
        return self.durable

    # --- a chunk that counts as a whole or not at all -----------------------------------------------------------

    async def hold(self, algorithm: str | None = None) -> None:
        """A chunk begins; drop() would undo it. Everything before it is durable.

        With an `algorithm` (sha1, sha256, md5) the chunk is hashed for check(), and a crash undoes it too.
        """
        await self._settle()
        if self._check is not None:
            await self._do(self._forget_hold)
            self._check = None
        self._mark, self._held = self.durable, self._hashes.copy()
        if algorithm is not None:
            self._check = hashlib.new(algorithm, usedforsecurity=False)
            await self._do(self._remember_hold)

    @property
    def checked(self) -> bool:
        """Whether a chunk is held that counts as a whole or not at all."""
        return self._check is not None

    async def check(self) -> bytes:
        """The hash of the held chunk, once it is synced."""
        assert self._check is not None
        await self._do(self._hash_the_rest)
        return self._check.digest()

    async def keep(self) -> None:
        """The held chunk, synced, counts from now on."""
        self._held = None
        if self._check is not None:
            await self._do(self._forget_hold)
            self._check = None

    async def restart(self) -> None:
        """Forget everything that has come."""
        self._mark, self._held = 0, Hashes()
        await self.drop()

    async def drop(self) -> None:
        """Forget the held chunk."""
        with suppress(DiskFull, Unavailable):
            await self._settle()
        self._buffer.clear()
        await self._do(self._cut, self._mark)
        self.size = self.durable = self._mark
        self._hashes = self._held or Hashes()
        await self.keep()

    # --- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> Digest:
        """Sync, then the hashes of it all; the file stays at `path` until it is discarded."""
        if self._digest is None:
            await self.sync()
            await self._do(self._hash_the_rest)
            self._digest = self._hashes.digest()
            self._let_go()
        return self._digest

    async def seal(self, purpose: Purpose) -> Path:
        """Give it its final place, which is returned; of equal contents only one stays on disk.

        Until discard() the bytes are at `path` as well, so that a crash before their record is stored loses nothing.
        """
        digest = await self.finish()
        final = self._files.path(purpose, digest.sha256)
        await self._do(self._files.move_in, self.path, final)
        return final

    async def discard(self) -> None:
        """Remove its bytes here; what was sealed stays. Harmless when called twice."""
        self._discarded = True
        with suppress(DiskFull, Unavailable):
            await self._settle()
        self._buffer.clear()
        self._let_go()
        await self._files.submit(self._unlink)

    # --- steps, one after the other -----------------------------------------------------------------------------

    def _taken(self) -> bytearray:
        piece, self._buffer = self._buffer, bytearray()
        return piece

    async def _flush(self) -> None:
        await self._settle()
        if self._buffer:
            self._step = self._files.submit(self._append, self._taken())

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One step in a thread; the steps of one file never overlap."""
        await self._settle()
        self._step = self._files.submit(work, *args, **kwargs)
        result: T = await self._settle()
        return result

    async def _settle(self) -> Any:
        """Wait for the step under way; a cancelled waiter leaves it running, since it holds the descriptor."""
        step = self._step
        if step is None:
            return None
        await asyncio.wait([step])
        self._step = None
        try:
            return step.result()
        except (DiskFull, Unavailable):
            self._buffer.clear()
            self.size = self.durable
            raise

    # --- in threads ---------------------------------------------------------------------------------------------

    def _append(self, piece: bytearray) -> None:
        with self._back_to_durable_on_error():
            self._open()
            position = os.lseek(self._file, 0, os.SEEK_CUR)
            left = memoryview(piece)
            try:
                while left:
                    left = left[os.write(self._file, left):]
            except OSError:
                self._save_before(position)
                raise
        if self._hashes.done == position:
            self._hash(piece)
        else:  # some bytes came in an earlier life, or by a faster path
            self._hash_from_disk(CATCH_UP + len(piece))

    def _save_before(self, position: int) -> None:
        """A write failed: what came before it may well be kept."""
        with suppress(OSError):
            os.ftruncate(self._file, position)
            os.fdatasync(self._file)
            if self._check is None:
                self.durable = position

    def _make_durable(self) -> None:
        with self._back_to_durable_on_error():
            self._open()
            os.fdatasync(self._file)
            if self.durable == 0:
                sync_folder(self.path.parent)
            self.durable = os.lseek(self._file, 0, os.SEEK_CUR)

    def _hash_the_rest(self) -> None:
        with disk_errors():
            self._open()
            self._hash_from_disk()

    def _hash_from_disk(self, most: int = 1 << 62) -> None:
        """Hash what is in the file and not hashed yet, up to `most` bytes of it."""
        until = self._hashes.done + most
        while self._hashes.done < until and (piece := os.pread(self._file, PIECE, self._hashes.done)):
            self._hash(piece)

    def _hash(self, piece: bytes | bytearray) -> None:
        if self._check is not None:
            self._check.update(memoryview(piece)[max(0, self._mark - self._hashes.done):])
        self._hashes.update(piece)

    def _open(self) -> None:
        if self._file >= 0:
            return
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        if os.fstat(self._file).st_size < self.durable:
            raise OSError(errno.EIO, "bytes that were durable are missing")
        os.ftruncate(self._file, self.durable)
        os.lseek(self._file, self.durable, os.SEEK_SET)

    def _recover(self) -> int:
        hold = self._hold_path()
        with disk_errors():
            try:
                size = self.path.stat().st_size
            except FileNotFoundError:
                return 0
            with suppress(FileNotFoundError, ValueError):
                size = min(size, int(hold.read_text()))
            self._cut(size)
            self._forget_hold()
            return size

    def _cut(self, size: int) -> None:
        self._let_go()
        with disk_errors():
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
            try:
                os.ftruncate(file, size)
                os.fdatasync(file)
            finally:
                os.close(file)
            sync_folder(self.path.parent)

    def _hold_path(self) -> Path:
        return self.path.with_name(self.path.name + HOLD)

    def _remember_hold(self) -> None:
        write_whole(self._hold_path(), str(self._mark).encode())
        with disk_errors():
            sync_folder(self.path.parent)

    def _forget_hold(self) -> None:
        with disk_errors(), suppress(FileNotFoundError):
            self._hold_path().unlink()
            sync_folder(self.path.parent)

    def _unlink(self) -> None:
        self.path.unlink(missing_ok=True)
        self._hold_path().unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        with self._back_to_durable_on_error():
            raise error

    @contextmanager
    def _back_to_durable_on_error(self) -> Iterator[None]:
        """A failed write or sync leaves pages of unknown state: never try again, cut them off."""
        try:
            with disk_errors():
                yield
        except BaseException:
            with suppress(OSError):
                if self.durable:
                    os.truncate(self.path, self.durable)
                else:
                    self.path.unlink(missing_ok=True)
            self._let_go()
            self._hashes = Hashes()
            raise

    def _let_go(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
