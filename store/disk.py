"""What the store does with a disk in one step, and the disk's errors in the hub's words."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hub.errors import DiskFull, Unavailable

SYNC_FILE_RANGE_WRITE = 2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one each time that the kernel starts: random(4)
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def disk_errors() -> Iterator[None]:
    """The disk's errors in the hub's words: DiskFull, or Unavailable for all others."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("there is no room left for uploads") from error
        raise Unavailable("the disk does not take the bytes") from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes out that move or remove files in `folder`: a second hub, or one that tidies up.

    A file system that cannot lock a folder is trusted to be used by one process alone.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str | None:
    """Which start of the machine this is; None where the system does not tell."""
    with suppress(OSError):
        found = BOOT_ID.read_bytes().strip()
        return found.decode() if re.fullmatch(rb"[0-9a-f-]{36}", found) else None
    return None


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


def cut_off(path: Path, size: int) -> None:
    """Make a file, new or not, `size` bytes long, durably."""
    with disk_errors():
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        try:
            os.ftruncate(file, size)
            os.fdatasync(file)
        finally:
            os.close(file)
        sync_folder(path.parent)


def start_writing(file: int, start: int, count: int) -> None:
    """Have the disk begin with these bytes of an open file, and close it (sync_file_range(2)).

    It promises nothing, and does nothing where the system does not know it: only fdatasync makes bytes durable.
    """
    try:
        if (call := getattr(libc, "sync_file_range", None)) is not None:
            call(file, ctypes.c_int64(start), ctypes.c_int64(count), SYNC_FILE_RANGE_WRITE)
    finally:
        os.close(file)
