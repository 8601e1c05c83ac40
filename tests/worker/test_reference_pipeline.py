"""What the reference service makes of a video: the same video, with another background (P19 from the worker's end)."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio

from hub.media import Purpose, compare
from store.probe import Probe
from tests import odd_media
from tests.worker.reference_media import PAGODA, WEBCAM, Read, near, quarters, read, write
from worker.reference import BadInput, Stats, Stopped, replace_background
from worker.reference.composite import cover, read_picture

pytestmark = pytest.mark.media

KEEP_ALL = {"key_color": "#00ff00"}  # with pictures that have no green: everything is foreground
DROP_ALL = {"key_color": "#0000ff"}  # with pictures that are all blue: everything is background


def run(
    video: Path,
    output: Path,
    background: Path | None = None,
    model: str = "chroma-key",
    options: dict[str, Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Stats, Read, list[tuple[str, float, int]]]:
    told: list[tuple[str, float, int]] = []
    stats = replace_background(
        video, background, output, model, KEEP_ALL if options is None else options,
        lambda *step: told.append(step), should_stop,
    )
    return stats, read(output), told


@pytest.fixture(scope="module")
def webcam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Read, Read, list[tuple[str, float, int]], bytes]:
    """The real clip, done once: source, result, progress, the result's bytes."""
    output = tmp_path_factory.mktemp("webcam") / "result.mp4"
    _, result, told = run(WEBCAM, output, PAGODA, "mediapipe-selfie", {})
    return read(WEBCAM), result, told, output.read_bytes()


def test_p19_frames_times_and_sound_stay(webcam: Any) -> None:
    source, result, _, data = webcam
    assert len(result.times) == len(source.times) == 72
    assert result.times == pytest.approx(source.times, abs=1e-4)
    assert result.rate == source.rate
    assert result.duration == pytest.approx(source.duration, abs=0.001)
    assert (result.codec, result.pixel_format, result.rotation) == ("h264", "yuv420p", 0)
    assert result.audio_codec == "aac"
    assert result.audio_span == pytest.approx(source.audio_span, abs=0.06)
    assert data.index(b"moov") < data.index(b"mdat"), "a browser could not start before the file is there"


def test_the_wall_is_replaced_and_the_face_is_not(webcam: Any) -> None:
    source, result, _, _ = webcam
    expected = cover(read_picture(PAGODA), 640, 360)
    face = np.s_[150:230, 280:340]
    for number in (0, 35, 71):
        picture = result.pictures[number]
        for corner in (np.s_[:40, :40], np.s_[:40, -40:]):
            assert near(picture[corner], expected[corner])
            assert not near(source.pictures[number][corner], expected[corner], 20), "the corner was no test"
        assert near(picture[face], source.pictures[number][face])


def test_progress_grows_to_the_end(webcam: Any) -> None:
    _, _, told, _ = webcam
    percents = [percent for _, percent, _ in told]
    assert percents == sorted(percents)
    assert (told[-1][0], told[-1][1], told[-1][2]) == ("encode", 100.0, 72)
    assert [frames for phase, _, frames in told if phase == "segment"] == list(range(1, 73))


TURNS = {
    "right": {"degrees": -90}, "left": {"degrees": 90}, "over": {"degrees": 180},
    "mirrored": {"degrees": 0, "hflip": True}, "mirrored and left": {"degrees": 90, "hflip": True},
}


