"""When a result stands for its source, and what files are called."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.media import Facts, Purpose, clean_name, compare, renamed, result_name

from .world import FACTS, a_result

SILENT = replace(FACTS, audio_codec=None)


def code(source: Facts, result: Facts) -> str | None:
    mismatch = compare(source, result)
    return mismatch.code if mismatch else None


def test_a_faithful_result_is_accepted() -> None:
    assert compare(FACTS, FACTS) is None


@pytest.mark.parametrize("changes", [
    {"container": "webm", "codec": "vp9"}, {"container": "webm", "codec": "vp9", "pixel_format": "yuva420p"},
    {"codec": "av1"}, {"pixel_format": "yuvj420p"}, {"rotation": 90}, {"audio_codec": "opus"}, {"variable": True},
])
def test_how_it_is_encoded_is_the_workers_choice_among_what_browsers_play(changes: dict[str, Any]) -> None:
    assert compare(FACTS, replace(FACTS, **changes)) is None


@pytest.mark.parametrize("changes", [
    {"codec": "mpeg4"}, {"pixel_format": "yuv444p"}, {"codec": "hevc"}, {"container": "matroska"}, {"container": "avi"},
    {"container": "webm"}, {"codec": ""},
])
def test_happened_a_result_that_browsers_do_not_play(changes: dict[str, Any]) -> None:
    assert code(FACTS, replace(FACTS, **changes)) == "result_not_playable"


@pytest.mark.parametrize("frames", [71, 73, 0, 1])
def test_no_frame_may_be_missing_or_added(frames: int) -> None:
    mismatch = compare(FACTS, replace(FACTS, frames=frames))
    assert mismatch is not None and mismatch.code == "result_frames"
    assert str(frames) in mismatch.detail and "72" in mismatch.detail


def test_a_result_on_its_side_is_refused() -> None:
    assert code(FACTS, replace(FACTS, width=360, height=640)) == "result_orientation"


@pytest.mark.parametrize(("source", "result"), [
    ((641, 361), (640, 360)), ((641, 361), (642, 362)), ((641, 640), (640, 640)), ((640, 641), (640, 640)),
    ((639, 641), (640, 640)), ((361, 641), (360, 640)), ((1, 1), (2, 2)),
])
def test_odd_sizes_may_lose_or_gain_the_pixel_of_yuv420p(source: tuple[int, int], result: tuple[int, int]) -> None:
    before = replace(FACTS, width=source[0], height=source[1])
    assert compare(before, replace(FACTS, width=result[0], height=result[1])) is None


@pytest.mark.parametrize(("width", "height"), [(642, 360), (638, 360), (640, 362), (320, 180), (1280, 720)])
def test_another_size_is_refused(width: int, height: int) -> None:
    assert code(FACTS, replace(FACTS, width=width, height=height)) == "result_size"


@pytest.mark.parametrize(("fps", "expected"), [
    ("30/1", None), ("30000/1001", None), ("30150/1001", None), ("29850/1001", None), ("30151/1001", "result_fps"),
    ("2985/100", None), ("29/1", "result_fps"), ("31/1", "result_fps"),
    ("60/1", "result_fps"), ("0/1", "result_fps"),
])
def test_the_mean_rate_agrees_within_half_a_percent(fps: str, expected: str | None) -> None:
    assert code(FACTS, replace(FACTS, fps=fps)) == expected


def test_a_source_of_unknown_rate_sets_none() -> None:
    assert compare(replace(FACTS, fps="0/1"), replace(FACTS, fps="25/1")) is None


@pytest.mark.parametrize(("duration", "expected"), [
    (2.4, None), (2.45, None), (2.35, None), (2.46, "result_duration"), (2.3, "result_duration"),
    (0.0, "result_duration"),
])
def test_the_duration_agrees_within_a_frame_or_50_ms(duration: float, expected: str | None) -> None:
    assert code(FACTS, replace(FACTS, duration=duration)) == expected


def test_at_a_low_rate_a_frame_is_longer_than_50_ms() -> None:
    slow = replace(FACTS, fps="5/1", frames=12)
    assert code(slow, replace(slow, duration=2.6)) is None
    assert code(slow, replace(slow, duration=2.65)) == "result_duration"


def test_sound_may_not_get_lost() -> None:
    assert code(FACTS, SILENT) == "result_audio"
    assert compare(SILENT, SILENT) is None
    assert compare(SILENT, FACTS) is None


SIZES = st.integers(1, 8192)


@given(SIZES, SIZES, st.integers(-1, 1), st.integers(-1, 1))
def test_a_pixel_more_or_less_never_counts_as_another_size(width: int, height: int, dx: int, dy: int) -> None:
    """Rounding both sides the same way, as encoders do, is never refused."""
    source = replace(FACTS, width=width, height=height)
    result = replace(FACTS, width=max(1, width + dx), height=max(1, height + dy))
    if (width - height) * (result.width - result.height) >= 0:
        assert compare(source, result) is None


def test_facts_give_the_rate_as_a_fraction_and_know_sound() -> None:
    assert (FACTS.rate, FACTS.has_audio, SILENT.has_audio) == (Fraction(30000, 1001), True, False)


def test_renaming_is_a_new_version_of_the_same_file() -> None:
    before = a_result()
    assert renamed(before, "new.mp4") == replace(before, name="new.mp4", version=before.version + 1)


# --- names


@pytest.mark.parametrize(("name", "expected"), [
    ("holiday.mp4", "holiday.mp4"), ("../../etc/passwd", "passwd"), ("C:\\Videos\\片.mov", "片.mov"), ("a/b\\c", "c"),
    ("", "video"), (".", "video"), ("..", "video"), ("...", "video"), ("/", "video"), ("a/", "video"), ("   ", "video"),
    ("a\0b", "ab"), ("a\r\nSet-Cookie: x", "aSet-Cookie: x"), ("a\u202egpj.exe", "agpj.exe"), ("a\u2028b", "ab"),
    ("\ud800", "video"), ("a\u200fb\u2066", "ab"), ("  spaced out.mp4  ", "spaced out.mp4"), (".hidden", ".hidden"),
    ('x"; filename="evil.html', 'x"; filename="evil.html'), ("\ue000", "video"), ("e\u0301.mp4", "e\u0301.mp4"),
])
def test_row_73_a_name_is_a_label(name: str, expected: str) -> None:
    assert clean_name(name, Purpose.VIDEO) == expected


def test_row_73_a_long_name_is_cut() -> None:
    assert clean_name("x" * 5000, Purpose.VIDEO) == "x" * 200


@given(st.text())
def test_row_73_whatever_comes_in_a_label_comes_out(name: str) -> None:
    label = clean_name(name, Purpose.BACKGROUND)
    assert 1 <= len(label) <= 200
    assert "/" not in label and "\\" not in label and label not in (".", "..")
    assert not any(ord(c) < 32 or ord(c) == 127 for c in label)
    assert label.encode()


@pytest.mark.parametrize(("source", "purpose", "container", "expected"), [
    ("holiday.mov", Purpose.RESULT, "mp4", "holiday-result.mp4"),
    ("my.long.name.mkv", Purpose.MASK, "webm", "my.long.name-mask.webm"),
    ("noextension", Purpose.FOREGROUND, "mp4", "noextension-foreground.mp4"),
    (".mp4", Purpose.RESULT, "mp4", ".mp4-result.mp4"),
])
def test_a_result_is_called_after_its_source(source: str, purpose: Purpose, container: str, expected: str) -> None:
    assert result_name(source, purpose, container) == expected


def test_a_results_name_is_no_longer_than_a_label() -> None:
    assert len(result_name("x" * 200 + ".mp4", Purpose.FOREGROUND, "webm")) <= 200
