"""The probe on good, odd, broken and hostile files; everything runs through the real fork server."""

from __future__ import annotations

import asyncio
import ctypes
import io
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
import pytest_asyncio

from hub import ports
from hub.errors import MediaRefused, Unavailable
from hub.media import Facts, Purpose, compare
from store.probe import ROOT, Probe
from store.probe_wire import REFUSALS, Job, Refused
from tests import odd_media

pytestmark = [pytest.mark.media, pytest.mark.asyncio(loop_scope="module")]
HOSTILE = "tests.store.hostile_decoder"

if TYPE_CHECKING:
    def keeps_the_promise(probe: Probe) -> ports.Probe:
        return probe


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probe() -> AsyncIterator[Probe]:
    probe = Probe()
    await probe.start()
    yield probe
    await probe.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile() -> AsyncIterator[Probe]:
    os.environ["A_SECRET_OF_THE_HUB"] = "x"
    probe = Probe(decoder=HOSTILE, timeout_s=1.0, memory=512 << 20)
    await probe.start()
    del os.environ["A_SECRET_OF_THE_HUB"]
    yield probe
    await probe.stop()


async def refused(probe: Probe, path: Path, purpose: Purpose = Purpose.VIDEO) -> MediaRefused:
    with pytest.raises(MediaRefused) as caught:
        await probe(path, purpose)
    assert caught.value.code in REFUSALS
    assert caught.value.detail
    return caught.value


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def size_of(jpeg: bytes) -> tuple[int, int]:
    with av.open(io.BytesIO(jpeg), "r", format="jpeg_pipe") as picture:
        frame = next(picture.decode(video=0))
        return frame.width, frame.height


# --- what is taken ----------------------------------------------------------------------------------------------


H264 = {"codec": "h264", "pixel_format": "yuv420p"}
CLIPS: list[tuple[Callable[[], Path], dict[str, Any]]] = [
    (lambda: odd_media.WEBCAM, {**H264, "frames": 72, "duration": 2.4, "container": "mp4", "audio_codec": "mp3"}),
    (odd_media.silent, {**H264, "frames": 36, "duration": 1.2, "audio_codec": None}),
    (odd_media.turned, {**H264, "width": 360, "height": 640, "rotation": 90}),
    (odd_media.upside_down, {**H264, "width": 640, "height": 360, "rotation": 180}),
    (odd_media.variable, {**H264, "variable": True, "fps": "350/19", "frames": 36}),
    (odd_media.ntsc, {**H264, "fps": "30000/1001", "variable": False}),
    (odd_media.webm, {"codec": "vp9", "container": "webm", "audio_codec": "opus", "fps": "30/1", "frames": 36}),
    (odd_media.vp8, {"codec": "vp8", "container": "webm", "frames": 35}),
    (odd_media.hevc, {"codec": "hevc", "container": "mp4", "audio_codec": "aac"}),
    (odd_media.ten_bit, {"pixel_format": "yuv420p10le"}),
    (odd_media.odd_size, {"width": 641, "height": 361, "pixel_format": "yuv444p"}),
    (odd_media.wide_pixels, {"width": 640, "height": 360}),
    (odd_media.fragmented, {"container": "mp4", "frames": 36, "duration": 1.2}),
    (odd_media.avi, {"container": "avi", "codec": "mjpeg", "frames": 12}),
    (odd_media.mpegts, {"container": "mpegts", "frames": 36, "audio_codec": "aac"}),
    (odd_media.matroska, {"container": "matroska", "frames": 36, "audio_codec": "aac"}),
    (odd_media.one_picture, {"frames": 1, "fps": "30/1", "variable": False}),
]


@pytest.mark.parametrize(("clip", "expected"), CLIPS, ids=lambda value: getattr(value, "__name__", None))
async def test_p19_counting_and_decoding_come_to_the_same_facts(
    probe: Probe, clip: Callable[[], Path], expected: dict[str, Any]
) -> None:
    """As a user's video its packets are counted, as a result every picture is decoded (P19)."""
    facts, poster = await probe(clip(), Purpose.VIDEO)
    assert {name: getattr(facts, name) for name in expected} == expected
    decoded, _ = await probe(clip(), Purpose.RESULT)
    assert decoded == facts
    width, height = size_of(poster)
    assert max(width, height) <= 640
    assert width / height == pytest.approx(facts.width / facts.height, rel=0.01)


async def test_p19_a_playable_result_in_another_container_stands_for_its_source(probe: Probe) -> None:
    source, _ = await probe(odd_media.matroska(), Purpose.VIDEO)
    result, _ = await probe(odd_media.webm(), Purpose.RESULT)
    assert compare(source, result) is None


async def test_a_large_film_gets_a_small_poster(probe: Probe) -> None:
    _, poster = await probe(odd_media.MEDIA / "fullbody-vertical-60fps.mp4", Purpose.VIDEO)
    assert size_of(poster) == (363, 640)
    assert len(poster) < 100_000


