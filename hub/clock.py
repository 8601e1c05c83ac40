"""The two clocks of a running hub."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from math import modf


class SystemClock:
    """Seconds since the epoch: `now` grows with the monotonic clock whatever happens to the wall clock."""

    def __init__(self) -> None:
        self.anchor = time.time() - time.monotonic()

    def now(self) -> float:
        return self.anchor + time.monotonic()

    def wall(self) -> float:
        return time.time()


def rfc3339(seconds: float) -> str:
    """UTC with milliseconds, as in 2025-01-31T12:00:00.000Z (RFC 3339)."""
    fraction, whole = modf(seconds)
    microseconds = round(fraction * 1_000_000)  # as datetime does it; the milliseconds are then cut off
    carry, rest = divmod(microseconds, 1_000_000)
    return f"{to_the_second(int(whole) + carry)}.{rest // 1000:03d}Z"


@lru_cache(1024)
def to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
