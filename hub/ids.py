"""Ids: opaque, unique and in the order of their making (UUIDv7, RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id(milliseconds: int | None = None) -> str:
    """A fresh UUIDv7 as text; `milliseconds` since the epoch, the wall clock's if not given."""
    stamp = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    value = (stamp & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))
