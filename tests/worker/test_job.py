from __future__ import annotations

import threading
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.errors import Stopped
from worker.job import Job, Order, Report

ORDER = Order("t1", 1, "m", {"color": "#ffffff"}, {"video": Path("in")}, Path("out"))


def test_progress_passes_items_through_and_reports_each() -> None:
    reports: list[Report] = []
    job = Job(ORDER, reports.append)
    assert list(job.progress(["a", "b"], phase="composite")) == ["a", "b"]
    assert reports == [Report("composite", 0.0, 0), Report("composite", 50.0, 1), Report("composite", 100.0, 2)]


def test_progress_over_an_unknown_number_counts_only() -> None:
    reports: list[Report] = []
    assert sum(Job(ORDER, reports.append).progress(iter([1, 2]))) == 3
    assert [(report.percent, report.frames_done) for report in reports] == [(0.0, 0), (0.0, 1), (0.0, 2)]


def test_a_cancelled_job_stops_at_its_next_report() -> None:
    stop = threading.Event()
    job = Job(ORDER, stop=stop)
    frames = job.progress(range(10))
    assert next(frames) == 0 and not job.cancelled
    stop.set()
    with pytest.raises(Stopped):
        next(frames)
    assert job.cancelled


def test_numbers_of_any_kind_travel_as_plain_ones() -> None:
    reports: list[Report] = []
    job = Job(ORDER, reports.append)
    job.report("segment", np.float32(50.0), np.int64(3), ValueError("half"))
    job.report(np.str_("encode"), "75", -1)  # type: ignore[arg-type]  # a slip, but no harm
    assert reports == [Report("segment", 50.0, 3, "half"), Report("encode", 75.0, 0)]
    assert {type(value) for report in reports for value in astuple(report)} == {str, float, int}


def test_percentages_are_held_within_bounds_and_what_is_not_finite_is_not_said() -> None:
    reports: list[Report] = []
    job = Job(ORDER, reports.append)
    for percent in (-1.0, float("nan"), float("inf"), float("-inf"), 101.0):
        job.report("segment", percent)
    assert reports == [Report("segment", 0.0), Report("segment", 100.0)]


@pytest.mark.parametrize("percent, frames", [("half", 1), (None, 1), (1.0, "many"), (1.0, float("nan"))])
def test_what_is_no_number_is_an_error_where_it_is_said(percent: Any, frames: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Job(ORDER).report("segment", percent, frames)


def test_a_phase_that_the_hub_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="segment, composite, encode"):
        Job(ORDER).report("dreaming", 1.0)
