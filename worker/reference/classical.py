"""Models without weights: GrabCut for a centred portrait, an empty scene's picture for a still camera.

Owns their priors; never touches video or backgrounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np

from .picture import Alpha, Picture, Plane

GRABCUT_SHORT = 112  # pixels of the shorter side; the time grows with the area
ROUNDS = 2
FRAMES = 60  # of a video, kept to find out how the scene looks when empty
SCENE_SHORT = 240
NEAR, FAR = 10.0, 26.0  # distance in Lab that is surely the scene, and surely not


class GrabCut:
    """One person, head and shoulders, in the middle (Rother, Kolmogorov and Blake, 2004)."""

    def __init__(self) -> None:
        self._before: Plane | None = None

    def __call__(self, picture: Picture) -> Alpha:
        width, height = picture.fit(GRABCUT_SHORT)
        image = picture.bgr(width, height)
        prior = head_and_shoulders(width, height)
        labels = prior.copy() if self._before is None else grown(self._before, prior)
        if not has_both(labels):
            labels = prior.copy()
        if has_both(labels):
            cv2.setRNGSeed(1)  # the same video gives the same result
            scene, person = np.zeros((1, 65)), np.zeros((1, 65))
            cv2.grabCut(image, labels, (0, 0, 1, 1), scene, person, ROUNDS, cv2.GC_INIT_WITH_MASK)
        front = self._before = largest(foreground(labels))
        return cast(Alpha, cv2.GaussianBlur(front.astype(np.float32), (3, 3), 0))


class StillCamera:
    """What differs from the empty scene, which is the median of pictures from all over the video."""

    def __init__(self, pictures: Iterator[Picture]) -> None:
        kept: list[Plane] = []
        stride = 1
        for number, picture in enumerate(pictures):
            if number % stride == 0:
                kept.append(picture.bgr(*picture.fit(SCENE_SHORT)))
            if len(kept) == 2 * FRAMES:
                kept, stride = kept[::2], stride * 2
        self._scene = lab(np.median(np.stack(kept), axis=0).astype(np.uint8)) if kept else None

    def __call__(self, picture: Picture) -> Alpha:
        width, height = picture.fit(SCENE_SHORT)
        seen = lab(picture.bgr(width, height))
        if self._scene is None:
            return np.zeros((height, width), np.float32)
        distance = np.sqrt(np.square(seen - self._scene).sum(axis=2))
        mask = np.clip((distance - NEAR) / (FAR - NEAR), 0, 1).astype(np.float32)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        mask = cv2.morphologyEx(cv2.medianBlur(mask, 5), cv2.MORPH_CLOSE, disc, iterations=2)
        return cast(Alpha, mask)


def head_and_shoulders(width: int, height: int) -> Plane:
    """GrabCut's labels for where a person probably is, before anything is known."""
    labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    middle, short = width // 2, min(width, height)
    body = middle, height
    head = middle, round(height * 0.42)
    cv2.ellipse(labels, body, (round(short * 0.55), round(height * 0.42)), 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(labels, head, (round(short * 0.24), round(height * 0.32)), 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(labels, head, (round(short * 0.10), round(height * 0.16)), 0, 0, 360, cv2.GC_FGD, -1)
    cv2.ellipse(labels, body, (round(short * 0.25), round(height * 0.25)), 0, 0, 360, cv2.GC_FGD, -1)
    side = max(1, width // 20)
    labels[: max(1, height // 20)] = cv2.GC_BGD
    labels[: height // 2, :side] = labels[: height // 2, -side:] = cv2.GC_BGD
    return labels


def foreground(labels: Plane) -> Plane:
    """1 where GrabCut's label is foreground, sure or probable."""
    return labels & np.uint8(1)  # GC_FGD is 1, GC_PR_FGD is 3; GC_BGD is 0, GC_PR_BGD is 2


def has_both(labels: Plane) -> bool:
    """Whether there are pixels enough on both sides for GrabCut's five colours each."""
    front = int(np.count_nonzero(foreground(labels)))
    return 5 <= front <= labels.size - 5


def grown(front: Plane, prior: Plane) -> Plane:
    """Labels after a mask: what was deep inside or far outside stays, between them GrabCut decides again."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    labels = np.where(front > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.dilate(front, disc, iterations=2) == 0] = cv2.GC_BGD
    labels[cv2.erode(front, disc, iterations=2) > 0] = cv2.GC_FGD
    labels[prior == cv2.GC_FGD] = cv2.GC_FGD
    return labels


def largest(front: Plane) -> Plane:
    """The largest connected piece alone, without its small holes."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(front)
    if count < 2:
        return front
    piece = (pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    return cast(Plane, cv2.morphologyEx(piece, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)))


def lab(image: Plane) -> Alpha:
    """CIE L*a*b*, where distances are roughly what eyes see."""
    return cast(Alpha, cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB))
