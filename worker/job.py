"""What a task function sees: one job, with its inputs as files and a path for the result.

Owns the function's side of the work. Never knows the hub, a lease or a socket: it runs in a process that has none.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsInt, TypeVar

from .errors import BadInput, Stopped
from .previews import Kind, Previews, count

if TYPE_CHECKING:
    from .previews import Picture

PHASES = ("segment", "composite", "encode")  # what the hub shows; fetch and upload are not a function's business
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """One job as it is handed to the process of the model; `inputs` maps purposes to fetched files.

    `watched` is whether somebody looks when it begins.
    """

    task: str
    attempt: int
    model: str
    options: dict[str, Any]
    inputs: dict[str, Path]
    output: Path
    watched: bool = False

    @property
    def mask(self) -> Path:
        return self.output.with_name("mask.mp4")

    @property
    def foreground(self) -> Path:
        return self.output.with_name("foreground.mp4")


@dataclass(frozen=True, slots=True)
class Report:
    """How far a task function is: `percent` 0..100 of its own work."""

    phase: str
    percent: float
    frames_done: int | None = None
    message: str = ""


Stats = Mapping[str, float] | None
TaskFunction = Callable[["Job"], Stats]


@dataclass(frozen=True, slots=True)
class Job:
    """One job inside a task function.

    `inputs["video"]` and perhaps `inputs["background"]` are the fetched files, `output` is where the function
    writes the finished video, `options` is what the user chose, `attempt` counts from 1. A function may also write
    videos to `mask` and `foreground`; the user gets what is there. It may return numbers about its work; "frames"
    among them is how many frames it wrote.
    """

    BadInput = BadInput

    order: Order
    send: Callable[[Report], None] = lambda report: None
    stop: threading.Event = field(default_factory=threading.Event)
    previews: Previews = field(default_factory=Previews)

    @property
    def task(self) -> str:
        return self.order.task

    @property
    def attempt(self) -> int:
        return self.order.attempt

    @property
    def model(self) -> str:
        return self.order.model

    @property
    def options(self) -> dict[str, Any]:
        return self.order.options

    @property
    def inputs(self) -> dict[str, Path]:
        return self.order.inputs

    @property
    def output(self) -> Path:
        return self.order.output

    @property
    def mask(self) -> Path:
        return self.order.mask

    @property
    def foreground(self) -> Path:
        return self.order.foreground

    @property
    def cancelled(self) -> bool:
        """True once nobody wants the result; two seconds later the process is ended by force."""
        return self.stop.is_set()

    @property
    def watched(self) -> bool:
        """Whether somebody looks and the next pictures are due: ask once a frame, then `preview` them."""
        return self.previews.due

    def preview(self, kind: Kind, picture: Picture, frame: SupportsInt | None = None) -> None:
        """Show a picture of the frame that is worked on: "original", "mask" or "composite".

        A JPEG or WebP as bytes, or an array that is made small: (height, width) or (height, width, 3) blue, green,
        red; uint8, or booleans or floats from 0 to 1. While nobody looks, and where it is too early, nothing is done.

        Raises:
            ValueError: there is no such kind.
        """
        self.previews.offer(kind, picture, frame)

    def report(
        self, phase: str, percent: SupportsFloat, frames_done: SupportsInt | None = None, message: object = "",
    ) -> None:
        """Say how far the work is: a phase out of segment, composite, encode, and percent 0..100 of this function.

        Call it as often as you like; what is too much is left out on the way, and so is a percentage that is not
        finite.

        Raises:
            Stopped: the job was cancelled; let it pass.
            ValueError: there is no such phase.
            ValueError, TypeError, OverflowError: a number is none.
        """
        if phase not in PHASES:
            raise ValueError(f"a phase is one of {', '.join(PHASES)}, not {phase!r}")
        if self.cancelled:
            raise Stopped
        share, frames = float(percent), None if frames_done is None else count(frames_done)
        if math.isfinite(share):
            self.send(Report(str(phase), max(0.0, min(100.0, share)), frames, str(message)))

    def progress(self, frames: Iterable[T], phase: str = "segment", total: int | None = None) -> Iterator[T]:
        """Pass `frames` through and report each; `total` is their number, taken from `len` where there is one.

        Raises:
            Stopped: the job was cancelled; let it pass.
        """
        if total is None and isinstance(frames, Sized):
            total = len(frames)
        done = 0
        self.report(phase, 0.0, 0)
        for frame in frames:
            yield frame
            done += 1
            self.report(phase, 100.0 * done / total if total else 0.0, done)
