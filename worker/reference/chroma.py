"""Green screen: what has the screen's colour is background.

Owns finding that colour and measuring the distance to it; works on the colour planes as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import cast

import cv2
import numpy as np

from worker.errors import BadInput

from .options import Color
from .picture import Alpha, Picture, resize

NEAR, FAR = 12.0, 34.0  # distance in (Cb, Cr) that is surely screen, and surely not
STRONG = 24.0  # a colour weaker than this is grey, and no screen
EVEN = 14.0  # how far the edge's colours may lie from their middle (median)
PATIENCE = 250  # frames without a screen (a fade-in, a title) before giving up
WIDEST = 640  # pixels of the mask


class ChromaKey:
    """Replaces one colour: `key` as (red, green, blue), or what the edges of `pictures` show first.

    Raises:
        BadInput: `no_screen`, the edges never show one strong colour.
    """

    def __init__(self, key: Color | None, pictures: Iterator[Picture]) -> None:
        found = chroma(key) if key else next(filter(None, map(screen, islice(pictures, PATIENCE))), None)
        if found is None:
            raise BadInput("no_screen", "no edge of one strong colour; use another model or give key_color")
        self._key = found

    def __call__(self, picture: Picture) -> Alpha:
        width = min(WIDEST, picture.width // 2)
        height = max(1, round(width * picture.height / picture.width))
        blue, red = (resize(plane, width, height).astype(np.float32) for plane in (picture.cb, picture.cr))
        distance = cv2.magnitude(blue - self._key[0], red - self._key[1])
        return cast(Alpha, np.clip((distance - NEAR) / (FAR - NEAR), 0, 1))


def screen(picture: Picture) -> tuple[float, float] | None:
    """(Cb, Cr) of the screen if the upper edges show one: strong, and nearly the same all along."""
    edge = max(1, picture.cb.shape[0] // 30)
    upper = picture.cb.shape[0] * 2 // 3
    found = []
    for plane in (picture.cb, picture.cr):
        strips = plane[:edge], plane[:upper, :edge], plane[:upper, -edge:]
        found.append(np.concatenate([strip.ravel() for strip in strips]))
    blue, red = found[0].astype(np.float32), found[1].astype(np.float32)
    key = float(np.median(blue)), float(np.median(red))
    spread = float(np.median(cv2.magnitude(blue - key[0], red - key[1])))
    return key if spread < EVEN and np.hypot(key[0] - 128, key[1] - 128) > STRONG else None


def chroma(color: Color) -> tuple[float, float]:
    """(Cb, Cr) of (red, green, blue), BT.601, limited range."""
    red, green, blue = color
    return (
        128 - 0.148 * red - 0.291 * green + 0.439 * blue,
        128 + 0.439 * red - 0.368 * green - 0.071 * blue,
    )
