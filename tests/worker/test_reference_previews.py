"""What the reference service shows of a frame to somebody who looks, and that it does nothing for nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.reference_media import near, quarters, write
from worker.reference import replace_background

pytestmark = pytest.mark.media

DROP_ALL = {"key_color": "#0000ff", "color": "#00ff00"}


class Looker:
    """Wants to see every second frame."""

    def __init__(self) -> None:
        self.asked = 0
        self.seen: list[tuple[str, int | None, Any]] = []

    @property
    def watched(self) -> bool:
        self.asked += 1
        return self.asked % 2 == 0

    def preview(self, kind: str, picture: Any, frame: int | None = None) -> None:
        self.seen.append((kind, frame, picture))


def test_a_frame_is_shown_as_it_was_who_is_in_front_and_what_it_became(tmp_path: Path) -> None:
    blue = np.full((360, 640, 3), (255, 0, 0), np.uint8)  # blue, green, red
    video = write(tmp_path / "blue.mp4", [blue] * 4)
    looker = Looker()
    replace_background(
        video, None, tmp_path / "out.mp4", "chroma-key", DROP_ALL, lambda *step: None, lambda: False, looker,
    )
    assert looker.asked == 4
    kinds = ("original", "mask", "composite")
    assert [(kind, frame) for kind, frame, _ in looker.seen] == [(kind, frame) for frame in (1, 3) for kind in kinds]
    original, mask, composite = (picture for _, _, picture in looker.seen[:3])
    assert [picture.shape[:2] for picture in (original, mask, composite)] == [(180, 320)] * 3
    assert near(original, np.full((180, 320, 3), (255, 0, 0)), 12)
    assert mask.max() < 0.1
    assert near(composite, np.full((180, 320, 3), (0, 255, 0)), 12)


def test_a_small_and_upright_picture_stays_as_it_is(tmp_path: Path) -> None:
    video = write(tmp_path / "turned.mp4", [quarters()] * 3, turn={"degrees": 90})
    looker = Looker()
    replace_background(
        video, None, tmp_path / "out.mp4", "chroma-key", {"key_color": "#00ff00"}, lambda *step: None, lambda: False,
        looker,
    )
    height, width = quarters().shape[:2]
    assert {picture.shape[:2] for _, _, picture in looker.seen} == {(width, height)}
