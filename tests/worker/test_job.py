from __future__ import annotations

import threading
from pathlib import Path

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


def test_a_phase_that_the_hub_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="segment, composite, encode"):
        Job(ORDER).report("dreaming", 1.0)
