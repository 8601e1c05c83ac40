"""A note beside an incoming file while a chunk of it comes in that counts as a whole or not at all.

    <upload id>.hold    the size before the chunk
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .disk import disk_errors, sync_folder, write_whole

HOLD = ".hold"


class Hold:
    """The note of the file at `path`; it survives a crash."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + HOLD)

    def remember(self, size: int) -> None:
        """Raises DiskFull or Unavailable."""
        write_whole(self.path, str(size).encode())
        with disk_errors():
            sync_folder(self.path.parent)

    def size(self) -> int | None:
        """What was remembered; None where nothing was."""
        with suppress(FileNotFoundError, ValueError):
            return int(self.path.read_text())
        return None

    def forget(self) -> None:
        """Raises Unavailable."""
        with disk_errors(), suppress(FileNotFoundError):
            self.path.unlink()
            sync_folder(self.path.parent)

    def unlink(self) -> None:
        """Remove it without a promise."""
        self.path.unlink(missing_ok=True)
