"""The two clocks: one that people read, and one that never jumps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.clock import SystemClock, rfc3339


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 10 * 365 * 86400.0])
def test_p8_fault_20_a_jump_of_the_wall_clock_moves_no_lease(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    clock = SystemClock()
    before, wall = clock.now(), time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert 0 <= clock.now() - before < 60
    assert abs(clock.wall() - before - jump) < 60


def test_both_clocks_begin_at_the_same_time_of_day() -> None:
    clock = SystemClock()
    assert abs(clock.now() - clock.wall()) < 1


def test_now_never_goes_back() -> None:
    clock = SystemClock()
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "1970-01-01T00:00:00.000Z"), (1738324800.0, "2025-01-31T12:00:00.000Z"),
    (1738324800.1239, "2025-01-31T12:00:00.123Z"), (1709164800.5, "2024-02-29T00:00:00.500Z"),
])
def test_times_for_people_are_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


@given(st.floats(0, 4e9) | st.integers(0, 4_000_000_000_000).map(lambda each: each / 1000))
@example(1738324800.9999999)
@example(1738324800.9999)
def test_times_are_those_of_datetime(seconds: float) -> None:
    expected = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    assert rfc3339(seconds) == expected.replace("+00:00", "Z")


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_times_sort_as_text(a: float, b: float) -> None:
    assert (rfc3339(a) <= rfc3339(b)) or a > b
    assert len(rfc3339(a)) == 24
