"""Small pictures of what was decoded: the poster and the strip of a film; runs only inside the probe's fenced child.

Owns how a picture stands upright, how large the small ones are, and how they become JPEG. Opens and decodes nothing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

POSTER_SIDE = 640  # pixels
CELLS, CELL_SIDE = 8, 160  # a strip has 8 pictures of at most 160 pixels on their long side

Pixels = npt.NDArray[np.uint8]


def clockwise(frame: Any) -> int:
    """Degrees clockwise, in quarters, by which the picture must be turned to stand upright."""
    quarters: int = round(-frame.rotation / 90)
    return quarters * 90 % 360


def as_shown(width: int, height: int, aspect: Fraction | None, turn: int) -> tuple[int, int]:
    """Size on a screen with square pixels, turned upright; as browsers do, one side grows and none shrinks."""
    if aspect and Fraction(1, 16) <= aspect <= 16:
        width = round(width * max(aspect, Fraction(1)))
        height = round(height / min(aspect, Fraction(1)))
    return (height, width) if turn in (90, 270) else (width, height)


def small(frame: Any, turn: int, aspect: Fraction | None, side: int) -> Pixels:
    """The picture as shown, height x width x RGB, at most `side` pixels on its long side and never enlarged.

    Everything is done in this thread: what FFmpeg would start by itself a child may not have.
    """
    shown = as_shown(frame.width, frame.height, aspect, turn=0)
    scale = min(1.0, side / max(shown))
    width, height = (max(2, round(length * scale)) for length in shown)
    pixels = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90))


def poster(frame: Any, turn: int, aspect: Fraction | None = None) -> bytes:
    """The picture as a JPEG of at most 640 pixels on its long side."""
    return jpeg(small(frame, turn, aspect, POSTER_SIDE))


def strip(cells: list[Pixels]) -> bytes:
    """Eight small pictures of one size side by side, as one JPEG; where there are fewer, the last one fills up."""
    return jpeg(np.ascontiguousarray(np.concatenate((cells + cells[-1:] * CELLS)[:CELLS], axis=1)))


def jpeg(pixels: Pixels) -> bytes:
    picture = av.VideoFrame.from_ndarray(pixels, "rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.qmin, encoder.qmax = 3, 6
    image = picture.reformat(format="yuvj420p", threads=1)
    image.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(image), *encoder.encode(None)))
