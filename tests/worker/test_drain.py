"""How a worker leaves: running work ends first, and whoever has no patience ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.messages import Accept, Assign, Bye, Cancel, Decline, Drain, Hello, Progress, Result, ResultAck, Status
from tests.worker.serving import make_worker, serving
from worker.testing import FakeHub
from worker.threads import in_thread


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        yield hub


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def open_gate(gate: Path) -> None:
    await in_thread(lambda: gate.write_text("go\n"))


async def finishes_what_runs_and_leaves(hub: FakeHub, lease: str, gate: Path) -> None:
    """A worker that drains takes nothing new, delivers what it has, and goes when that is acknowledged."""
    offer = await hub.offer("copy")
    assert (await hub.expect(Decline, offer=offer.offer)).reason == "about to stop"
    await open_gate(gate)
    await hub.expect(Result, lease=lease)
    assert not [message for message in hub.said if isinstance(message, Bye)]
    await hub.send(ResultAck(lease=lease))
    await hub.expect(Bye)


async def test_a_worker_that_drains_finishes_what_runs_and_takes_nothing_new(hub: FakeHub, gate: Path) -> None:
    """The task of a draining worker lives on."""
    async with serving(hub, slots=2) as worker:
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        worker.drain()
        await hub.expect(Drain)
        await finishes_what_runs_and_leaves(hub, lease, gate)
    assert len(hub.uploads) == 1


async def test_a_worker_with_nothing_to_do_leaves_at_once(hub: FakeHub) -> None:
    async with serving(hub) as worker:
        await hub.expect(Hello)
        await hub.expect(Status)
        worker.drain()
        await hub.expect(Bye)
    assert isinstance(hub.said[-2], Drain)


async def test_a_worker_that_the_hub_asks_to_leave_finishes_what_runs_and_leaves(hub: FakeHub, gate: Path) -> None:
    service = asyncio.create_task(make_worker(slots=2).serve(hub.url, hub.token))
    lease = await hub.assign("gate", {"gate": str(gate)})
    await hub.expect(Progress, phase="segment")
    await hub.send(Drain(reason="an admin asks it to finish and leave"))
    await hub.expect(Drain)
    await finishes_what_runs_and_leaves(hub, lease, gate)
    await asyncio.wait_for(service, 20)


async def test_a_worker_that_the_hub_asks_again_to_leave_still_finishes_what_runs(hub: FakeHub, gate: Path) -> None:
    """Neither a repetition nor the first signal after it is a second signal."""
    service = asyncio.create_task(make_worker().serve(hub.url, hub.token, signals=True))
    lease = await hub.assign("gate", {"gate": str(gate)})
    await hub.expect(Progress, phase="segment")
    for _ in range(2):
        await hub.send(Drain(reason="an admin asks it to finish and leave"))
    await hub.expect(Drain)
    os.kill(os.getpid(), signal.SIGTERM)
    await open_gate(gate)
    await hub.expect(Result, lease=lease)
    await hub.send(ResultAck(lease=lease))
    await hub.expect(Bye)
    await asyncio.wait_for(service, 20)
    assert len([message for message in hub.said if isinstance(message, Drain)]) == 1


async def test_the_process_of_a_worker_that_the_hub_asks_to_leave_ends_well(hub: FakeHub) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "--hub", hub.url, "--name", "anna",
        env={**os.environ, "WORKER_TOKEN": hub.token},
    )
    try:
        await hub.expect(Status)
        await hub.send(Drain(reason="an admin asks it to finish and leave"))
        await hub.expect(Bye)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_was_promised_is_waited_for(hub: FakeHub) -> None:
    async with serving(hub) as worker:
        offer = await hub.offer("copy")
        await hub.expect(Accept, offer=offer.offer)
        worker.drain()
        await hub.expect(Drain)
        await hub.send(Assign(
            lease="l1", task=offer.task, attempt=1, model="copy", options={}, inputs=list(hub.inputs.values()),
            upload_url=f"{hub.files.url}/api/uploads",
        ))
        await hub.expect(Result, lease="l1")
        await hub.send(ResultAck(lease="l1"))
        await hub.expect(Bye)


async def test_the_second_signal_ends_what_runs(hub: FakeHub) -> None:
    service = asyncio.create_task(make_worker().serve(hub.url, hub.token, signals=True))
    await hub.assign("deaf")
    pid = int((await hub.expect(Progress, phase="segment")).message)
    os.kill(os.getpid(), signal.SIGTERM)
    await hub.expect(Drain)
    os.kill(pid, 0)
    assert not service.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await hub.expect(Bye)
    await asyncio.wait_for(service, 20)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_signal_to_the_whole_group_lets_the_running_work_end(gate: Path) -> None:
    """As systemd, a container's init and a closed terminal send it."""
    script = "import sys; from tests.worker.serving import make_worker; make_worker().run(sys.argv[1], sys.argv[2])"
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, hub.url, hub.token, cwd=Path(__file__).parents[2], start_new_session=True,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            lease = await hub.assign("gate", {"gate": str(gate)})
            await hub.expect(Progress, phase="segment")
            os.killpg(process.pid, signal.SIGTERM)
            await hub.expect(Drain)
            await asyncio.wait_for(open_gate(gate), 20)
            await hub.expect(Result, lease=lease)
            await hub.send(ResultAck(lease=lease))
            await hub.expect(Bye)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("seconds", [0.0, 0.2])
async def test_patience_has_an_end(hub: FakeHub, seconds: float) -> None:
    async with serving(hub) as worker:
        await hub.assign("deaf")
        pid = int((await hub.expect(Progress, phase="segment")).message)
        worker.drain(seconds)
        await hub.expect(Bye)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_result_that_the_hub_was_away_for_is_delivered_before_the_goodbye(hub: FakeHub, gate: Path) -> None:
    async with serving(hub) as worker:
        await hub.expect(Hello)
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        worker.drain()
        await hub.expect(Drain)
        await hub.leave()
        hub.forget()
        await open_gate(gate)
        await hub.next_upload()
        await hub.listen()
        await hub.expect(Hello)
        await hub.expect(Drain)  # a hub that restarted does not know
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
        await hub.expect(Bye)


async def test_a_slot_that_is_free_again_is_told_at_once(hub: FakeHub) -> None:
    """Not with the next heartbeat, which is a minute away."""
    async with serving(hub):
        assert (await hub.expect(Status)).slots_free == 1
        lease = await hub.assign("deaf")
        pid = int((await hub.expect(Progress, phase="segment")).message)
        await hub.send(Cancel(lease=lease))
        assert (await hub.expect(Status)).slots_free == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
