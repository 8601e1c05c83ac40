"""The probe on good, odd and broken files; everything runs through the real fork server."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hub import ports
from hub.errors import MediaRefused
from hub.media import Purpose, compare
from store.probe import Probe
from store.probe_wire import MAX_ANSWER
from tests import hostile_media, odd_media
from tests.hostile_media import brighter
from tests.store.probing import pixels_of, probe, refused, size_of, write

__all__ = ["probe"]
pytestmark = [pytest.mark.media, pytest.mark.asyncio(loop_scope="module")]

if TYPE_CHECKING:
    def keeps_the_promise(probe: Probe) -> ports.Probe:
        return probe


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
    facts, previews = await probe(clip(), Purpose.VIDEO)
    assert {name: getattr(facts, name) for name in expected} == expected
    decoded, _ = await probe(clip(), Purpose.RESULT)
    assert decoded == facts
    width, height = size_of(previews.poster)
    assert max(width, height) <= 640
    assert width / height == pytest.approx(facts.width / facts.height, rel=0.01)


async def test_p19_a_playable_result_in_another_container_stands_for_its_source(probe: Probe) -> None:
    source, _ = await probe(odd_media.matroska(), Purpose.VIDEO)
    result, _ = await probe(odd_media.webm(), Purpose.RESULT)
    assert compare(source, result) is None


async def test_a_large_film_gets_a_small_poster(probe: Probe) -> None:
    _, previews = await probe(odd_media.MEDIA / "fullbody-vertical-60fps.mp4", Purpose.VIDEO)
    assert size_of(previews.poster) == (363, 640)
    assert len(previews.poster) < 100_000


@pytest.mark.parametrize(("clip", "cell"), [
    (lambda: odd_media.WEBCAM, (160, 90)), (odd_media.turned, (90, 160)), (odd_media.wide_pixels, (160, 90)),
    (odd_media.one_picture, (160, 90)), (odd_media.webm, (160, 90)), (odd_media.avi, (160, 90)),
    (odd_media.mpegts, (160, 90)), (odd_media.variable, (160, 90)),
])
async def test_a_film_gets_a_strip_of_eight_pictures(
    probe: Probe, clip: Callable[[], Path], cell: tuple[int, int]
) -> None:
    _, previews = await probe(clip(), Purpose.VIDEO)
    assert size_of(previews.strip) == (8 * cell[0], cell[1])


async def test_the_strip_goes_through_the_film(probe: Probe, tmp_path: Path) -> None:
    """A film that gets brighter with each picture, and all in one group of pictures."""
    path = tmp_path / "brighter.mp4"
    brighter(path)
    _, previews = await probe(path, Purpose.VIDEO)
    pixels = pixels_of(previews.strip)[:, :, 0].astype(float)
    shades = [pixels[:, cell * 160 + 20:cell * 160 + 140].mean() for cell in range(8)]
    assert shades == sorted(shades) and shades[0] < 40 and shades[7] > 200
    poster = pixels_of(previews.poster)[:, :, 0].astype(float).mean()
    assert poster == pytest.approx(shades[2], abs=4)


async def test_a_damaged_place_in_the_middle_costs_no_more_than_its_pictures_in_the_strip(
    probe: Probe, tmp_path: Path
) -> None:
    data = bytearray(odd_media.avi().read_bytes())
    start = data.index(b"movi") + len(data) // 3
    data[start:start + 20_000] = bytes(20_000)
    _, previews = await probe(write(tmp_path / "x.avi", bytes(data)), Purpose.VIDEO)
    assert size_of(previews.strip) == (1280, 90)


async def test_results_and_backgrounds_have_no_strip(probe: Probe) -> None:
    assert not (await probe(odd_media.silent(), Purpose.RESULT))[1].strip
    assert not (await probe(odd_media.PAGODA, Purpose.BACKGROUND))[1].strip


async def test_previews_of_pure_noise_are_not_too_long_for_an_answer(probe: Probe) -> None:
    _, previews = await probe(hostile_media.noise(), Purpose.VIDEO)
    assert 100_000 < len(previews.poster) + len(previews.strip) < MAX_ANSWER * 3 // 4


@pytest.mark.parametrize(("picture", "kind", "size"), [
    (lambda: odd_media.PAGODA, "jpeg", (640, 427)),
    (odd_media.phone_jpeg, "jpeg", (427, 640)),
    (odd_media.png, "png", (320, 214)),
    (odd_media.webp, "webp", (320, 214)),
])
async def test_still_pictures(probe: Probe, picture: Callable[[], Path], kind: str, size: tuple[int, int]) -> None:
    facts, previews = await probe(picture(), Purpose.BACKGROUND)
    assert (facts.width, facts.height) == size == size_of(previews.poster)
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
    (lambda: odd_media.PAGODA, "not_video"),
    (odd_media.webp, "not_video"),
    (odd_media.heic, "heic"),
    (hostile_media.heic_burst, "heic"),
    (odd_media.svg, "svg"),
    (hostile_media.svg_with_preamble, "svg"),
    (odd_media.moving_gif, "animated"),
    (odd_media.moving_png, "animated"),
    (odd_media.moving_webp, "animated"),
    (hostile_media.still_gif, "unsupported_format"),
    (hostile_media.avif, "unsupported_format"),
    (odd_media.rare_codec, "unsupported_format"),
    (odd_media.magicyuv, "unsupported_format"),
    (odd_media.sound_only, "no_video_stream"),
    (hostile_media.mp3, "no_video_stream"),
    (hostile_media.wav, "no_video_stream"),
    (hostile_media.flac, "no_video_stream"),
    (hostile_media.opus, "no_video_stream"),
    (hostile_media.no_frames, "no_frames"),
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
    (hostile_media.mp3, "not_picture"),
    (odd_media.svg, "svg"),
    (hostile_media.svg_with_preamble, "svg"),
    (odd_media.heic, "heic"),
    (hostile_media.heic_burst, "heic"),
    (hostile_media.avif, "unsupported_format"),
    (hostile_media.still_gif, "unsupported_format"),
    (hostile_media.two_gif, "animated"),
    (odd_media.moving_gif, "animated"),
    (odd_media.moving_png, "animated"),
    (odd_media.moving_webp, "animated"),
    (odd_media.cut_jpeg, "truncated"),
    (odd_media.png_bomb, "too_many_pixels"),
    (hostile_media.wide_jpeg, "too_many_pixels"),
    (hostile_media.wide_webp, "too_many_pixels"),
    (hostile_media.thin_png, "too_many_pixels"),
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


async def test_pictures_that_grow_on_the_way_are_measured_before_they_are_decoded(probe: Probe) -> None:
    refusal = await refused(probe, hostile_media.growing())
    assert refusal.code in ("too_many_pixels", "not_video")


async def test_a_profile_that_unpacks_to_more_than_the_memory_is_cut_short() -> None:
    probe = Probe(memory=512 << 20)
    try:
        facts, _ = await probe(hostile_media.profile_bomb(), Purpose.BACKGROUND)
        assert (facts.width, facts.height) == (320, 214)
    except MediaRefused as refusal:
        assert refusal.code in ("probe_memory", "not_picture")
    finally:
        await probe.stop()


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
