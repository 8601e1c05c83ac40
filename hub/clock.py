"""The two clocks of a running hub."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


class SystemClock:
    """Seconds since the epoch: `now` grows with the monotonic clock whatever happens to the wall clock."""

    def __init__(self) -> None:
        self.anchor = time.time() - time.monotonic()

    def now(self) -> float:
        return self.anchor + time.monotonic()

    def wall(self) -> float:
        return time.time()


@lru_cache(1024)
def rfc3339(seconds: float) -> str:
    """UTC with milliseconds, as in 2025-01-31T12:00:00.000Z (RFC 3339)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
