"""One video's way through: decode, segment, refine, mix, encode, in one pass.

Owns the order of the steps, progress and stopping; each step's own work is elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
from av import Packet, VideoFrame

from worker.errors import BadInput, Stopped
from worker.previews import SIDE, Kind

from .composite import Background, cover, plain, read_picture
from .models import find_model
from .options import Options, parse_options
from .picture import Alpha, Picture, Plane, matrix, picture, planes
from .video import Reader, Writer

LOOK = 10.0  # percent of the work that a model's look ahead counts as
SEGMENT = 99.0  # percent when the last picture is done; the rest is completing the file

Report = Callable[[str, float, int], None]


class Viewer(Protocol):
    """Somebody who may look: a worker's job, for one."""

    @property
    def watched(self) -> bool:
        """Whether pictures of this frame are wanted."""
        ...

    def preview(self, kind: Kind, picture: Any, frame: int | None = None) -> None:
        """Show one."""
        ...


@dataclass(frozen=True, slots=True)
class Stats:
    """What the work came to: pictures written, seconds it took, pixels of the result."""

    frames: int
    seconds: float
    width: int
    height: int


def replace_background(
    video: Path,
    background: Path | None,
    output: Path,
    model: str,
    options: Mapping[str, Any],
    on_progress: Report,
    should_stop: Callable[[], bool],
    viewer: Viewer | None = None,
) -> Stats:
    """Write `video` with another background to `output`; frames, times, orientation and sound stay.

    `viewer` is asked once a frame whether it wants to see it.

    Raises:
        BadInput: the video, the picture, the model's name or an option can never do.
        Stopped: `should_stop` said yes; it is asked before each frame.
    """
    cv2.setNumThreads(1)
    began = time.monotonic()
    entry, chosen = find_model(model), parse_options(options)
    image = None if background is None else read_picture(background)
    first = first_frame(video)
    steps = Steps(on_progress, should_stop)
    segment = entry.make(chosen, steps.look_ahead(video))
    refine = entry.refiner()
    try:
        with Reader(video) as source:
            upright = picture(first, source.width, source.height)
            width, height = upright.width, upright.height
            behind = ready(image, chosen, source, first, width, height)
            with closing(Writer(output, source, first, width, height)) as writer:
                for item in source.frames_and_sound():
                    if isinstance(item, Packet):
                        writer.write_sound(item)
                        continue
                    steps.check()
                    shown = picture(item, source.width, source.height)
                    alpha = refine(segment(shown), shown)
                    mixed = behind.mix(shown, alpha)
                    if viewer is not None and viewer.watched:
                        show(viewer, steps.frames, shown, alpha, planes(mixed))
                    mixed.pts, mixed.time_base, mixed.duration = item.pts, item.time_base, item.duration
                    writer.write(mixed)
                    steps.done(source, item)
                on_progress("encode", SEGMENT, steps.frames)
                writer.finish()
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    on_progress("encode", 100.0, steps.frames)
    return Stats(steps.frames, time.monotonic() - began, width, height)


def show(viewer: Viewer, frame: int, original: Picture, alpha: Alpha, composite: Picture) -> None:
    """One frame in small: what it was, who is in front, and what it became."""
    width, height = original.within(SIDE)
    viewer.preview("original", original.bgr(width, height), frame)
    viewer.preview("mask", cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA), frame)
    viewer.preview("composite", composite.bgr(width, height), frame)


def first_frame(video: Path) -> VideoFrame:
    """The first picture: it alone tells orientation and colours for certain.

    Raises:
        BadInput: `no_video`, there is none, and all that Reader says.
    """
    with Reader(video) as source:
        for frame in source.frames():
            return frame
    raise BadInput("no_video", "the file has no picture that can be decoded")


def ready(
    image: Plane | None, options: Options, source: Reader, first: VideoFrame, width: int, height: int
) -> Background:
    """The background at the result's size and in its colours."""
    if image is None:
        filled = plain(options.color, width, height)
    else:
        filled = cover(image, width, height, source.shape_of(first))
    return Background(filled, matrix(first))


class Steps:
    """How far one run is; never goes back."""

    def __init__(self, on_progress: Report, should_stop: Callable[[], bool]) -> None:
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._from = 0.0
        self._percent = 0.0
        self.frames = 0

    def check(self) -> None:
        if self._should_stop():
            raise Stopped

    def done(self, source: Reader, frame: VideoFrame) -> None:
        """One more picture is written."""
        self.frames += 1
        self._tell(self._from + (SEGMENT - self._from) * source.share(frame))

    def look_ahead(self, video: Path) -> Iterator[Picture]:
        """All pictures of the video, for a model that must know them before it starts."""
        with Reader(video) as source:
            for frame in source.frames():
                self.check()
                self._from = LOOK * source.share(frame)
                self._tell(self._from)
                yield picture(frame, source.width, source.height)

    def _tell(self, percent: float) -> None:
        self._percent = max(self._percent, percent)
        self._on_progress("segment", self._percent, self.frames)
