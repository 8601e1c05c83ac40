"""A note beside an incoming file: how many of its bytes hold even if the power fails.

Owns what the note looks like and what is believed after a crash. A file system may bring back a file that is as long as
it was, with zeros where bytes had not been synced: so its size is the truth only as long as the kernel that took the
bytes runs.

    <upload id>.hold    one line: bytes, the boot under which the bytes after them hold too ("-": none), CRC-32
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from zlib import crc32

from .disk import boot_id, disk_errors, sync_folder

HOLD = ".hold"
NO_BOOT = "-"
LINE = re.compile(r"(\d{20}) (\S+) +[0-9a-f]{8}\n")


class Hold:
    """The note of the file at `path`, where one is `kept`; what is said is durable.

    `checked` says whether a chunk is held that counts as a whole or not at all. Every method that says something may
    raise DiskFull or Unavailable; it is not known then what the note says.
    """

    def __init__(self, path: Path, kept: bool) -> None:
        self.path = path.with_name(path.name + HOLD)
        self._kept = kept
        self.checked = False
        self._said: bytes | None = None

    @property
    def moves(self) -> bool:
        """Whether remember() says anything: not while a chunk is held, since what was said when it began stays."""
        return self._kept and not self.checked

    def remember(self, size: int) -> None:
        """Say that `size` bytes hold, and that those after them survive a crash that is no power cut."""
        if self.moves:
            self._say(line_of(size, boot_id()))

    def begin(self, size: int) -> None:
        """A chunk begins after `size` bytes, which does not survive any crash."""
        self.checked = True
        self._say(line_of(size, None))

    def end(self, size: int) -> None:
        """The chunk is over, and `size` bytes hold."""
        self.checked = False
        self.remember(size)

    def _say(self, line: bytes) -> None:
        if line == self._said:
            return
        first, self._said = self._said is None, None
        with disk_errors():
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o640)
            try:
                os.pwrite(file, line, 0)  # always as long, within one sector: a disk writes all of it or nothing
                os.fdatasync(file)
            finally:
                os.close(file)
            if first:
                sync_folder(self.path.parent)
        self._said = line

    def holding(self, size: int) -> int:
        """How many of the `size` bytes that are there after a crash hold.

        All of them where there is no note: what hubs before this one began has none. None of them where it cannot be
        read, since its first line is durable before the first byte is written.
        """
        try:
            line = self.path.read_bytes()
        except FileNotFoundError:
            return size
        said = LINE.fullmatch(line.decode("ascii", "replace"))
        if said is None or line != line_of(int(said[1]), said[2]):
            return 0
        return size if said[2] == boot_id() else min(size, int(said[1]))

    def unlink(self) -> None:
        """Remove it without a promise."""
        self.path.unlink(missing_ok=True)


def line_of(size: int, boot: str | None) -> bytes:
    text = f"{size:020} {boot or NO_BOOT:36}"
    return f"{text} {crc32(text.encode()):08x}\n".encode()
