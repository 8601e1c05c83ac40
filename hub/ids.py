"""Ids: opaque, unique and in the order of their making (UUIDv7, RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time

CHANCE = 512  # random numbers that are asked for at once: each question to the system takes as long as an id

chance: list[int] = []
os.register_at_fork(after_in_child=chance.clear)  # or the child would use the same ones


def new_id(milliseconds: int | None = None) -> str:
    """A fresh UUIDv7 as text; `milliseconds` since the epoch, the wall clock's if not given.

    The 12 bits after the version say where in the millisecond it is, in steps of 244 ns, so that ids made one after
    the other sort that way (RFC 9562 section 6.2, method 3); for given `milliseconds` they are random.
    """
    if milliseconds is None:
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        fraction = rest * 4096 // 1_000_000
    else:
        fraction = draw() >> 52
    stamp = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    noise = f"{draw() & (1 << 62) - 1 | 1 << 63:016x}"
    return f"{stamp[:8]}-{stamp[8:]}-{0x7000 | fraction:x}-{noise[:4]}-{noise[4:]}"


def draw() -> int:
    """64 random bits; no two callers get the same ones, whichever thread or process they are in."""
    try:
        return chance.pop()
    except IndexError:
        number, *rest = memoryview(os.urandom(8 * CHANCE)).cast("Q")
        chance.extend(rest)
        return number
