"""The fence around the probe's child, and the life of the process that forks it: through the real fork server."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hub.errors import Unavailable
from hub.media import Facts, Purpose
from store.probe import ROOT, Probe
from store.probe_wire import Job, Refused
from tests import odd_media
from tests.store.probing import decoding_under, probe, refused, write

__all__ = ["probe"]
pytestmark = [pytest.mark.media, pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "tests.store.hostile_decoder"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile() -> AsyncIterator[Probe]:
    os.environ["A_SECRET_OF_THE_HUB"] = "x"
    probe = Probe(decoder=HOSTILE, timeout_s=1.0, memory=512 << 20)
    await probe.start()
    del os.environ["A_SECRET_OF_THE_HUB"]
    yield probe
    await probe.stop()


class Watch:
    """Whether anybody opens a file (inotify)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(path), 0x20) > 0  # IN_OPEN

    def opened(self) -> bool:
        try:
            return bool(os.read(self.descriptor, 4096))
        except BlockingIOError:
            return False


@pytest.mark.parametrize("fenced", [True, False], ids=["in the child", "without any fence"])
async def test_p16_a_neighbours_file_is_never_opened(probe: Probe, fenced: bool) -> None:
    """P16: lists named .mp4 are refused by the choice of demuxers alone, fence or not."""
    from store.probe_decode import decode

    lists = [odd_media.ffconcat(), odd_media.m3u8(), odd_media.sdp()]
    watch = Watch(odd_media.neighbour())
    try:
        for path in lists:
            if fenced:
                assert (await refused(probe, path)).code == "not_video"
            else:
                job = Job("video", path.stat().st_size, False, 1 << 25, 1000, 9.0, 9, 0)
                with path.open("rb") as file, pytest.raises(Refused):
                    decode(file, job)
        assert not watch.opened()
        odd_media.neighbour().read_bytes()
        assert watch.opened()  # the watch does work
    finally:
        os.close(watch.descriptor)


async def test_p16_the_child_reaches_nothing(hostile: Probe, tmp_path: Path) -> None:
    """P16: no file, network, process, user or limit is within reach of a decoder that was taken over."""
    outcome = await refused(hostile, write(tmp_path / "x", f"reach {odd_media.neighbour()}"))
    assert outcome.detail == "nothing"


async def test_p16_nor_when_the_hub_has_many_descriptors(tmp_path: Path) -> None:
    """A fork server that is started under load gets its socket under a high number."""
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    probe = Probe(decoder=HOSTILE)
    try:
        outcome = await refused(probe, write(tmp_path / "x", f"reach {odd_media.neighbour()}"))
        assert outcome.detail == "nothing"
    finally:
        await probe.stop()
        for descriptor in many:
            os.close(descriptor)


@pytest.mark.parametrize(("deed", "code"), [
    ("sleep", "probe_timeout"),
    ("spin", "probe_timeout"),
    ("stop", "probe_timeout"),
    ("crash", "probe_crashed"),
    ("error", "probe_crashed"),
    ("eat", "probe_memory"),
    ("shout", "not_video"),
    ("babble", "probe_crashed"),
    ("fork", "not_video"),
])
async def test_fault_27_hostile_child(hostile: Probe, tmp_path: Path, deed: str, code: str) -> None:
    """Fault 27: refused with a code, nothing of it lives on, and the next file is looked into."""
    assert (await refused(hostile, write(tmp_path / "x", deed))).code == code
    assert children_of(hostile) == []
    good = write(tmp_path / "good", "lie " + json.dumps([{"width": 4, "height": 2, **NAMES}, True]))
    assert (await hostile(good, Purpose.VIDEO))[0].width == 4


async def test_fault_27_a_busy_child_is_ended_by_its_processor_time(hostile: Probe, tmp_path: Path) -> None:
    """The kernel ends it, long before its time on the wall is over."""
    probe = Hurried(decoder=HOSTILE, timeout_s=60)
    try:
        assert (await refused(probe, write(tmp_path / "x", "spin"))).code == "probe_timeout"
        assert children_of(probe) == []
    finally:
        await probe.stop()


