"""The hashes of a file while it comes in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Digest:
    """What was received: hashes in lower-case hex, `size` in bytes."""

    sha256: str
    md5: str
    size: int


class Hashes:
    """SHA-256 and MD5 of the first `done` bytes."""

    def __init__(self) -> None:
        self.done = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def copy(self) -> Hashes:
        twin = Hashes()
        twin.done, twin._sha256, twin._md5 = self.done, self._sha256.copy(), self._md5.copy()
        return twin

    def update(self, piece: bytes | bytearray) -> None:
        self._sha256.update(piece)
        self._md5.update(piece)
        self.done += len(piece)

    def digest(self) -> Digest:
        return Digest(self._sha256.hexdigest(), self._md5.hexdigest(), self.done)
