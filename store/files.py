"""Bytes on disk: takes them in while hashing, keeps each content once under its sha256, gives them back as paths.

Owns the layout of the folders, and the order of writes, syncs and renames after which "received" is true even if the
power fails. Never looks into a file, and never decides who may read or delete one.

    <incoming>/<upload id>                    while bytes still come in
    <folder of the purpose>/<2 hex>/<sha256>  once sealed
    <posters>/<media id>.jpg
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from hub.errors import DiskFull, NotFound, Unavailable
from hub.media import Purpose

PIECE = 256 * 1024  # bytes that one thread call writes and hashes; while it does, the next piece fills
THREADS = 4

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Digest:
    """What was received: hashes in lower-case hex, `size` in bytes."""

    sha256: str
    md5: str
    size: int


class Incoming:
    """One file that is coming in, made by Files.receive; for one request at a time.

    `path` is where its bytes are, `size` how many were given to write(), `durable` how many survive a power cut. Every
    method may raise DiskFull, or Unavailable where the disk itself fails. After that the file is back at its durable
    bytes (gone, if there are none), `size` says so, and writing may go on from there.
    """

    def __init__(self, files: Files, path: Path, offset: int = 0) -> None:
        self.path = path
        self.size = offset
        self.durable = offset
        self._files = files
        self._buffer = bytearray()
        self._step: asyncio.Future[Any] | None = None
        self._file = -1
        self._digest: Digest | None = None
        self._discarded = False
        self._forget_hashes()

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a copy of `chunk`; waits for the disk only when it is a whole piece behind.

        Raises:
            NotFound: it was discarded meanwhile.
        """
        self._digest = None
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

    async def sync(self) -> int:
        """Make everything written so far survive a power cut; the durable size in bytes."""
        await self._settle()
        if self._buffer:
            self._step = self._files.submit(self._append, self._taken())
        await self._do(self._make_durable)
        self.size = self.durable + len(self._buffer)
        return self.durable

    async def finish(self) -> Digest:
        """Sync, then the hashes of it all; the file stays at `path` until it is sealed or discarded."""
        if self._digest is None:
            await self.sync()
            self._digest = await self._do(self._hash_the_rest)
            self._let_go()
        return self._digest

    async def seal(self, purpose: Purpose) -> Path:
        """Move it to its final place, which is returned; of equal contents only one stays on disk."""
        digest = await self.finish()
        final = self._files.path(purpose, digest.sha256)
        await self._do(self._files.move_in, self.path, final)
        return final

    async def discard(self) -> None:
        """Remove its bytes; harmless after seal() and when called twice."""
        self._discarded = True
        with suppress(DiskFull, Unavailable):
            await self._settle()
        self._buffer.clear()
        self._let_go()
        await self._files.submit(self.path.unlink, True)

    async def pause(self) -> None:
        """Sync and let go of the descriptor; a later receive() with this offset goes on."""
        await self.sync()
        self._let_go()

    def _taken(self) -> bytearray:
        piece, self._buffer = self._buffer, bytearray()
        return piece

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

    def _append(self, piece: bytearray) -> None:
        with self._back_to_durable_on_error():
            self._open()
            position = os.lseek(self._file, 0, os.SEEK_CUR)
            left = memoryview(piece)
            while left:
                left = left[os.write(self._file, left):]
        if self._hashed == position:  # else some bytes came in an earlier life: all are read again in the end
            self._hash(piece)

    def _make_durable(self) -> None:
        with self._back_to_durable_on_error():
            self._open()
            os.fdatasync(self._file)
            if self.durable == 0:
                sync_folder(self.path.parent)
            self.durable = os.lseek(self._file, 0, os.SEEK_CUR)

    def _hash_the_rest(self) -> Digest:
        with disk_errors():
            while piece := os.pread(self._file, PIECE, self._hashed):
                self._hash(piece)
        return Digest(self._sha256.hexdigest(), self._md5.hexdigest(), self._hashed)

    def _hash(self, piece: bytes | bytearray) -> None:
        self._sha256.update(piece)
        self._md5.update(piece)
        self._hashed += len(piece)

    def _forget_hashes(self) -> None:
        self._hashed = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def _open(self) -> None:
        if self._file >= 0:
            return
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        if os.fstat(self._file).st_size < self.durable:
            raise OSError(errno.EIO, "bytes that were durable are missing")
        os.ftruncate(self._file, self.durable)
        os.lseek(self._file, self.durable, os.SEEK_SET)

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
            self._forget_hashes()
            raise

    def _let_go(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class Files:
    """The folders: one for each purpose (several may share one), one for what is coming in, one for posters.

    Contents are known by sha256; whoever deletes one has made sure that no record refers to it any more.
    """

    def __init__(self, folders: Mapping[Purpose, Path], incoming: Path, posters: Path | None = None) -> None:
        self.folders = {purpose: folder.absolute() for purpose, folder in folders.items()}
        self.incoming = incoming.absolute()
        self.posters = (posters or incoming.parent / "posters").absolute()
        for folder in {*self.folders.values(), self.incoming, self.posters}:
            folder.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(THREADS, "files")
        self._moving = Lock()

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run `work` in this object's own threads."""
        return asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for the threads; nothing can be submitted after that."""
        self._pool.shutdown()

    def free(self) -> int:
        """Bytes that the folder for incoming files still has room for."""
        return shutil.disk_usage(self.incoming).free

    def receive(self, upload_id: str, offset: int = 0) -> Incoming:
        """A place for the bytes of this upload; the first `offset` bytes are there from before, others are cut off."""
        return Incoming(self, self.incoming / plain(upload_id), offset)

    def path(self, purpose: Purpose, sha256: str) -> Path:
        """Where sealed content is, or would be.

        Raises:
            ValueError: not a sha256 in lower-case hex.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError("not a sha256")
        return self.folders[purpose] / sha256[:2] / sha256

    async def delete(self, purpose: Purpose, sha256: str) -> None:
        """Remove sealed content; harmless where it is gone already."""
        await self.submit(self._remove, self.path(purpose, sha256))

    def poster_path(self, media_id: str) -> Path:
        return self.posters / f"{plain(media_id)}.jpg"

    async def save_poster(self, media_id: str, jpeg: bytes) -> None:
        """Raises DiskFull or Unavailable; then there is no poster, or still the old one."""
        await self.submit(write_whole, self.poster_path(media_id), jpeg)

    async def delete_poster(self, media_id: str) -> None:
        await self.submit(self.poster_path(media_id).unlink, True)

    async def clear_incoming(self, keep: Collection[str] = ()) -> int:
        """Remove what an earlier life left behind, but for the uploads in `keep`; the number of files removed."""
        return await self.submit(self._clear_incoming, frozenset(keep))

    def move_in(self, source: Path, final: Path) -> None:
        """Rename and make the rename durable; drop `source` where the same content is there already."""
        with self._moving, disk_errors():
            if final.exists() and final.stat().st_size == source.stat().st_size:
                source.unlink()
                return
            if not final.parent.exists():
                final.parent.mkdir(exist_ok=True)
                sync_folder(final.parent.parent)
            try:
                os.replace(source, final)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                copy_over(source, final)
            sync_folder(final.parent)

    def _remove(self, final: Path) -> None:
        with self._moving:
            final.unlink(missing_ok=True)

    def _clear_incoming(self, keep: frozenset[str]) -> int:
        leftovers = [path for path in self.incoming.iterdir() if path.is_file() and path.name not in keep]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def plain(id: str) -> str:
    """The id itself, when it can be a file's name.

    Raises:
        ValueError: it could lead out of its folder, or is no id of ours.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", id):
        raise ValueError("not an id")
    return id


@contextmanager
def disk_errors() -> Iterator[None]:
    """The disk's errors in the hub's words: DiskFull, or Unavailable for all others."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("there is no room left for uploads") from error
        raise Unavailable("the disk does not take the bytes") from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: readers see the old or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    try:
        with disk_errors(), part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def copy_over(source: Path, final: Path) -> None:
    """A rename between two file systems: copy, sync, rename over there, remove here."""
    part = final.with_name(final.name + ".part")
    try:
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
    source.unlink()