class Hurried(Probe):
    """Its children may compute for a second."""

    def job(self, purpose: Purpose, size: int) -> Job:
        return replace(super().job(purpose, size), cpu_s=1)


async def test_fault_27_a_child_s_limits_are_the_kernel_s(hostile: Probe, tmp_path: Path) -> None:
    """Fault 27: memory, processor time, written files, processes, descriptors and core dumps, none to be raised."""
    said = (await refused(hostile, write(tmp_path / "x", "limits"))).detail
    assert json.loads(said) == {
        "AS": [512 << 20, 512 << 20], "CPU": [2, 3], "FSIZE": [0, 0], "NPROC": [0, 0], "NOFILE": [0, 0], "CORE": [0, 0],
    }


async def test_fault_27_a_child_cannot_fork(hostile: Probe, tmp_path: Path) -> None:
    assert (await refused(hostile, write(tmp_path / "x", "fork"))).detail == "0 forks"


@pytest.mark.parametrize("deed", ["leave", "linger"])
async def test_fault_27_what_a_child_left_behind_goes_with_it(tmp_path: Path, deed: str) -> None:
    """Where forking were possible after all: the whole group ends, with a child that ends and with one that hangs."""
    probe = Probe(decoder="tests.store.forking_decoder", timeout_s=1.0)
    try:
        await refused(probe, write(tmp_path / "x", deed))
        async with asyncio.timeout(5):
            while children_of(probe):  # the kernel takes a moment for the last ones
                await asyncio.sleep(0.01)
    finally:
        await probe.stop()


NAMES = {"codec": "h264", "pixel_format": "yuv420p", "container": "mp4"}


@pytest.mark.parametrize("lie", [
    {"width": 0}, {"width": -1}, {"width": 1 << 63}, {"width": 1.5}, {"width": "4"}, {"height": None},
    {"fps": "1/0"}, {"fps": "99999/1"}, {"fps": "NaN"}, {"fps": "x" * 1000}, {"frames": 0}, {"frames": -(1 << 63)},
    {"duration": float("nan")}, {"duration": float("inf")}, {"duration": -1.0}, {"rotation": 45},
    {"codec": ""}, {"codec": "<b>"}, {"audio_codec": "a" * 100}, {"variable": 2},
])
async def test_p16_no_answer_is_believed_unchecked(hostile: Probe, tmp_path: Path, lie: dict[str, Any]) -> None:
    facts = {"width": 4, "height": 2, **NAMES, **lie}
    path = write(tmp_path / "x", "lie " + json.dumps([facts, True]))
    assert (await refused(hostile, path)).code == "probe_crashed"


async def test_p16_a_poster_is_a_jpeg(hostile: Probe, tmp_path: Path) -> None:
    path = write(tmp_path / "x", "lie " + json.dumps([{"width": 4, "height": 2, **NAMES}, False]))
    assert (await refused(hostile, path)).code == "probe_crashed"


async def test_p13_the_loop_stays_free(probe: Probe) -> None:
    """P13: while every picture of a large clip is decoded the loop goes on turning."""
    turns = 0
    work = asyncio.create_task(probe(odd_media.MEDIA / "fullbody-vertical-60fps.mp4", Purpose.RESULT))
    while not work.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert (await work)[0].frames == 100
    assert turns >= 10


async def test_at_most_two_at_once(hostile: Probe, tmp_path: Path) -> None:
    sleeper = write(tmp_path / "x", "sleep")
    probes = [asyncio.create_task(refused(hostile, sleeper)) for _ in range(3)]
    most = 0
    while not all(task.done() for task in probes):
        most = max(most, len(children_of(hostile)))
        await asyncio.sleep(0.02)
    assert most == 2
    assert [(await task).code for task in probes] == ["probe_timeout"] * 3


# --- the fork server's own life ---------------------------------------------------------------------------------


