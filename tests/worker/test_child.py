from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker import tasks
from worker.child import Child
from worker.errors import AttemptFailed, BadInput
from worker.job import Order, Report, TaskFunction

FUNCTIONS: dict[str, TaskFunction] = {
    function.__name__: function
    for function in (
        tasks.copy, tasks.spin, tasks.deaf, tasks.crash, tasks.refuse, tasks.break_down, tasks.forget, tasks.chatter,
        tasks.pid, tasks.helpers,
    )
}
MakeOrder = Callable[..., Order]


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    child = Child(1, FUNCTIONS)
    yield child
    child.kill()


@pytest.fixture
def order(tmp_path: Path) -> MakeOrder:
    (tmp_path / "video").write_bytes(b"moving pictures")

    def make(model: str, **options: Any) -> Order:
        return Order("t1", 1, model, options, {"video": tmp_path / "video"}, tmp_path / "result.mp4")

    return make


def ignore(report: Report) -> None:
    """Nobody wants to know."""


async def cancelled(child: Child, order: Order) -> list[Report]:
    """Run an order and cancel it once it has begun; its reports."""
    begun, reports = asyncio.Event(), list[Report]()

    def on_report(report: Report) -> None:
        reports.append(report)
        begun.set()

    running = asyncio.create_task(child.run(order, on_report))
    await asyncio.wait_for(begun.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return reports


async def test_an_order_is_carried_out_and_its_numbers_come_back(child: Child, order: MakeOrder) -> None:
    reports: list[Report] = []
    assert await child.run(order("copy"), reports.append) == {"frames": 2.0, "seconds": 0.5}
    assert reports == [Report("segment", 50.0, 1, "half"), Report("encode", 100.0, 2)]
    assert order("copy").output.read_bytes() == b"moving pictures"


async def test_the_process_lives_from_job_to_job(child: Child, order: MakeOrder) -> None:
    pids = []
    for _ in range(2):
        await child.run(order("pid"), ignore)
        pids.append(order("pid").output.read_text())
    assert pids[0] == pids[1] != str(os.getpid())


@pytest.mark.parametrize("model, code", [
    ("break_down", "worker_error"), ("forget", "no_result"), ("unheard_of", "worker_error"),
])
async def test_a_function_that_fails_says_why(
    child: Child, order: MakeOrder, model: str, code: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AttemptFailed) as failure:
        await child.run(order(model), ignore)
    assert (failure.value.code, failure.value.retryable) == (code, True)
    await child.run(order("copy"), ignore)


async def test_bad_input_is_final(child: Child, order: MakeOrder) -> None:
    with pytest.raises(BadInput) as failure:
        await child.run(order("refuse"), ignore)
    assert (failure.value.code, failure.value.detail, failure.value.retryable) == (
        "not_video", "no pictures in it", False,
    )


async def test_a_crash_is_one_failed_attempt_and_the_next_job_gets_a_new_process(
    child: Child, order: MakeOrder
) -> None:
    with pytest.raises(AttemptFailed, match="worker_crashed.*SIGSEGV"):
        await child.run(order("crash"), ignore)
    assert await child.run(order("crash", crash=False), ignore) == {"frames": 2.0, "seconds": 0.5}


async def test_an_order_whose_reports_cannot_be_taken_does_not_end_the_next_one(
    child: Child, order: MakeOrder, tmp_path: Path
) -> None:
    def break_down(report: Report) -> None:
        raise OSError("a bug in the parent")

    with pytest.raises(OSError, match="a bug in the parent"):
        await child.run(order("spin", mark=str(tmp_path / "mark")), break_down)
    assert await child.run(order("copy"), ignore) == {"frames": 2.0, "seconds": 0.5}


async def test_what_a_task_function_starts_can_be_ended_as_usual(child: Child, order: MakeOrder) -> None:
    await child.run(order("helpers"), ignore)
    assert order("helpers").output.read_text() == "-15 -15"


async def test_a_process_that_died_between_jobs_is_replaced(child: Child, order: MakeOrder) -> None:
    await child.run(order("copy"), ignore)
    assert child.process is not None
    child.process.kill()
    child.process.join()
    assert await child.run(order("copy"), ignore) == {"frames": 2.0, "seconds": 0.5}


async def test_a_function_that_notices_its_end_keeps_its_process(
    child: Child, order: MakeOrder, tmp_path: Path
) -> None:
    await child.run(order("pid"), ignore)
    before = order("pid").output.read_text()
    await cancelled(child, order("spin", mark=str(tmp_path / "mark")))
    assert (tmp_path / "mark").read_text() == "stopped"
    await child.run(order("pid"), ignore)
    assert order("pid").output.read_text() == before


async def test_a_function_that_hears_nothing_is_killed(child: Child, order: MakeOrder) -> None:
    reports = await cancelled(child, order("deaf"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(reports[0].message), 0)
    assert await child.run(order("copy"), ignore) == {"frames": 2.0, "seconds": 0.5}


async def test_reports_are_thinned_but_each_phase_keeps_its_last(child: Child, order: MakeOrder) -> None:
    reports: list[Report] = []
    await child.run(order("chatter"), reports.append)
    last = {report.phase: report.percent for report in reports}
    assert last == {"segment": 50.0, "encode": 100.0}  # what copy says last, after two thousand of each
    assert len(reports) < 20


def test_the_process_ends_with_its_parent_even_while_it_is_busy(tmp_path: Path) -> None:
    script = f"""
import asyncio, os
from pathlib import Path
from tests.worker import tasks
from worker.child import Child
from worker.job import Order

async def main():
    order = Order("t1", 1, "deaf", {{}}, {{}}, Path({str(tmp_path / "result")!r}))
    await Child(1, {{"deaf": tasks.deaf}}).run(order, lambda report: os.kill(os.getpid(), 9))

if __name__ == "__main__":
    asyncio.run(main())
"""
    # The model's process inherits the pipe of stdout, so the end of that is the end of both.
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=20, check=False)
    assert done.returncode == -9
