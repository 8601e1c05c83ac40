"""What stands behind the person, and how the two become one picture.

Owns the background's colours and fit, and the mixing. Never decides who is in front: that comes as an alpha.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from av import VideoFrame

from worker.errors import BadInput

from .options import Color
from .picture import LIMITED, Alpha, Picture, Plane, planes, scaler


def read_picture(path: Path) -> Plane:
    """A still picture as (height, width, 3) blue, green, red; turned as its EXIF says.

    Raises:
        BadInput: `not_picture`.
    """
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise BadInput("not_picture", "the background is no picture that can be opened")
    return cast(Plane, image)


def cover(image: Plane, width: int, height: int, shape: Fraction = Fraction(1)) -> Plane:
    """The middle of `image`, as large as fits, filling `width` x `height` pixels that are each `shape` wide."""
    aspect = width * shape / height
    rows, columns = image.shape[:2]
    across = max(1, min(columns, round(rows * aspect)))
    down = max(1, min(rows, round(columns / aspect)))
    left, top = (columns - across) // 2, (rows - down) // 2
    middle = image[top:top + down, left:left + across]
    how = cv2.INTER_AREA if across * down > width * height else cv2.INTER_CUBIC
    return cast(Plane, cv2.resize(middle, (width, height), interpolation=how))


def plain(color: Color, width: int, height: int) -> Plane:
    """A picture of one colour."""
    return np.full((height, width, 3), color[::-1], np.uint8)


class Background:
    """One background, ready for every frame of one video.

    `image` is (height, width, 3) blue, green, red at the video's (even) size, `matrix` the H.273 number
    of the video's conversion to RGB.
    """

    def __init__(self, image: Plane, matrix: int) -> None:
        converted = VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format="yuv420p", dst_colorspace=scaler(matrix), dst_color_range=LIMITED, threads=1
        )
        self._planes = Picture(*(np.ascontiguousarray(plane) for plane in planes(converted)))

    def mix(self, picture: Picture, alpha: Alpha) -> VideoFrame:
        """A new yuv420p frame: `picture` where `alpha` (of its size) is 1, the background where it is 0."""
        frame = VideoFrame(picture.width, picture.height, "yuv420p")
        half = cv2.resize(alpha, (picture.width // 2, picture.height // 2), interpolation=cv2.INTER_AREA)
        weights = (alpha, half, half)
        for front, back, weight, mixed in zip(picture, self._planes, weights, planes(frame), strict=True):
            cv2.blendLinear(front, back, weight, 1 - weight, mixed)
        return frame