@pytest.mark.parametrize("name", TURNS)
def test_the_result_is_upright(tmp_path: Path, name: str) -> None:
    turn = TURNS[name]
    video = write(tmp_path / "turned.mp4", [quarters()] * 3, turn=turn)
    _, result, _ = run(video, tmp_path / "out.mp4")
    expected = np.rot90(quarters(), turn["degrees"] // 90)
    if turn.get("hflip"):
        expected = np.flip(np.rot90(quarters(), turn["degrees"] // 90), axis=1)
    shown = result.pictures[0]
    assert (shown.shape, result.rotation, len(result.times)) == (expected.shape, 0, 3)
    for corner in (np.s_[4:20, 4:20], np.s_[4:20, -20:-4], np.s_[-20:-4, 4:20], np.s_[-20:-4, -20:-4]):
        assert near(shown[corner], expected[corner], 10)


def test_odd_sizes_lose_one_row_and_column(tmp_path: Path) -> None:
    video = write(tmp_path / "odd.mp4", [quarters(161, 91)] * 4, pix_fmt="yuv444p")
    stats, result, _ = run(video, tmp_path / "out.mp4")
    assert result.pictures[0].shape == (90, 160, 3)
    assert (stats.width, stats.height, stats.frames) == (160, 90, 4)
    assert near(result.pictures[0][4:40, 4:60], quarters(161, 91)[4:40, 4:60], 10)


def test_uneven_times_stay(tmp_path: Path) -> None:
    times = [0, 40, 55, 200, 210, 600, 640]
    video = write(tmp_path / "uneven.mp4", [quarters()] * len(times), times=times)
    _, result, _ = run(video, tmp_path / "out.mp4")
    assert result.times == pytest.approx([time / 1000 for time in times], abs=1e-4)
    assert result.duration == pytest.approx(read(video).duration, abs=0.001)


def test_a_late_start_becomes_zero(tmp_path: Path) -> None:
    """Broadcast streams count from anywhere; files that browsers play count from zero."""
    times = [1400 + 40 * number for number in range(30)]
    noise = np.random.default_rng(1).integers(0, 255, (30, 96, 128, 3), np.uint8)
    video = write(tmp_path / "late.ts", list(noise), times=times)
    assert read(video).times == pytest.approx([time / 1000 for time in times], abs=1e-3)
    assert run(video, tmp_path / "out.mp4")[1].times == pytest.approx([n * 0.04 for n in range(30)], abs=1e-3)


@pytest.mark.parametrize("suffix, codec, audio", [(".webm", "libvpx-vp9", "libopus"), (".ts", "libx264", "aac")])
def test_other_containers_keep_picture_and_sound_together(
    tmp_path: Path, suffix: str, codec: str, audio: str
) -> None:
    video = write(tmp_path / f"clip{suffix}", [quarters()] * 20, codec=codec, audio=audio)
    source = read(video)
    _, result, _ = run(video, tmp_path / "out.mp4")
    assert result.times == pytest.approx(source.times, abs=0.002)
    assert result.audio_codec == "aac"
    assert result.audio_span == pytest.approx(source.audio_span, abs=0.06)


def test_aac_goes_through_untouched(tmp_path: Path) -> None:
    video = write(tmp_path / "clip.mp4", [quarters()] * 20, audio="aac")
    _, result, _ = run(video, tmp_path / "out.mp4")
    assert result.audio == read(video).audio


def test_silence_stays_silent(tmp_path: Path) -> None:
    video = write(tmp_path / "clip.mp4", [quarters()] * 3)
    assert run(video, tmp_path / "out.mp4")[1].audio_codec is None


@pytest.mark.parametrize("options, color", [({}, (0x40, 0xB1, 0x00)), ({"color": "#c08010"}, (0x10, 0x80, 0xC0))])
@pytest.mark.parametrize("size", [(128, 96), (1280, 720)], ids=["BT.601", "BT.709"])
def test_without_a_background_there_is_a_plain_colour(
    tmp_path: Path, options: dict[str, str], color: tuple[int, int, int], size: tuple[int, int]
) -> None:
    blue = np.full((size[1], size[0], 3), (255, 0, 0), np.uint8)
    video = write(tmp_path / "blue.mp4", [blue] * 2, colorspace=1 if size[1] >= 720 else 6)
    _, result, _ = run(video, tmp_path / "out.mp4", options={**DROP_ALL, **options})
    assert near(result.pictures[0], np.array([color]), 4)


def test_pixels_that_are_not_square_keep_their_shape(tmp_path: Path) -> None:
    video = write(tmp_path / "wide.mp4", [quarters()] * 2, shape=Fraction(2))
    turned = write(tmp_path / "turned.mp4", [quarters()] * 2, shape=Fraction(2), turn={"degrees": 90})
    assert run(video, tmp_path / "out.mp4")[1].shape == 2
    assert run(turned, tmp_path / "turned-out.mp4")[1].shape == Fraction(1, 2)


def test_the_background_covers_the_frame_undistorted() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    cv2.circle(image, (150, 50), 40, (255, 255, 255), -1)
    for width, height, shape in ((200, 200, Fraction(1)), (100, 200, Fraction(2)), (120, 60, Fraction(1))):
        fitted = cover(image, width, height, shape)[:, :, 0] > 127
        across, down = fitted.any(axis=0).sum() * shape, fitted.any(axis=1).sum()
        assert fitted.shape == (height, width)
        assert abs(across - down) <= 3
        assert down == pytest.approx(height * 0.8, abs=3), "the circle is four fifths as high as the picture"
    assert cover(image, 400, 100)[0].any(), "a frame wider than the picture cuts it above and below"


@pytest.mark.parametrize("codec, pix_fmt", [("libx264", "yuvj420p"), ("libvpx-vp9", "yuv420p")])
def test_full_range_sources_keep_their_brightness(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    video = write(tmp_path / "full.mp4", [quarters()] * 2, codec=codec, pix_fmt=pix_fmt, color_range=2)
    _, result, _ = run(video, tmp_path / "out.mp4")
    assert result.pixel_format == "yuv420p"
    assert near(result.pictures[0][4:40, 70:120], np.array([(210, 210, 210)]), 6)


@pytest.mark.parametrize("size", [(128, 96), (1280, 720)], ids=["BT.601", "BT.709"])
def test_sources_in_rgb_keep_their_colours(tmp_path: Path, size: tuple[int, int]) -> None:
    video = write(tmp_path / "rgb.mp4", [quarters(*size)] * 2, codec="libx264rgb", pix_fmt="rgb24", colorspace=0)
    _, result, _ = run(video, tmp_path / "out.mp4")
    assert result.pixel_format == "yuv420p"
    assert near(result.pictures[0][4:40, 4:40], quarters()[4:40, 4:40])


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    video = write(tmp_path / "long.mp4", [quarters(640, 360)] * 660, audio="aac")
    resident: dict[int, int] = {}

    def note(phase: str, percent: float, frames: int) -> None:
        resident[frames] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    replace_background(video, PAGODA, tmp_path / "out.mp4", "chroma-key", KEEP_ALL, note, lambda: False)
    assert resident[650] - resident[450] < 10 << 20, "200 frames more; held as pictures they would be 66 MB"


def test_stops_when_asked_and_leaves_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    told: list[int] = []

    def note(phase: str, percent: float, frames: int) -> None:
        told.append(frames)
        if frames == 5:
            stop.set()

    with pytest.raises(Stopped):
        replace_background(WEBCAM, None, tmp_path / "out.mp4", "grabcut", {}, note, stop.is_set)
    assert told[-1] == 5
    assert not (tmp_path / "out.mp4").exists()


def bad_video(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.mp4"
    if kind == "playlist":
        (tmp_path / "neighbour.mp4").write_bytes(WEBCAM.read_bytes())
        path.write_text("ffconcat version 1.0\nfile neighbour.mp4\n")
    elif kind == "sound alone":
        from tests.worker.reference_media import av, tone
        with av.open(str(path), "w") as file:
            tone(file, file.add_stream("aac", rate=48000, layout="mono"), 0.5)
    elif kind == "cut":
        write(path, [quarters()] * 20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes({"empty": b"", "text": b"hello " * 400, "zeros": bytes(9000)}[kind])
    return path


@pytest.mark.parametrize("kind, code", [
    ("empty", "not_video"), ("text", "not_video"), ("zeros", "not_video"), ("playlist", "not_video"),
    ("cut", "not_video"), ("sound alone", "no_video"),
])
def test_p16_a_bad_video_is_blamed(tmp_path: Path, kind: str, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(bad_video(tmp_path, kind), tmp_path / "out.mp4", model="grabcut", options={})
    assert refused.value.code == code
    assert str(tmp_path) not in refused.value.detail
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_whose_pictures_are_broken_is_blamed(tmp_path: Path) -> None:
    video = write(tmp_path / "clip.mp4", [np.random.default_rng(n).integers(0, 255, (96, 128, 3), np.uint8)
                                          for n in range(10)])
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (data.index(b"moov") - start) // 2
    data[middle:middle + 4000] = bytes(4000)
    video.write_bytes(data)
    with pytest.raises(BadInput) as refused:
        run(video, tmp_path / "out.mp4", model="grabcut", options={})
    assert refused.value.code == "damaged_video"


def test_a_background_that_is_no_picture_is_blamed(tmp_path: Path) -> None:
    for content in (b"", b"no picture"):
        (tmp_path / "background.jpg").write_bytes(content)
        with pytest.raises(BadInput) as refused:
            run(WEBCAM, tmp_path / "out.mp4", tmp_path / "background.jpg")
        assert refused.value.code == "not_picture"


@pytest.mark.parametrize("model, options, code", [
    ("nobody", {}, "unknown_model"), ("grabcut", {"colour": "#000000"}, "bad_option"),
    ("grabcut", {"color": "green"}, "bad_option"), ("grabcut", {"color": 7}, "bad_option"),
    ("grabcut", {"color": "#00b14\n"}, "bad_option"),
])
def test_what_makes_no_sense_is_refused_at_once(
    tmp_path: Path, model: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadInput) as refused:
        run(WEBCAM, tmp_path / "out.mp4", model=model, options=options)
    assert refused.value.code == code


def test_a_missing_file_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "gone.mp4", tmp_path / "out.mp4")


ODD = (
    "turned", "upside_down", "variable", "webm", "vp8", "hevc", "ten_bit", "odd_size", "silent", "wide_pixels", "ntsc",
    "fragmented", "avi", "mpegts", "matroska", "one_picture",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probe() -> AsyncIterator[Probe]:
    """The hub's own judge of files."""
    judge = Probe()
    await judge.start()
    yield judge
    await judge.stop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ODD)
async def test_p19_the_hub_takes_the_result_for_what_it_is(probe: Probe, tmp_path: Path, name: str) -> None:
    clip: Path = getattr(odd_media, name)()
    stats, _, _ = run(clip, tmp_path / "out.mp4")
    source, _ = await probe(clip, Purpose.VIDEO)
    result, _ = await probe(tmp_path / "out.mp4", Purpose.RESULT)
    assert compare(source, result) is None
    assert result.frames == stats.frames
