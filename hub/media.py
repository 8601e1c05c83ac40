"""What the hub knows of a file, and when a result is what it says it is.

Owns the record of a video, background or result and the rules that compare a result with its source.
Never opens a file: the facts come from the probe.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace


class Purpose(StrEnum):
    """What an upload is for; users send the first two, workers the others."""

    VIDEO = "video"
    BACKGROUND = "background"
    RESULT = "result"
    MASK = "mask"
    FOREGROUND = "foreground"
    PREVIEW = "preview"


USER_PURPOSES = frozenset({Purpose.VIDEO, Purpose.BACKGROUND})
RESULT_PURPOSES = frozenset({Purpose.RESULT, Purpose.MASK, Purpose.FOREGROUND})  # what a result consists of
WORKER_PURPOSES = RESULT_PURPOSES | {Purpose.PREVIEW}


class Facts(Struct, frozen=True):
    """What the probe measured.

    `width` and `height` are pixels as shown (rotation applied), `fps` a fraction text such as "30000/1001",
    `frames` the number of pictures counted (1 for a still), `duration` seconds, `rotation` degrees clockwise
    out of 0, 90, 180, 270 as stored in the file, `codec` and `pixel_format` FFmpeg's names, `variable` whether
    the frame rate varies.
    """

    width: int
    height: int
    fps: str = "0/1"
    frames: int = 1
    duration: float = 0.0
    rotation: int = 0
    codec: str = ""
    pixel_format: str = ""
    container: str = ""
    audio_codec: str | None = None
    variable: bool = False

    @property
    def has_audio(self) -> bool:
        return self.audio_codec is not None

    @property
    def rate(self) -> Fraction:
        return Fraction(self.fps)


class Previews(Struct, frozen=True):
    """Small JPEGs of a file: a poster of at most 640 pixels on its long side, and of a film a strip.

    The strip is eight pictures from all over the film side by side, each at most 160 pixels on its long side; it is
    empty where there is none.
    """

    poster: bytes
    strip: bytes = b""


class Media(Struct, frozen=True):
    """One user's named file: the record, apart from the bytes it points at (by `sha256`).

    `size` is bytes, times are seconds since the epoch, `task_id` is set on what a worker sent for a task, `md5` is
    None then, `facts` is None as long as the probe has not looked.
    """

    id: str
    owner: str
    purpose: Purpose
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str | None
    facts: Facts | None
    created_at: float
    task_id: str | None = None
    version: int = 1


PLAYABLE = {  # container -> codec -> pixel formats that every current browser plays
    "mp4": {"h264": {"yuv420p", "yuvj420p"}, "vp9": {"yuv420p"}, "av1": {"yuv420p"}},
    "webm": {"vp8": {"yuv420p"}, "vp9": {"yuv420p", "yuva420p"}, "av1": {"yuv420p"}},
}


UNSEEN = "verification_failed"  # the code of a result that the hub itself could not look into


class Mismatch(Struct, frozen=True):
    """Why a result is not accepted: a stable `code` and a sentence with both numbers."""

    code: str
    detail: str


def compare(source: Facts, result: Facts) -> Mismatch | None:
    """Say why `result` cannot stand for `source`, or None when it is what it should be.

    Frame counts and audio must agree, the mean rate within half a percent, the duration within one frame
    (or 50 ms), the orientation exactly; the size may differ by the one pixel that yuv420p costs odd sizes.
    """
    if result.pixel_format not in PLAYABLE.get(result.container, {}).get(result.codec, set()):
        return Mismatch(
            "result_not_playable",
            f"browsers do not play {result.codec} {result.pixel_format} in {result.container}",
        )
    if result.frames != source.frames:
        return Mismatch("result_frames", f"{result.frames} frames, the source has {source.frames}")
    if (result.width - result.height) * (source.width - source.height) < 0:
        return Mismatch("result_orientation", f"{result.width}x{result.height} for {source.width}x{source.height}")
    if abs(result.width - source.width) > 1 or abs(result.height - source.height) > 1:
        return Mismatch("result_size", f"{result.width}x{result.height} for {source.width}x{source.height}")
    if source.rate and abs(result.rate / source.rate - 1) > Fraction(1, 200):
        return Mismatch("result_fps", f"{result.fps} frames a second, the source has {source.fps}")
    slack = max(0.05, 1.0 / float(source.rate or 20))
    if abs(result.duration - source.duration) > slack + 0.001:
        return Mismatch("result_duration", f"{result.duration:.3f} s, the source lasts {source.duration:.3f} s")
    if source.has_audio and not result.has_audio:
        return Mismatch("result_audio", "the source has sound, the result has none")
    return None


def renamed(media: Media, name: str) -> Media:
    """The same file under another name."""
    return replace(media, name=name, version=media.version + 1)


def clean_name(name: str, purpose: Purpose) -> str:
    """A user's file name as a label: no folders, no control or direction characters, at most 200 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")).strip()
    return kept[:200] if kept.strip(". ") else purpose.value


def result_name(source: str, purpose: Purpose, container: str) -> str:
    """What a result is called when it is saved: after its source."""
    stem = source.rsplit(".", 1)[0] or source
    return f"{stem[:150]}-{purpose.value}.{container}"
