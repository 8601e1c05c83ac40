"""From a model's coarse mask to an alpha that follows hair and does not flicker.

Owns what happens to every mask, whichever model made it; never knows the model.
"""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from .picture import Alpha, Picture, Plane, resize

CALM = 0.3  # a change smaller than this is noise, a larger one is movement
KEEP = 0.4  # how much of the mask before stays where nothing moves
EPSILON = 1e-4  # guided filter: contrast (squared, of 0..1) below which an edge is none
MARGIN = 0.05  # what is this near to 0 or 1 becomes it, so that the filter leaves no veil


class Refiner:
    """Makes alphas from masks, frame after frame of one video.

    `floor` and `ceiling` are the confidences that become 0 and 1.
    """

    def __init__(self, floor: float = 0.0, ceiling: float = 1.0) -> None:
        self._floor = floor
        self._gain = 1 / (ceiling - floor)
        self._before: Alpha | None = None

    def __call__(self, mask: Alpha, picture: Picture) -> Alpha:
        """Alpha of the picture's size for a mask of any size (height, width), 0..1."""
        sure = np.clip((mask - self._floor) * self._gain, 0, 1, dtype=np.float32)
        return follow_edges(self._steady(sure), picture.y)

    def _steady(self, mask: Alpha) -> Alpha:
        if self._before is not None and self._before.shape == mask.shape:
            change = self._before - mask
            change[np.abs(change) >= CALM] = 0
            mask = mask + KEEP * change
        self._before = mask
        return mask


def follow_edges(mask: Alpha, luma: Plane) -> Alpha:
    """Fast guided filter (He and Sun, 2015): `mask` at `luma`'s size, its edges drawn to those of the brightness.

    The filter's line (alpha = a * brightness + b) is found at the mask's size and applied at the full one.
    """
    height, width = mask.shape
    guide = resize(luma, width, height).astype(np.float32) * np.float32(1 / 255)
    radius = max(1, min(height, width) // 64)

    def mean(values: npt.NDArray[np.floating[Any]]) -> Alpha:
        return cast(Alpha, cv2.blur(values, (2 * radius + 1, 2 * radius + 1)))

    of_guide, of_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - of_guide * of_mask) / (mean(guide * guide) - of_guide * of_guide + EPSILON)
    offset = of_mask - slope * of_guide
    stretch = 1 / (1 - 2 * MARGIN)
    size = luma.shape[1], luma.shape[0]
    full_slope = cv2.resize(mean(slope) * np.float32(stretch / 255), size)
    full_offset = cv2.resize(mean(offset) * np.float32(stretch) - np.float32(MARGIN * stretch), size)
    alpha = cv2.add(cv2.multiply(luma, full_slope, dtype=cv2.CV_32F), full_offset)
    return cast(Alpha, np.clip(alpha, 0, 1, out=alpha))