@pytest.mark.parametrize(("picture", "kind", "size"), [
    (lambda: odd_media.PAGODA, "jpeg", (640, 427)),
    (odd_media.phone_jpeg, "jpeg", (427, 640)),
    (odd_media.png, "png", (320, 214)),
    (odd_media.webp, "webp", (320, 214)),
])
async def test_still_pictures(probe: Probe, picture: Callable[[], Path], kind: str, size: tuple[int, int]) -> None:
    facts, poster = await probe(picture(), Purpose.BACKGROUND)
    assert (facts.width, facts.height) == size == size_of(poster)
    assert (facts.container, facts.frames, facts.duration) == (kind, 1, 0.0)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clip", "code"), [
    (odd_media.empty, "not_video"),
    (odd_media.text, "not_video"),
    (odd_media.zeros, "not_video"),
    (odd_media.ftyp_only, "not_video"),
    (odd_media.ffconcat, "not_video"),
    (odd_media.m3u8, "not_video"),
    (odd_media.sdp, "not_video"),
    (odd_media.png, "not_video"),
    (odd_media.heic, "not_video"),
    (odd_media.moving_gif, "unsupported_format"),
    (odd_media.rare_codec, "unsupported_format"),
    (odd_media.magicyuv, "unsupported_format"),
    (odd_media.sound_only, "no_video_stream"),
    (odd_media.cut_moov_first, "truncated"),
    (odd_media.cut_moov_last, "truncated"),
    (odd_media.huge, "too_many_pixels"),
])
@pytest.mark.parametrize("purpose", [Purpose.VIDEO, Purpose.RESULT])
async def test_bad_video(probe: Probe, clip: Callable[[], Path], code: str, purpose: Purpose) -> None:
    assert (await refused(probe, clip(), purpose)).code == code


@pytest.mark.parametrize(("picture", "code"), [
    (odd_media.empty, "not_picture"),
    (odd_media.text, "not_picture"),
    (lambda: odd_media.WEBCAM, "not_picture"),
    (odd_media.svg, "unsupported_format"),
    (odd_media.heic, "unsupported_format"),
    (odd_media.moving_gif, "animated"),
    (odd_media.moving_png, "animated"),
    (odd_media.moving_webp, "animated"),
    (odd_media.cut_jpeg, "truncated"),
    (odd_media.png_bomb, "too_many_pixels"),
])
async def test_bad_picture(probe: Probe, picture: Callable[[], Path], code: str) -> None:
    assert (await refused(probe, picture(), Purpose.BACKGROUND)).code == code


@pytest.mark.parametrize(("clip", "keep"), [
    (odd_media.webm, 30_000), (odd_media.avi, 60_000), (odd_media.fragmented, 40_000), (odd_media.matroska, 30_000),
])
async def test_the_end_is_missed_in_every_container_that_says_its_length(
    probe: Probe, tmp_path: Path, clip: Callable[[], Path], keep: int
) -> None:
    short = write(tmp_path / "short", clip().read_bytes()[:keep])
    assert (await refused(probe, short)).code == "truncated"


async def test_a_broadcast_cut_anywhere_is_still_a_film(probe: Probe, tmp_path: Path) -> None:
    short = write(tmp_path / "short", odd_media.mpegts().read_bytes()[:60_160])
    facts, _ = await probe(short, Purpose.VIDEO)
    assert 5 < facts.frames < 36


@pytest.mark.parametrize("suffix", ["png", "webp"])
async def test_the_end_of_a_picture_is_missed(probe: Probe, tmp_path: Path, suffix: str) -> None:
    whole = {"png": odd_media.png, "webp": odd_media.webp}[suffix]().read_bytes()
    for keep in (20, 8000):
        short = write(tmp_path / "short", whole[:keep])
        assert (await refused(probe, short, Purpose.BACKGROUND)).code == "truncated"


@pytest.mark.parametrize("content", [
    struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 0, b"moov") * 3,
    struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4sQ", 1, b"moov", 1 << 63),
    struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4sQ", 1, b"free", 1 << 60) + b"moov",
    struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + b"".join(
        struct.pack(">I4s", 8 * (10_000 - depth), b"moov" if depth == 0 else b"trak") for depth in range(10_000)),
    b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(100),
    b"\x1a\x45\xdf\xa3" + b"\xff" * 100,
    b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 100,
], ids=["zero", "2^63", "2^60", "deep", "gif", "ebml", "riff"])
async def test_impossible_sizes(probe: Probe, tmp_path: Path, content: bytes) -> None:
    await refused(probe, write(tmp_path / "x", content))
    await refused(probe, write(tmp_path / "x", content), Purpose.BACKGROUND)


