"""One file that is coming in: where its next bytes go, how many of them survive a power cut, and what they hash to.

Owns the order of writes and syncs behind the offset that a client is told. Never decides whether bytes are wanted.

    <upload id>         the bytes; how many of them count after a crash is said by the note beside them (store/hold)
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hub.errors import DiskFull, HubError, NotFound, Unavailable
from hub.media import Purpose

from .disk import cut_off, disk_errors, start_writing, sync_folder
from .drawing import blocks_of, write_all, write_direct
from .hashes import Digest, Hashes
from .hold import Hold

if TYPE_CHECKING:
    from .files import Files

PIECE = 256 * 1024  # bytes that one thread call writes; while it does, the next piece fills
WRITE_BACK = 8 * 1024 * 1024  # bytes after which the disk is asked to begin, so that the sync in the end is short
UNSYNCED = 256 * 1024 * 1024  # bytes of one upload that a power cut may cost at most, and that are sent again then

T = TypeVar("T")
P = ParamSpec("P")


class Incoming:
    """One file that is coming in, made by Files.receive; its methods are awaited one after the other.

    `path` is where its bytes are, `size` how many were given to write(), `durable` how many survive a power cut. Every
    method may raise DiskFull, or Unavailable where the disk itself fails. After that the file is back at its durable
    bytes (gone, if there are none), `size` says so, and writing may go on from there.

    Beside the writing it is hashed with the `algorithms`, in threads of its own. One that is `resumable` has a note
    beside it, without which another life could not tell how much of it holds.
    """

    def __init__(self, files: Files, path: Path, offset: int, algorithms: Collection[str], resumable: bool) -> None:
        self.path = path
        self.size = offset
        self.durable = offset
        self._files = files
        self._algorithms = algorithms
        self._buffer = bytearray()
        self._step: asyncio.Future[Any] | None = None
        self._synced = False  # whether nothing has come since the last sync
        self._file = -1
        self._digest: Digest | None = None
        self._discarded = False
        self._mark = 0  # where the held chunk begins
        self._held: Hashes | None = None  # of what is before it
        self._hold = Hold(path, resumable)
        self._direct = True  # unless the file system has refused
        self._written_back = offset
        self._writing_back: asyncio.Future[None] | None = None
        self._hashes = self._new_hashes()

    # --- bytes come ---------------------------------------------------------------------------------------------

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a copy of `chunk`; waits for the disk only when it is a whole piece behind.

        Raises:
            NotFound: it was discarded meanwhile.
        """
        await self._sync_now_and_then()
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
                await self._write_back()
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

    async def draw(self, source: int, most: int) -> int:
        """Append what the non-blocking socket `source` holds, at most `most` bytes; how many that was.

        0 where it holds nothing for now. See store.drawing for the way that they take.

        Raises:
            EOFError: the other end has hung up.
            NotFound: it was discarded meanwhile.
        """
        await self._sync_now_and_then()
        self._digest, self._synced = None, False
        await self._flush()
        await self._settle()
        if self._discarded:
            raise NotFound("this upload is gone")
        self._step = self._files.drawer.submit(self._draw, source, most)
        moved = int(await self._settle())
        self.size += moved
        self._hashes.follow(self.size)
        await self._write_back()
        return moved

    async def _sync_now_and_then(self) -> None:
        """What is synced may be told, so drop() does not undo it any more."""
        if self.size - self.durable >= UNSYNCED and self._hold.moves and not self._discarded:
            await self.sync()
            await self.hold()

    async def _write_back(self) -> None:
        """Have the disk begin, and wait only where it has not begun with what came before."""
        start, end = self._written_back, self.size - len(self._buffer)
        if end - start < WRITE_BACK:
            return
        if self._writing_back is not None:
            await asyncio.wait([self._writing_back])
        if self._file >= 0:
            self._writing_back = self._files.submit(start_writing, os.dup(self._file), start, end - start)
            self._written_back = end

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
        """After a crash: what holds of what is there counts, and is durable now; the size in bytes."""
        self.size = self.durable = await self._do(self._recover)
        self._synced = self.durable > 0
        return self.durable

    # --- a chunk that counts as a whole or not at all -----------------------------------------------------------

    async def hold(self, algorithm: str | None = None) -> None:
        """A chunk begins; drop() would undo it. Everything before it is durable.

        With an `algorithm` (sha1, sha256, md5) the chunk is hashed for check(), and a crash undoes it too.
        """
        await self._settle()
        await self._release()
        self._mark, self._held = self.durable, self._hashes.copy()
        if algorithm is not None:
            self._hashes.hold(algorithm, self._mark)
            await self._do(self._hold.begin, self._mark)

    @property
    def checked(self) -> bool:
        """Whether a chunk is held that counts as a whole or not at all."""
        return self._hold.checked

    async def check(self) -> bytes:
        """The hash of the held chunk, once it is synced."""
        await self._hashes.reach(self.size)
        return self._hashes.chunk()

    async def keep(self) -> None:
        """The held chunk, synced, counts from now on; where that cannot be noted, it is forgotten."""
        self._held = None
        await self._release()

    async def restart(self) -> None:
        """Forget everything that has come."""
        self._mark, self._held = 0, self._new_hashes()
        await self.drop()

    async def drop(self) -> None:
        """Forget the held chunk."""
        with suppress(DiskFull, Unavailable):
            await self._settle()
        self._buffer.clear()
        self.size = self.durable = self._mark
        self._hashes = self._held or self._new_hashes()
        await self._do(self._cut, self._mark)
        await self.keep()

    async def _release(self) -> None:
        self._hashes.release()
        if self._hold.checked:
            await self._do(self._let_count)

    # --- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> Digest:
        """Sync, then the hashes of it all; the file stays at `path` until it is discarded."""
        if self._digest is None:
            await self.sync()
            await self._hashes.reach(self.size)
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
        await self._hashes.stop()
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
            result = step.result()
        except (DiskFull, Unavailable):
            self._buffer.clear()
            self.size = self.durable
            raise
        self._hashes.follow(self.size - len(self._buffer))
        return result

    def _new_hashes(self) -> Hashes:
        return Hashes(self.path, self._files.submit_hashing, self._algorithms)

    # --- in threads ---------------------------------------------------------------------------------------------

    def _append(self, piece: bytearray) -> None:
        with self._back_to_durable_on_error():
            self._write_cached(self._open(), memoryview(piece))

    def _draw(self, source: int, most: int) -> int:
        with self._back_to_durable_on_error():
            position = self._open()
        return self._files.drawer.draw(source, most, position, [self._put, *self._hashes.at(position)])

    def _put(self, position: int, piece: memoryview) -> None:
        with self._back_to_durable_on_error():
            head, blocks = blocks_of(position, piece)
            if blocks and self._direct:
                self._write_cached(position, head)
                with self._save_before(position + len(head)):
                    done = len(head) + write_direct(self._file, blocks)
                self._direct = done > len(head)
                position, piece = position + done, piece[done:]
            self._write_cached(position, piece)

    def _write_cached(self, position: int, piece: memoryview) -> None:
        if piece:
            with self._save_before(position):
                write_all(self._file, piece)

    @contextmanager
    def _save_before(self, position: int) -> Iterator[None]:
        """Where a write fails, what came before it may well be kept."""
        try:
            yield
        except OSError:
            with suppress(OSError, HubError):
                os.ftruncate(self._file, position)
                os.fdatasync(self._file)
                if not self._hold.checked:
                    self._count(position)
            raise

    def _make_durable(self) -> None:
        with self._back_to_durable_on_error():
            size = self._open()
            os.fdatasync(self._file)
            self._count(size)

    def _count(self, size: int) -> None:
        """So many bytes are synced, and may be told once that is noted."""
        if self.durable == 0:
            sync_folder(self.path.parent)
        self._hold.remember(size)
        self.durable = size

    def _let_count(self) -> None:
        size, self.durable = self.durable, self._mark
        with self._back_to_durable_on_error():
            self._hold.end(size)
        self.durable = size

    def _open(self) -> int:
        """Where the next byte goes."""
        if self._file >= 0:
            return os.lseek(self._file, 0, os.SEEK_CUR)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        if os.fstat(self._file).st_size < self.durable:
            raise OSError(errno.EIO, "bytes that were durable are missing")
        os.ftruncate(self._file, self.durable)
        self._hold.remember(self.durable)
        self._written_back = os.lseek(self._file, self.durable, os.SEEK_SET)
        return self._written_back

    def _recover(self) -> int:
        with disk_errors():
            try:
                size = self._hold.holding(self.path.stat().st_size)
            except FileNotFoundError:
                return 0
            self._cut(size)
            return size

    def _cut(self, size: int) -> None:
        self._let_go()
        cut_off(self.path, size)
        self._hold.remember(size)

    def _unlink(self) -> None:
        self.path.unlink(missing_ok=True)
        self._hold.unlink()

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
            self._hashes = self._new_hashes()
            raise

    def _let_go(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
