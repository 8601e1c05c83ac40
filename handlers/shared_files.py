"""The folder that the hub shares with interface services in the older dialect.

Owns the layout of a job's place in it and the one way in which a file is taken out of it: only from inside, whatever
the path that was named leads to. What is found there is only copied, never trusted, changed or removed.

    <SHARED_DIR>/jobs/<lease>/video.mp4, background.jpg   copies of the inputs, under names with a usual ending
    <SHARED_DIR>/jobs/<lease>/foreground.mp4              where the service may put the result
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hub.errors import HubError, Invalid, TooLarge, Unavailable
from hub.ids import new_id
from hub.media import Media, Purpose
from hub.task import Source, Task
from hub.upload import Upload

from .base import OBJECT_ID, Rooms

PIECE = 256 * 1024
COPIED_AT_ONCE = 64 * 1024 * 1024
ENDINGS = {"matroska": "mkv", "mpegts": "ts", "jpeg": "jpg", "mjpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class Places:
    """The absolute paths of one job; `background` is None where the task has none."""

    video: Path
    background: Path | None
    foreground: Path


class SharedFiles:
    """What the hub does in the shared folder; everything on disk happens in threads."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.root = rooms.settings.shared_dir.absolute()
        self.jobs = self.root / "jobs"

    def place(self, lease: str) -> Path:
        """The default place of a lease's result."""
        return self.jobs / lease / "foreground.mp4"

    async def prepare(self, task: Task, lease: str) -> Places:
        """Make a job's folder with its inputs in it.

        Raises:
            Unavailable: the disk does not take it.
        """
        folder = self.jobs / lease
        video = self.named(task.video, Purpose.VIDEO, folder)
        background = self.named(task.background, Purpose.BACKGROUND, folder) if task.background else None
        try:
            pairs = [pair for pair in (video, background) if pair]
            await asyncio.to_thread(lay_out, folder, pairs, self.rooms.settings.shared_dir_mode)
        except OSError as error:
            raise Unavailable(f"the shared folder does not take a job ({type(error).__name__})") from None
        return Places(video[1], background[1] if background else None, self.place(lease))

    def named(self, source: Source, purpose: Purpose, folder: Path) -> tuple[Path, Path]:
        """Where an input is, and under which name a service gets to see it."""
        ending = ENDINGS.get(source.facts.container, source.facts.container)
        if not re.fullmatch(r"[a-z0-9]{2,5}", ending):
            ending = "mp4" if purpose is Purpose.VIDEO else "jpg"
        return self.rooms.files.path(purpose, source.sha256), folder / f"{purpose}.{ending}"

    async def take(self, task: Task, purpose: Purpose, path: str) -> Media:
        """Copy what a service made into the hub's own files and record it, not yet looked into.

        Raises:
            Invalid: code result_missing: no regular file inside the shared folder, or one that is the hub's own.
            TooLarge, DiskFull, Unavailable: it cannot be kept.
        """
        limit = self.rooms.settings.result_file_size_limit
        upload = Upload(
            new_id(), task.owner, purpose, limit, self.rooms.clock.wall(), os.path.basename(path), task_id=task.id,
        )
        reception = await self.rooms.receptions.begin(upload, resumable=False)
        try:
            descriptor = await asyncio.to_thread(self.open_inside, path)
            try:
                if os.fstat(descriptor).st_size > limit:
                    raise TooLarge(f"a {purpose} has at most {limit} bytes")
                while piece := await asyncio.to_thread(os.read, descriptor, PIECE):
                    await reception.write(piece)
            except OSError as error:
                raise Unavailable(f"the shared folder cannot be read ({type(error).__name__})") from None
            finally:
                os.close(descriptor)
            return await reception.conclude()
        finally:
            await reception.abandon()

    def open_inside(self, path: str) -> int:
        """Open a file that lies in the shared folder, once all links are followed, and is none of the hub's own.

        What is opened is compared with what the checked path names afterwards, so nobody can change a link between.

        Raises:
            Invalid: code result_missing.
        """
        try:
            if not os.path.isabs(path):
                raise missing("is not an absolute path")
            real = Path(os.path.realpath(path, strict=True))
            if not real.is_relative_to(self.root.resolve()) or any(real.is_relative_to(own) for own in self.own()):
                raise missing("is not in the shared folder")
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            raise missing("is not there, or not readable") from None
        try:
            opened, now = os.fstat(descriptor), os.lstat(real)
            if Path(os.path.realpath(real)) != real or (opened.st_dev, opened.st_ino) != (now.st_dev, now.st_ino):
                raise missing("changed while it was opened")
            if not stat.S_ISREG(opened.st_mode):
                raise missing("is no regular file")
        except (OSError, HubError) as error:
            os.close(descriptor)
            raise error if isinstance(error, HubError) else missing("changed while it was opened") from None
        return descriptor

    def own(self) -> list[Path]:
        """The folders of the hub's own files, which may lie in the shared one."""
        return [self.rooms.files.path(purpose, "0" * 64).parent.parent.resolve() for purpose in Purpose]

    async def remove(self, lease: str) -> None:
        """A job is over: its folder goes, whatever is in it."""
        await asyncio.to_thread(shutil.rmtree, self.jobs / lease, True)

    async def clear(self, keep: Collection[str]) -> None:
        """Remove the places of jobs that are over, but for the leases in `keep`; what else lies there stays."""
        try:
            found = await asyncio.to_thread(os.listdir, self.jobs)
        except OSError:
            return
        for lease in set(found) - set(keep):
            if OBJECT_ID.fullmatch(lease):
                await self.remove(lease)


def lay_out(folder: Path, pairs: list[tuple[Path, Path]], mode: int | None) -> None:
    """Make a job's folder with copies in it: a service may write into what it was given.

    With a `mode` the folder is as open as that says, the copies too, and the folder of all jobs lets everybody through
    who may pass this one. Without it the copies are for the hub's own user and group.

    Raises:
        OSError: the disk does not take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sum(source.stat().st_size for source, _ in pairs) > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, "the disk is full")
    for source, name in pairs:
        copy(source, name)
    if mode is not None:
        with suppress(PermissionError):  # an operator has made it, and knows why
            folder.parent.chmod(mode & ~0o022)
        for _, name in pairs:
            name.chmod(mode & 0o666)
        folder.chmod(mode)


def copy(source: Path, target: Path) -> None:
    """Copy a file within the kernel, without a second set of blocks where the file system can; else byte by byte."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    with source.open("rb") as reading, open(descriptor, "wb") as writing:
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), COPIED_AT_ONCE):
                pass
        except OSError:
            shutil.copyfileobj(reading, writing)  # from where both are


def missing(what: str) -> Invalid:
    """The refusal of a file that a service named."""
    return Invalid(f"the file that the service named {what}", code="result_missing")
