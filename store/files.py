"""Bytes on disk: keeps each content once under its sha256 and gives it back as a path.

Owns the layout of the folders, and the order of syncs and links after which "kept" is true even if the power fails.
How bytes come in is in store/incoming. Never looks into a file, and never decides who may read or delete one.

    <incoming>/<upload id>                    while bytes still come in, and until there is a record of them
    <incoming>/<upload id>.hold               see store/hold
    <folder of the purpose>/<2 hex>/<sha256>  once sealed
    <posters>/<media id>.jpg, .strip.jpg      what is shown of a file in small
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar

from hub.media import Previews, Purpose

from .disk import disk_errors, exclusive, sync_folder, write_whole
from .drawing import Drawer
from .hashes import ALGORITHMS, Digest
from .hold import HOLD
from .incoming import PIECE, Incoming

__all__ = ["Arrived", "Digest", "Files", "Incoming", "PIECE"]

THREADS = 4
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Arrived:
    """What an earlier life left of an upload: `size` in bytes, `at` when the last came (seconds since the epoch)."""

    size: int
    at: float


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
        self.drawer = Drawer()
        self._pool = ThreadPoolExecutor(THREADS, "files")
        self._hashers = ThreadPoolExecutor(os.cpu_count() or 1, "hashes")
        self._moving = Lock()

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run `work` in this object's own threads."""
        return asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    def submit_hashing(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run `work` in threads that may be busy for long, as many as there are processors."""
        return asyncio.wrap_future(self._hashers.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for the threads; nothing can be submitted after that."""
        self.drawer.close()
        self._pool.shutdown()
        self._hashers.shutdown(cancel_futures=True)

    async def room(self) -> tuple[int, int]:
        """Bytes that the disk under the folder for incoming files has: in all, and free."""
        usage = await self.submit(shutil.disk_usage, self.incoming)
        return usage.total, usage.free

    def receive(
        self, upload_id: str, offset: int = 0, algorithms: Collection[str] = ALGORITHMS, resumable: bool = True,
    ) -> Incoming:
        """A place for the bytes of this upload, which are hashed with these `algorithms`.

        The first `offset` bytes are there from before, others are cut off. One that is not `resumable` costs a little
        less, and is worth nothing after a crash.
        """
        return Incoming(self, self.incoming / plain(upload_id), offset, algorithms, resumable)

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

    def strip_path(self, media_id: str) -> Path:
        return self.posters / f"{plain(media_id)}.strip.jpg"

    async def save_previews(self, media_id: str, previews: Previews) -> None:
        """Raises DiskFull or Unavailable; then there may be one and not the other, each whole or as it was."""
        if previews.strip:
            await self.submit(write_whole, self.strip_path(media_id), previews.strip)
        await self.submit(write_whole, self.poster_path(media_id), previews.poster)

    async def delete_previews(self, media_id: str) -> None:
        for path in (self.poster_path(media_id), self.strip_path(media_id)):
            await self.submit(path.unlink, True)

    async def clear_incoming(self, keep: Collection[str] = ()) -> dict[str, Arrived]:
        """Remove what an earlier life left behind, but for the uploads in `keep`; what there is of those."""
        return await self.submit(self._clear_incoming, frozenset(keep))

    def move_in(self, source: Path, final: Path) -> None:
        """Give `source` a second name, `final`, and make that durable; the same content may be there already.

        It counts as new then: nobody who tidies up may take it for an old orphan before its record is there.
        """
        with self._moving, disk_errors(), exclusive(final.parent.parent):
            if final.exists() and final.stat().st_size == source.stat().st_size:
                os.utime(final)
                return
            if not final.parent.exists():
                final.parent.mkdir(exist_ok=True)
                sync_folder(final.parent.parent)
            final.unlink(missing_ok=True)
            try:
                os.link(source, final)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                copy_over(source, final)
            sync_folder(final.parent)

    def _remove(self, final: Path) -> None:
        with self._moving, exclusive(final.parent.parent):
            final.unlink(missing_ok=True)

    def _clear_incoming(self, keep: frozenset[str]) -> dict[str, Arrived]:
        kept = {}
        for path in self.incoming.iterdir():
            if path.is_dir():
                continue
            if path.name.removesuffix(HOLD) not in keep:
                path.unlink(missing_ok=True)
            elif path.name in keep:
                status = path.stat()
                kept[path.name] = Arrived(status.st_size, status.st_mtime)
        return kept


def plain(id: str) -> str:
    """The id itself, when it can be a file's name.

    Raises:
        ValueError: it could lead out of its folder, or is no id of ours.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", id):
        raise ValueError("not an id")
    return id


def copy_over(source: Path, final: Path) -> None:
    """What a link would be, between two file systems: copy, sync, rename over there."""
    part = final.with_name(final.name + ".part")
    try:
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)
