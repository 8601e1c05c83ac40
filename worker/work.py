"""One lease's life on this side: fetch the inputs, have the model run, upload the result, say how it ended.

Owns the order of these steps, what they count for in the progress, and the temporary folder. Never talks to the hub
by itself: it hands messages to `tell`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc
from typing import TypeVar
from urllib.parse import urljoin

import structlog

from hub.messages import Artifact, Assign, Failed, Message, Progress, Result

from . import files
from .child import PACE_S, Child
from .errors import AttemptFailed, LeaseGone
from .files import Wire
from .job import Order, Report
from .previews import Shown, count
from .threads import in_thread, tell as tell_loop

FETCHED, MADE = 5.0, 95.0  # percent of the whole task when the inputs are here, and when the result is made
RESULT = "result"
LONGEST_TEXT = 2000

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Work:
    """From assignment to acknowledgement; `ending` is the report that is kept until the hub has it."""

    def __init__(
        self, assign: Assign, hub_url: str, tell: Callable[[Message], None],
        show: Callable[[str, Shown], None] = lambda lease, shown: None,
    ) -> None:
        self.assign = assign
        self.lease = assign.lease
        self.hub_url = hub_url
        self.tell = tell
        self.show = show
        self.watched = False
        self.child: Child | None = None
        self.ending: Result | Failed | None = None
        self.running: asyncio.Task[None] | None = None

    async def carry_out(self, children: asyncio.Queue[Child]) -> None:
        """Do the work with the next free child; `ending` says how it went, or stays None where nobody wants to know."""
        child = self.child = await children.get()
        try:
            self.ending = await self.attempt(child)
        except LeaseGone as gone:
            log.info("lease_gone", lease=self.lease, detail=str(gone))
        except AttemptFailed as error:
            log.info("attempt_failed", lease=self.lease, code=error.code, detail=error.detail)
            self.ending = self.failed(error)
        except Exception as error:
            log.error("attempt_broke", lease=self.lease, exception=format_exc())  # links, which are local, are secret
            self.ending = self.failed(AttemptFailed("worker_error", f"{type(error).__name__}: {error}"))
        finally:
            self.child = None
            children.put_nowait(child)

    async def attempt(self, child: Child) -> Result:
        """All steps, in a folder that does not outlive them.

        Raises:
            AttemptFailed: with the code that the hub is told.
            LeaseGone: the hub takes nothing for this lease any more.
        """
        with TemporaryDirectory(prefix="video-job-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            order = Order(
                self.assign.task, self.assign.attempt, self.assign.model, self.assign.options,
                await self.fetch(folder), folder / "result.mp4", self.watched,
            )
            stats = await child.run(order, self.reported, lambda shown: self.show(self.lease, shown))
            more = {"mask": order.mask, "foreground": order.foreground}
            made = {RESULT: order.output, **{purpose: path for purpose, path in more.items() if path.is_file()}}
            artifacts = await self.upload(made, count(stats.get("frames", 0)))
        return Result(lease=self.lease, artifacts=artifacts, stats=stats)

    async def fetch(self, folder: Path) -> dict[str, Path]:
        """All inputs as files, by purpose."""
        self.progress("fetch", 0.0)
        fetched: dict[str, Path] = {}
        total, before = sum(item.size for item in self.assign.inputs) or 1, 0
        for number, item in enumerate(self.assign.inputs):
            path, url = folder / f"input-{number}", urljoin(self.hub_url, item.url)

            def get(wire: Wire) -> None:
                files.fetch(url, path, item.sha256, item.size, wire)

            await self.transfer("fetch", get, lambda done, _: FETCHED * (before + done) / total)
            fetched[item.purpose] = path
            before += item.size
        self.progress("fetch", FETCHED)
        return fetched

    async def upload(self, made: dict[str, Path], frames: int) -> list[Artifact]:
        """The finished files, by purpose, as uploads of the hub's."""
        self.progress("upload", MADE)
        url, artifacts = urljoin(self.hub_url, self.assign.upload_url), list[Artifact]()
        total, before = sum(path.stat().st_size for path in made.values()) or 1, 0
        for purpose, path in made.items():

            def put(wire: Wire) -> files.Uploaded:
                return files.upload(url, path, path.name, "video/mp4", purpose, wire)

            uploaded = await self.transfer(
                "upload", put, lambda done, _: MADE + (100.0 - MADE) * (before + done) / total,
            )
            artifacts.append(Artifact(purpose=purpose, upload_id=uploaded.id, sha256=uploaded.sha256, frames=frames))
            before += path.stat().st_size
        self.progress("upload", 100.0)
        return artifacts

    async def transfer(self, phase: str, move: Callable[[Wire], T], percent: Callable[[int, int], float]) -> T:
        """Run one transfer beside the loop, with its progress at a bearable pace; it ends when nobody waits for it."""
        loop, stop, told_at = asyncio.get_running_loop(), threading.Event(), time.monotonic()

        def moved(done: int, total: int) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= PACE_S and done < total:
                told_at = time.monotonic()
                tell_loop(loop, show, percent(done, total))

        def show(value: float) -> None:
            if not stop.is_set():
                self.progress(phase, value)

        try:
            return await in_thread(lambda: move(Wire(stop, moved)))
        finally:
            stop.set()

    def reported(self, report: Report) -> None:
        """What the task function says, as part of the whole."""
        whole = FETCHED + (MADE - FETCHED) * report.percent / 100.0
        self.progress(report.phase, whole, report.frames_done, plain(report.message))

    def watch(self, on: bool) -> None:
        """Somebody looks, or nobody any more."""
        self.watched = on
        if self.child is not None:
            self.child.watch(on)

    def progress(self, phase: str, percent: float, frames: int | None = None, message: str = "") -> None:
        self.tell(Progress(lease=self.lease, phase=phase, progress=percent, frames_done=frames, message=message))

    def failed(self, error: AttemptFailed) -> Failed:
        code = plain(error.code)[:64]
        return Failed(lease=self.lease, code=code, retryable=error.retryable, detail=plain(error.detail))


def plain(text: str) -> str:
    """Text as it may travel: UTF-8, not too long."""
    return text.encode("utf-8", "replace").decode()[:LONGEST_TEXT]
