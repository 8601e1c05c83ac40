"""Ids: opaque, unique and in the order of their making (UUIDv7, RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time


def new_id(milliseconds: int | None = None) -> str:
    """A fresh UUIDv7 as text; `milliseconds` since the epoch, the wall clock's if not given.

    The 12 bits after the version say where in the millisecond it is, in steps of 244 ns, so that ids made one after
    the other sort that way (RFC 9562 section 6.2, method 3); for given `milliseconds` they are random.
    """
    noise = int.from_bytes(os.urandom(10), "big")
    if milliseconds is None:
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        fraction = rest * 4096 // 1_000_000
    else:
        fraction = noise >> 68
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"  # a UUID says the same, in three times the time
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
