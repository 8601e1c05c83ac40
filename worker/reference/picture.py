"""One upright picture as the three planes of yuv420p, the form in which it comes, is mixed and goes.

Owns the geometry: orientation, even sizes, small versions for models. Never decodes and never encodes. Working on
planes spares two colour conversions a frame, and leaves what is kept of the source as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from av import VideoFrame

Plane = npt.NDArray[np.uint8]
Alpha = npt.NDArray[np.float32]  # 0 background .. 1 foreground

LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG
RGB, BT709, UNSTATED, BT601 = 0, 1, 2, 6  # H.273, matrix coefficients
SCALERS = {1: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "BT2020"}  # H.273 matrix -> swscale's name; else BT.601


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture becomes the shown one: swap rows and columns first, then flip."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def upright(self, plane: Plane) -> Plane:
        turned: Any = cv2.transpose(plane) if self.swap else plane
        if self.flip_x or self.flip_y:
            turned = cv2.flip(turned, -1 if self.flip_x and self.flip_y else int(self.flip_x))
        return cast(Plane, turned)


@dataclass(frozen=True, slots=True)
class Picture:
    """Brightness `y` of (height, width) and colour `cb`, `cr` of half that, limited range; both sizes are even."""

    y: Plane
    cb: Plane
    cr: Plane

    def __iter__(self) -> Iterator[Plane]:
        return iter((self.y, self.cb, self.cr))

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    def bgr(self, width: int, height: int) -> Plane:
        """The picture at another (even) size as (height, width, 3): blue, green, red."""
        y = resize(self.y, width, height)
        cb, cr = (resize(plane, width // 2, height // 2) for plane in (self.cb, self.cr))
        planes = np.concatenate((y.ravel(), cb.ravel(), cr.ravel())).reshape(height * 3 // 2, width)
        return cast(Plane, cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420))

    def crop(self, left: int, top: int, right: int, bottom: int) -> Picture:
        """A view of the (even) box; no bytes are copied."""
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        return Picture(self.y[top:bottom, left:right], self.cb[half], self.cr[half])

    def fit(self, short: int) -> tuple[int, int]:
        """The even (width, height) of this shape whose shorter side is `short`, or the own size if that is less."""
        return self._scaled(min(1.0, short / min(self.width, self.height)))

    def within(self, long: int) -> tuple[int, int]:
        """The same for the longer side."""
        return self._scaled(min(1.0, long / max(self.width, self.height)))

    def _scaled(self, scale: float) -> tuple[int, int]:
        return max(2, round(self.width * scale / 2) * 2), max(2, round(self.height * scale / 2) * 2)


def resize(plane: Plane, width: int, height: int) -> Plane:
    """Averages where it shrinks, interpolates where it grows."""
    shrinks = width * height < plane.shape[0] * plane.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(Plane, cv2.resize(plane, (width, height), interpolation=how))


def orientation(frame: VideoFrame) -> Orientation:
    """What the display matrix of a decoded frame asks for (ISO/IEC 14496-12, 8.3.2; FFmpeg's order of rows)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(memoryview(cast(Any, matrix)), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return Orientation(swap=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)


def matrix(frame: VideoFrame) -> int:
    """The H.273 number of the picture's conversion to RGB; where the frame has none, what players assume."""
    if frame.colorspace not in (RGB, UNSTATED):
        return frame.colorspace
    return BT709 if min(frame.width, frame.height) >= 720 else BT601


def scaler(matrix: int) -> str:
    """swscale's name of a matrix."""
    return SCALERS.get(matrix, "ITU601")


def planes(frame: VideoFrame) -> Picture:
    """The planes of a yuv420p frame as views; writing to them writes to the frame."""
    def view(index: int) -> Plane:
        plane = frame.planes[index]
        flat: Plane = np.frombuffer(memoryview(cast(Any, plane)), np.uint8)
        return flat.reshape(plane.height, plane.line_size)[:, : plane.width]

    return Picture(view(0), view(1), view(2))


def picture(frame: VideoFrame, width: int, height: int) -> Picture:
    """A decoded frame of any format as an upright picture.

    `width` and `height` are what the stream is stored as: a frame of another size is scaled to it, the last odd
    row and column are left out.
    """
    to = scaler(matrix(frame)) if frame.format.is_rgb else None
    stored = planes(
        frame.reformat(width, height, "yuv420p", dst_colorspace=to, dst_color_range=LIMITED, threads=1)
    )
    stored = stored.crop(0, 0, width & ~1, height & ~1)
    turn = orientation(frame).upright
    return Picture(turn(stored.y), turn(stored.cb), turn(stored.cr))