async def test_a_dead_fork_server_is_replaced() -> None:
    probe = Probe()
    await probe.start()
    try:
        os.kill((await probe.running()).process.pid, signal.SIGKILL)
        facts, _ = await probe(odd_media.silent(), Purpose.VIDEO)
        assert facts.frames == 36
    finally:
        await probe.stop()


async def test_children_die_with_the_fork_server(tmp_path: Path) -> None:
    probe = Probe(decoder=HOSTILE, timeout_s=60)
    await probe.start()
    try:
        work = asyncio.create_task(probe(write(tmp_path / "x", "sleep"), Purpose.VIDEO))
        child = await first_child(probe)
        os.kill((await probe.running()).process.pid, signal.SIGKILL)
        assert await gone(child)
        work.cancel()
    finally:
        await probe.stop()


async def test_cancelling_kills_the_child(tmp_path: Path) -> None:
    probe = Probe(decoder=HOSTILE, timeout_s=60)
    await probe.start()
    try:
        work = asyncio.create_task(probe(write(tmp_path / "x", "sleep"), Purpose.VIDEO))
        child = await first_child(probe)
        work.cancel()
        assert await gone(child)
    finally:
        await probe.stop()


async def test_p15_stop_ends_probes_under_way(tmp_path: Path) -> None:
    probe = Probe(decoder=HOSTILE, timeout_s=60)
    await probe.start()
    work = asyncio.create_task(probe(write(tmp_path / "x", "sleep"), Purpose.VIDEO))
    child = await first_child(probe)
    await probe.stop()
    await probe.stop()
    assert await gone(child)
    with pytest.raises(Unavailable):
        await work


async def test_the_fork_server_dies_with_the_hub(tmp_path: Path) -> None:
    """Even when the hub is killed in the middle of a probe."""
    path = write(tmp_path / "x", "sleep")
    script = f"""
import asyncio, pathlib
from hub.media import Purpose
from store.probe import Probe
async def main():
    probe = Probe(decoder={HOSTILE!r})
    await probe.start()
    print((await probe.running()).process.pid, flush=True)
    await probe(pathlib.Path({str(path)!r}), Purpose.VIDEO)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout
        server = int(await asyncio.to_thread(hub.stdout.readline))
        while not (children := decoding_under(server)):
            await asyncio.sleep(0.01)
        hub.kill()
    assert await gone(server)
    assert await gone(children[0])


async def test_a_fork_server_that_cannot_start_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable):
        await Probe(decoder="tests.store.no_such_decoder").start()
    assert "no_such_decoder" in capfd.readouterr().err


async def test_no_descriptor_is_left(probe: Probe, hostile: Probe, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await probe(odd_media.PAGODA, Purpose.BACKGROUND)
    await refused(probe, odd_media.text())
    await refused(hostile, write(tmp_path / "x", "babble"))
    assert len(os.listdir("/proc/self/fd")) == before


def children_of(probe: Probe) -> list[int]:
    assert probe.server
    return decoding_under(probe.server.result().process.pid)


async def first_child(probe: Probe) -> int:
    while not (children := children_of(probe)):
        await asyncio.sleep(0.01)
    return children[0]


async def gone(pid: int) -> bool:
    """Wait for the end of a process that is not ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], 5.0)
        return bool(readable)
    finally:
        os.close(descriptor)


async def test_every_fact_can_be_checked() -> None:
    """A new fact needs a line in `plausible`."""
    assert set(Facts.__struct_fields__) == {
        "width", "height", "fps", "frames", "duration", "rotation", "codec", "pixel_format", "container", "audio_codec",
        "variable",
    }


async def test_the_fork_server_ends_without_a_word_when_its_hub_is_killed() -> None:
    script = (
        "import os, signal, socket\n"
        "from store.probe_child import ForkServer\n"
        "hub, control = socket.socketpair()\n"
        "hub.close()\n"
        "ForkServer(control, None).run()\n"
        "os.kill(os.getpid(), signal.SIGCHLD)  # a child of it has ended just now\n"
    )
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT, stderr=pipe)
    assert ((await server.communicate())[1], server.returncode) == (b"", 0)
