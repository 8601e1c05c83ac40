"""The hub without a part of its work, so that it can be seen what that part costs. Never for anything but measuring.

    python -m bench.without [hashing] [syncing] [direct]

Without hashing nothing is read or hashed. Without syncing nothing waits for the disk to say that it has everything; the
way of the bytes stays the hub's own, round the page cache. Without that way ("direct") they go through it.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import store.incoming
from hub.__main__ import cli
from store.hashes import Hashes, Running


def leave_out_hashing() -> None:
    """Contents get random names."""

    def advance(self: Running, path: Path, until: Callable[[], int]) -> None:
        self.done = until()

    def digest(self: Running) -> bytes:
        return secrets.token_bytes(self._hash.digest_size)

    setattr(Hashes, "at", lambda *_: [])
    setattr(Running, "advance", advance)
    setattr(Running, "digest", digest)


def leave_out_syncing() -> None:
    """What was called durable is not."""

    def nothing(*_: int) -> None:
        return None

    setattr(os, "fdatasync", nothing)
    setattr(os, "fsync", nothing)
    setattr(store.incoming, "start_writing", lambda file, *_: os.close(file))


def leave_out_direct() -> None:
    """Everything goes through the page cache, as on a file system that knows nothing else."""
    setattr(store.incoming, "write_direct", lambda *_: 0)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        {"hashing": leave_out_hashing, "syncing": leave_out_syncing, "direct": leave_out_direct}[name]()
    sys.argv[1:] = ["run"]
    cli()
