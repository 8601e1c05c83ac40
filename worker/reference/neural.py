"""MediaPipe Selfie Segmentation, run by OpenCV.

Owns the network and where in the picture it looks; never touches video or backgrounds. Weights: worker/weights.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Self, cast

import cv2
import numpy as np

from .picture import Alpha, Picture

SHORT = 256  # pixels of the mask's shorter side
SURE = 0.5
LOOK_ROUND = 10  # every so many frames the whole picture is searched again
WIDE = 0.7  # a box that is more than this of the picture is not worth a closer look
BODY = 1.2  # side of the square looked at, in units of the person's longer side
HEAD, HEAD_AT = 0.65, 0.2  # the same for head and shoulders, and how far down the person their middle is

Box = tuple[int, int, int, int]  # left, top, right, bottom in even pixels


class Selfie:
    """Finds people; where they are small, looks closer at the part of the picture that holds them.

    The network sees `width` x `height` pixels, whatever the picture's shape, and was made for people who fill it:
    of distant ones it loses the head first. So each frame is cut to the body that the frame before showed, then to its
    head and shoulders, and now and then the whole is searched again.
    """

    def __init__(self, weights: str, width: int, height: int) -> None:
        data = (files("worker") / "weights" / weights).read_bytes()
        self._net = cv2.dnn.readNetFromTFLite(np.frombuffer(data, np.uint8))
        self._size = width, height
        self._body: Box | None = None
        self._frames = 0

    @classmethod
    def general(cls) -> Self:
        return cls("selfie_segmentation.tflite", 256, 256)

    @classmethod
    def landscape(cls) -> Self:
        return cls("selfie_segmentation_landscape.tflite", 256, 144)

    def __call__(self, picture: Picture) -> Alpha:
        width, height = picture.fit(SHORT)
        mask = np.zeros((height, width), np.float32)
        whole = 0, 0, picture.width, picture.height
        body = self._body
        if body is None or self._frames % LOOK_ROUND == 0:
            self._look(picture, whole, mask)
            body = union(body, square(mask, picture, BODY))
        if body is not None and area(body) < WIDE * area(whole):
            mask[:] = 0
            self._look(picture, body, mask)
            head = square(mask, picture, HEAD, HEAD_AT)
            if head is not None:
                self._look(picture, head, mask)
        elif self._frames % LOOK_ROUND:
            self._look(picture, whole, mask)
        self._body = square(mask, picture, BODY)
        self._frames += 1
        return mask

    def _look(self, picture: Picture, box: Box, mask: Alpha) -> None:
        """Adds to the mask what the network finds in the box."""
        seen = picture.crop(*box).bgr(*self._size)
        self._net.setInput(cv2.dnn.blobFromImage(seen, 1 / 255, swapRB=True))
        found = cast(Alpha, self._net.forward()).reshape(self._size[::-1])
        across, down = mask.shape[1] / picture.width, mask.shape[0] / picture.height
        left, right = round(box[0] * across), round(box[2] * across)
        top, bottom = round(box[1] * down), round(box[3] * down)
        if left < right and top < bottom:
            part = mask[top:bottom, left:right]
            np.maximum(part, cv2.resize(found, (right - left, bottom - top), interpolation=cv2.INTER_AREA), out=part)


def square(mask: Alpha, picture: Picture, size: float, at: float = 0.5) -> Box | None:
    """Where to look for what is surely foreground; None where nothing is.

    A square, or as near to it as the picture allows, of `size` times the longer side of the foreground; its middle
    is `at` of the way from the foreground's top to its bottom.
    """
    sure = cv2.erode((mask > SURE).astype(np.uint8), np.ones((3, 3), np.uint8))
    left, top, width, height = cv2.boundingRect(sure)
    if not width or not height:
        return None
    scale = picture.height / mask.shape[0]
    side = size * max(width, height) * scale
    across = span((left + width / 2) * scale, side, picture.width)
    down = span((top + height * at) * scale, side, picture.height)
    return across[0], down[0], across[1], down[1]


def span(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Even ends of a stretch inside 0..limit: moved where it would stick out, cut only where it is too long."""
    start = min(max(0.0, middle - length / 2), max(0.0, limit - length))
    return int(start) & ~1, int(min(limit, start + length)) & ~1


def union(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
