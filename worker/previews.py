"""Small pictures of what is worked on, for those who look: when they are due, how they are made and how they travel.

Owns the pace and the binary message (docs/reference/worker-protocol.md, previews). While nobody looks nothing is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, SupportsInt, get_args

import msgspec
import structlog

from hub.messages import Preview

if TYPE_CHECKING:
    import numpy.typing as npt

    Picture = bytes | npt.NDArray[Any]

Kind = Literal["original", "mask", "composite"]
KINDS: tuple[str, ...] = get_args(Kind)
PACE_S = 1.8  # between two sets of pictures: one of each kind, so the hub's two a second are never reached
SIDE = 320  # pixels, of the longer side
QUALITY = 70  # JPEG's, 0..100
LARGEST = 120 * 1024  # bytes of one picture
MOST_FRAMES = 2**40
TYPE = b"\x01"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture on its way: a JPEG or WebP of the frame with this number."""

    kind: Kind
    frame: int | None
    image: bytes


class Previews:
    """What one job shows. `wanted` is set while somebody looks; `send` takes each picture that is made."""

    def __init__(
        self, send: Callable[[Shown], None] = lambda shown: None, wanted: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.send = send
        self.wanted = wanted or threading.Event()
        self.clock = clock
        self.began = -PACE_S
        self.sent: set[str] = set()

    @property
    def due(self) -> bool:
        """Whether somebody looks, and has seen the last pictures for long enough."""
        return self.wanted.is_set() and self.clock() - self.began >= PACE_S

    def offer(self, kind: Kind, picture: Picture, frame: SupportsInt | None) -> None:
        """Send a picture if it is due and the first of its kind in this set; one that cannot be made is left out.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"a preview is one of {', '.join(KINDS)}, not {kind!r}")
        if not self.wanted.is_set():
            return
        if self.due:
            self.began = self.clock()
            self.sent.clear()
        if kind in self.sent:
            return
        self.sent.add(kind)
        try:
            image = picture if isinstance(picture, bytes) else small(picture)
            if len(image) > LARGEST:
                raise ValueError(f"{len(image)} bytes, at most {LARGEST} are shown")
            number = None if frame is None else count(frame)
        except Exception as error:  # whether somebody looks must not decide whether a job fails
            log.warning("preview_left_out", kind=kind, reason=f"{type(error).__name__}: {error}")
            return
        self.send(Shown(kind, number, image))


def count(frames: SupportsInt) -> int:
    """How many frames, or which one of them, as it may travel: also numpy has numbers.

    Raises:
        ValueError, TypeError, OverflowError: this is none.
    """
    return max(0, min(int(frames), MOST_FRAMES))


def small(picture: npt.NDArray[Any]) -> bytes:
    """A JPEG whose longer side has at most 320 pixels.

    `picture` is (height, width) or (height, width, 3) blue, green, red; uint8, or booleans or floats from 0 to 1.
    """
    import cv2  # here, because a worker that shows nothing does not need it
    import numpy as np

    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    made, image = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not made:
        raise ValueError("this is no picture")
    return image.tobytes()


def packed(lease: str, shown: Shown) -> bytes:
    """The binary message: 1 byte type, 4 bytes length of the header (big-endian), header in JSON, image."""
    header = msgspec.json.encode(Preview(lease=lease, kind=shown.kind, frame=shown.frame))
    return TYPE + len(header).to_bytes(4, "big") + header + shown.image


def unpacked(raw: bytes) -> tuple[Preview, bytes]:
    """The header and the image of such a message."""
    size = int.from_bytes(raw[1:5], "big")
    return msgspec.json.decode(raw[5:5 + size], type=Preview), raw[5 + size:]