async def test_impossible_sample_counts(probe: Probe, tmp_path: Path) -> None:
    data = bytearray(odd_media.silent().read_bytes())
    for table in (b"stts", b"stsz"):
        at = data.index(table) + (8 if table == b"stts" else 12)
        data[at:at + 4] = b"\xff\xff\xff\xff"
    await refused(probe, write(tmp_path / "x.mp4", bytes(data)))


async def test_a_png_that_claims_to_be_immense(probe: Probe, tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 1 << 31, 1 << 31, 8, 2, 0, 0, 0)
    png = (b"\x89PNG\r\n\x1a\n" + odd_media.chunk(b"IHDR", header) + odd_media.chunk(b"IDAT", b"")
           + odd_media.chunk(b"IEND", b""))
    assert (await refused(probe, write(tmp_path / "x.png", png), Purpose.BACKGROUND)).code == "too_many_pixels"


async def test_more_pictures_than_the_limit() -> None:
    probe = Probe(max_frames=35)
    try:
        assert (await refused(probe, odd_media.silent())).code == "too_many_frames"
    finally:
        await probe.stop()


async def test_a_damaged_picture_fails_a_result(probe: Probe, tmp_path: Path) -> None:
    data = bytearray(odd_media.silent().read_bytes())
    start = data.index(b"mdat") + 20_000
    data[start:start + 4000] = random.Random(1).randbytes(4000)
    assert (await refused(probe, write(tmp_path / "x.mp4", bytes(data)), Purpose.RESULT)).code == "not_video"


async def test_only_plain_files(probe: Probe, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(odd_media.WEBCAM)
    os.mkfifo(tmp_path / "pipe")
    for path in (link, tmp_path / "pipe", tmp_path):
        await refused(probe, path)
    with pytest.raises(FileNotFoundError):
        await probe(tmp_path / "absent", Purpose.VIDEO)


async def test_a_hundred_mutations(probe: Probe, tmp_path: Path) -> None:
    """Whatever is in a file, it ends in facts or in a refusal, and the next file is looked into."""
    chance = random.Random(20)
    seeds = [
        (odd_media.silent(), Purpose.RESULT), (odd_media.fragmented(), Purpose.VIDEO),
        (odd_media.webm(), Purpose.VIDEO),
        (odd_media.png(), Purpose.BACKGROUND), (odd_media.phone_jpeg(), Purpose.BACKGROUND),
    ]

    async def one(number: int) -> str:
        seed, purpose = seeds[number % len(seeds)]
        mutant = write(tmp_path / str(number), mutated(seed.read_bytes(), chance))
        try:
            facts, _ = await probe(mutant, purpose)
        except MediaRefused as refusal:
            return refusal.code
        assert facts.width * facts.height <= 64_000_000
        return "taken"

    outcomes = await asyncio.gather(*(one(number) for number in range(100)))
    assert set(outcomes) <= {"taken", *REFUSALS}
    assert not {"probe_crashed", "probe_timeout"} & set(outcomes)
    facts, _ = await probe(odd_media.WEBCAM, Purpose.VIDEO)
    assert facts.frames == 72


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed (often in the header or the index), a part doubled, or the end gone."""
    mutant = bytearray(data)
    edges = [at for name in (b"moov", b"IHDR", b"\xff\xc0") if (at := data.find(name)) >= 0] or [0]
    for _ in range(chance.choice((1, 5, 50))):
        start = chance.choice([chance.choice(edges), 0, chance.randrange(len(mutant))])
        value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        mutant[min(len(mutant) - 1, start + chance.randrange(600))] = value
    if chance.random() < 0.2:
        start = chance.randrange(len(mutant))
        mutant[start:start] = mutant[start:start + chance.randrange(5000)]
    if chance.random() < 0.1:
        del mutant[chance.randrange(len(mutant)):]
    return bytes(mutant)


# --- fences -----------------------------------------------------------------------------------------------------


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
])
async def test_fault_27_hostile_child(hostile: Probe, tmp_path: Path, deed: str, code: str) -> None:
    """Fault 27: refused with a code, nothing of it lives on, and the next file is looked into."""
    assert (await refused(hostile, write(tmp_path / "x", deed))).code == code
    assert children_of(hostile) == []
    good = write(tmp_path / "good", "lie " + json.dumps([{"width": 4, "height": 2, **NAMES}, True]))
    assert (await hostile(good, Purpose.VIDEO))[0].width == 4


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


def decoding_under(pid: int) -> list[int]:
    """The decoding children of a fork server, which is two processes where it has its own process namespace."""
    below = pids_under(pid)
    if below and "\t1\n" in Path(f"/proc/{below[0]}/status").read_text().partition("NSpid:")[2][:40]:
        return pids_under(below[0])  # that one is process 1 in there
    return below


def pids_under(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
    assert set(Facts.__dataclass_fields__) == {
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
