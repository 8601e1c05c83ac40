"""Small videos made to measure for the reference service's tests, and what can be read back from a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from worker.reference.picture import Picture, picture

Image = npt.NDArray[np.uint8]

MEDIA = Path(__file__).parents[1] / "media"
WEBCAM, PORTRAIT = MEDIA / "man-webcam.mp4", MEDIA / "woman-portrait.mp4"
PAGODA = MEDIA / "bg-pagoda.jpg"


@dataclass(frozen=True, slots=True)
class Read:
    """A file decoded as a player would: times in seconds, pictures as (height, width, 3) blue, green, red."""

    times: list[float]
    pictures: list[Image]
    duration: float
    rate: Fraction
    rotation: int
    shape: Fraction | None
    codec: str
    pixel_format: str
    audio_codec: str | None
    audio: list[bytes]
    audio_span: tuple[float, float]


def read(path: Path) -> Read:
    with av.open(str(path)) as file:
        video, sound = file.streams.video[0], file.streams.best("audio")
        frames = list(file.decode(video))
        duration = float(video.duration * video.time_base) if video.duration else file.duration / av.time_base
        rate, shape = video.average_rate, video.sample_aspect_ratio
        codec, pixel_format = video.codec_context.name, video.codec_context.pix_fmt
    audio: list[bytes] = []
    span = (0.0, 0.0)
    if sound is not None:
        with av.open(str(path)) as file:
            packets = [packet for packet in file.demux(audio=0) if packet.size]
            audio = [bytes(packet) for packet in packets]
            base = packets[0].time_base
            span = float(packets[0].pts * base), float((packets[-1].pts + packets[-1].duration) * base)
    return Read(
        times=[float(frame.pts * frame.time_base) for frame in frames],
        pictures=[frame.to_ndarray(format="bgr24") for frame in frames],
        duration=duration, rate=rate, rotation=frames[0].rotation, shape=shape,
        codec=codec, pixel_format=pixel_format,
        audio_codec=None if sound is None else sound.codec_context.name, audio=audio, audio_span=span,
    )


def write(
    path: Path,
    images: Iterable[Image],
    *,
    rate: int = 25,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: str | None = None,
    turn: dict[str, Any] | None = None,
    shape: Fraction | None = None,
    color_range: int = 0,
    colorspace: int = 2,
) -> Path:
    """Encode `images`; `times` are milliseconds (default: even at `rate`), `turn` the display matrix's arguments."""
    images = list(images)
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.options = {"preset": "ultrafast", "crf": "12"} if codec == "libx264" else {"crf": "20", "b": "0"}
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.color_range = color_range
        video.codec_context.colorspace = colorspace
        if shape is not None:
            video.codec_context.sample_aspect_ratio = shape
        if turn is not None:
            video.set_display_rotation(**turn)
        sound = None if audio is None else file.add_stream(audio, rate=48000, layout="mono")
        if sound is not None:
            tone(file, sound, len(images) / rate)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
                format=pix_fmt, dst_colorspace=colorspace if colorspace != 2 else None,
                dst_color_range=color_range or 1,
            )
            frame.pts = times[number] if times is not None else round(number * 1000 / rate)
            frame.time_base = Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    return path


def tone(file: Any, stream: Any, seconds: float) -> None:
    samples = np.sin(np.arange(int(48000 * seconds)) * 0.05).astype(np.float32)[None, :] * np.float32(0.2)
    for start in range(0, samples.shape[1], 960):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start:start + 960]), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def quarters(width: int = 128, height: int = 96) -> Image:
    """Four colours, one in each corner: shows every turn and every mirroring. None of them is green or blue."""
    image = np.zeros((height, width, 3), np.uint8)
    half_h, half_w = height // 2, width // 2
    image[:half_h, :half_w] = 20, 20, 200
    image[:half_h, half_w:] = 210, 210, 210
    image[half_h:, :half_w] = 20, 120, 230
    image[half_h:, half_w:] = 90, 30, 160
    return image


def pictures(path: Path, every: int, limit: int) -> list[Picture]:
    """Every so many of a clip's frames, as the pipeline sees them."""
    kept = []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        for number, frame in enumerate(file.decode(stream)):
            if number % every == 0:
                kept.append(picture(frame, stream.width, stream.height))
            if len(kept) == limit:
                break
    return kept


def bgr(shown: Picture) -> Image:
    return shown.bgr(shown.width, shown.height)


def overlap(mask: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Intersection over union of what is more than half foreground."""
    full = cv2.resize(mask, truth.shape[::-1])
    one, other = full > 0.5, truth > 0.5
    return float((one & other).sum() / max(1, (one | other).sum()))


def near(one: npt.NDArray[Any], other: npt.NDArray[Any], within: float = 6.0) -> bool:
    """Whether two patches have the same mean colour, give or take what encoding costs."""
    colours = [np.asarray(patch, np.float64).reshape(-1, 3).mean(axis=0) for patch in (one, other)]
    return bool(np.abs(colours[0] - colours[1]).max() <= within)
