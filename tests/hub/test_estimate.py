"""Estimates: seconds per megapixel-frame, by model and by worker, learned from what was done and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub import estimate
from hub.estimate import KEPT, Estimates, Span, size_of
from hub.media import Facts
from hub.task import State, Task

from .world import START, a_task

MEGAPIXEL = Facts(1000, 1000, frames=10)


def taught(*seconds: float, model: str = "m", worker: str = "w1") -> Estimates:
    """What is known after a worker has taken so long for ten megapixel-frames, again and again."""
    estimates = Estimates()
    for each in seconds:
        estimates.learn(model, worker, MEGAPIXEL, each)
    return estimates


def test_work_is_frames_times_megapixels() -> None:
    assert size_of(MEGAPIXEL) == 10.0
    assert size_of(Facts(1920, 1080, frames=300)) == pytest.approx(622.08)


def test_p18_without_a_finished_task_nothing_is_said() -> None:
    estimates = taught(5.0, model="m")
    assert estimates.rate("n") is None and estimates.span("n", MEGAPIXEL) is None
    assert estimates.rate("m") == Span(0.5, 0.5)


def test_a_longer_or_larger_video_takes_longer_in_proportion() -> None:
    estimates = taught(5.0)
    assert estimates.span("m", replace(MEGAPIXEL, frames=30)) == Span(15.0, 15.0)
    assert estimates.span("m", replace(MEGAPIXEL, width=2000)) == Span(10.0, 10.0)


def test_half_take_at_most_p50_and_nine_of_ten_at_most_p90() -> None:
    assert taught(*(float(second) for second in range(1, 11))).span("m", MEGAPIXEL) == Span(6.0, 10.0)


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=KEPT))
def test_the_quantiles_are_those_of_what_was_learned(seconds: list[float]) -> None:
    span = taught(*seconds).span("m", MEGAPIXEL)
    assert span is not None
    assert span.p50 <= span.p90
    assert sum(each <= span.p50 * (1 + 1e-9) for each in seconds) * 2 >= len(seconds)
    assert sum(each <= span.p90 * (1 + 1e-9) for each in seconds) * 10 >= 9 * len(seconds)


def test_each_worker_has_a_speed_of_its_own_and_an_unknown_one_is_like_all() -> None:
    estimates = taught(5.0, 5.0, 5.0, worker="slow")
    estimates.learn("m", "fast", MEGAPIXEL, 1.0)
    assert [estimates.rate("m", worker) for worker in ("slow", "fast")] == [Span(0.5, 0.5), Span(0.1, 0.1)]
    assert estimates.rate("m", "new") == estimates.rate("m") == Span(0.5, 0.5)


def test_what_is_new_is_believed_after_a_while() -> None:
    estimates = taught(*[50.0] * 100, *[1.0] * KEPT)
    assert estimates.rate("m") == Span(0.1, 0.1)


def test_an_answer_follows_what_was_learned_since_the_last() -> None:
    estimates = taught(5.0)
    assert estimates.rate("m", "w1") == Span(0.5, 0.5)
    estimates.learn("m", "w1", MEGAPIXEL, 10.0)
    estimates.learn("m", "w1", MEGAPIXEL, 10.0)
    assert estimates.rate("m", "w1") == estimates.rate("m") == Span(1.0, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_impossible_times_teach_nothing(seconds: float) -> None:
    assert taught(seconds).rates == {}


def test_a_video_without_pictures_teaches_nothing() -> None:
    estimates = Estimates()
    estimates.learn("m", "w1", replace(MEGAPIXEL, frames=0), 5.0)
    assert estimates.rates == {}


def test_p14_the_longest_unused_pairs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "PAIRS", 5)
    estimates = Estimates()
    for number in range(20):
        estimates.learn("m", f"w{number}", MEGAPIXEL, 1.0)
        assert estimates.rate("m", f"w{number}") is not None
    assert len(estimates.rates) == 5 and set(estimates.known) <= set(estimates.rates)
    assert set(estimates.rates) >= {("m", ""), ("m", "w19")}


# --- after a restart


def done(**changes: object) -> Task:
    """A task that a worker has completed in ten seconds at the first attempt."""
    task = a_task(state=State.COMPLETED, attempt=1, worker="w1", started_at=START, ended_at=START + 10.0)
    return replace(task, **changes)  # type: ignore[arg-type]


def test_tasks_that_ended_before_a_restart_tell_how_long_work_takes() -> None:
    estimates = Estimates()
    estimates.recall([done(), done()])
    span = estimates.span("m", done().video.facts, "w1")
    assert span is not None and (span.p50, span.p90) == pytest.approx((10.0, 10.0))


@pytest.mark.parametrize("changes", [
    {"attempt": 2}, {"state": State.FAILED}, {"state": State.CANCELLED}, {"started_at": None}, {"ended_at": None},
    {"worker": None}, {"ended_at": START - 5},
])
def test_tasks_that_do_not_tell_how_long_they_took_teach_nothing(changes: dict[str, object]) -> None:
    estimates = Estimates()
    estimates.recall([done(**changes)])
    assert estimates.rates == {}


# --- spans


def test_spans_add_up_and_scale() -> None:
    assert Span(1, 2) + Span(3, 5) == Span(4, 7)
    assert Span(1, 2).scaled(3) == Span(3, 6)
