"""The model in a process of its own, so that nothing it does can keep the worker from answering the hub.

Owns both ends of that pipe: `Child` here, `main` in the new process. Never knows the hub. The process is spawned,
not forked: task functions are found again by their module and name. It lives from job to job, so that a loaded
model stays loaded, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import structlog

from .errors import AttemptFailed, BadInput, Stopped
from .job import Job, Order, Report, TaskFunction
from .previews import Previews, Shown
from .threads import in_thread, tell

GRACE_S = 2.0  # how long a cancelled task function may take to notice
PACE_S = 0.25  # at most one report in this time
NAME = "model"  # what the processes are called, with a number behind it

Functions = Mapping[str, TaskFunction]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    """Parent to child: end the running job."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Parent to child: whether somebody looks at the running job."""

    on: bool


@dataclass(frozen=True, slots=True)
class Done:
    """Child to parent: the function returned."""

    stats: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raised:
    """Child to parent: the function raised; `final` is true for bad input."""

    code: str
    detail: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The pipe is closed: the process is gone."""


Reply = Report | Shown | Done | Raised | Ended


class Child:
    """One slot: runs one order at a time, in a process that is started when it is needed and not there."""

    def __init__(self, number: int, functions: Functions) -> None:
        self.name = f"{NAME}-{number}"
        self.functions = functions
        self.process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()
        self.busy = False
        self.watched = False

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self.process is not None and self.process.is_alive():
            return
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=main, args=(theirs, dict(self.functions)), name=self.name)
        self.process.start()
        theirs.close()
        self.replies = asyncio.Queue()
        threading.Thread(
            target=listen, args=(self.pipe, asyncio.get_running_loop(), self.replies.put_nowait), daemon=True,
        ).start()

    async def run(
        self, order: Order, on_report: Callable[[Report], None],
        on_picture: Callable[[Shown], None] = lambda shown: None,
    ) -> dict[str, float]:
        """Have one order carried out; what its function returned comes back.

        When the waiting is cancelled the function is told to stop, and killed if it does not.

        Raises:
            BadInput: the function says that this input will never do.
            AttemptFailed: `worker_error`, the function raised; `worker_crashed`, its process ended.
        """
        self.start()
        assert self.pipe is not None
        pipe = self.pipe
        self.watched = order.watched
        try:
            reply = await self.outcome(pipe, order, on_report, on_picture)
        except asyncio.CancelledError:
            await self.wind_down(pipe)
            raise
        except Exception:
            self.kill()  # the function still runs, and what it says at its end must not count for the next order
            raise
        finally:
            self.busy = False
        match reply:
            case Done():
                return reply.stats
            case Raised():
                raise (BadInput if reply.final else AttemptFailed)(reply.code, reply.detail)
            case Ended():
                raise AttemptFailed("worker_crashed", await self.last_words())

    async def outcome(
        self, pipe: Connection, order: Order, on_report: Callable[[Report], None], on_picture: Callable[[Shown], None],
    ) -> Done | Raised | Ended:
        """Hand over an order and wait for its end."""
        try:
            await in_thread(lambda: pipe.send(order))
            self.busy = True
            if self.watched != order.watched:
                pipe.send(Watch(self.watched))
        except OSError:
            return Ended()
        while isinstance(reply := await self.replies.get(), Report | Shown):
            if isinstance(reply, Report):
                on_report(reply)
            else:
                on_picture(reply)
        return reply

    def watch(self, on: bool) -> None:
        """Tell the running job whether somebody looks."""
        self.watched = on
        if self.busy and self.pipe is not None:
            with suppress(OSError):  # its end is noticed elsewhere
                self.pipe.send(Watch(on))

    async def wind_down(self, pipe: Connection) -> None:
        """End the running job: by word, then by force."""
        try:
            pipe.send(Stop())
            async with asyncio.timeout(GRACE_S):
                while isinstance(await self.replies.get(), Report | Shown):
                    pass
        except (OSError, TimeoutError, asyncio.CancelledError):
            self.kill()

    async def last_words(self) -> str:
        """How the process ended, for people; the next job gets a new one."""
        process, self.process = self.process, None
        assert process is not None
        await in_thread(process.join)
        if process.exitcode is not None and process.exitcode < 0:
            return f"the model's process was ended by {signal.Signals(-process.exitcode).name}"
        return f"the model's process ended with exit code {process.exitcode}"

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.join(1.0)
            self.process = None


def listen(pipe: Connection, loop: asyncio.AbstractEventLoop, receive: Callable[[Reply], None]) -> None:
    """Carry replies from the pipe to the loop until the process, or the loop, ends."""
    reply: Reply = Report("", 0.0)
    while not isinstance(reply, Ended):
        try:
            reply = pipe.recv()
        except Exception:  # its end, or what cannot be read, which is as good as that
            reply = Ended()
        if not tell(loop, receive, reply):
            break
    pipe.close()


# --- in the process of the model --------------------------------------------------------------------------------


class Outlet:
    """The child's end for replies: thins reports to one in `PACE_S`, and loses no phase's last one."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.lock = threading.Lock()
        self.waiting: dict[str, Report] = {}
        self.some = threading.Event()
        threading.Thread(target=self.pump, daemon=True).start()

    def report(self, report: Report) -> None:
        with self.lock:
            self.waiting.pop(report.phase, None)
            self.waiting[report.phase] = report
            self.some.set()

    def pump(self) -> None:
        while True:
            self.some.wait()
            with self.lock:
                if self.waiting:
                    self.send(self.waiting.pop(next(iter(self.waiting))))
                if not self.waiting:
                    self.some.clear()
            time.sleep(PACE_S)

    def show(self, shown: Shown) -> None:
        with self.lock:
            self.send(shown)

    def finish(self, reply: Done | Raised) -> None:
        """Send what still waits, then how it ended."""
        with self.lock:
            for report in self.waiting.values():
                self.send(report)
            self.waiting.clear()
            self.some.clear()
            self.send(reply)

    def send(self, reply: Report | Shown | Done | Raised) -> None:
        try:
            self.pipe.send(reply)
        except OSError:
            os._exit(0)  # nobody listens any more: the parent is gone


def main(pipe: Connection, functions: Functions) -> None:
    """The life of the model's process: one order after the other."""
    leave_signals_to_parent()
    outlet = Outlet(pipe)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=obey, args=(pipe, jobs, outlet), daemon=True).start()
    while True:
        outlet.finish(perform(functions, jobs.get()))


def leave_signals_to_parent() -> None:
    """Ctrl-C and a stop reach the whole group, and this process is to finish its job; what it starts ends as usual."""
    own = os.getpid()

    def stay(number: int, frame: object) -> None:
        if os.getpid() != own:  # in a fork, which has this handler too
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stay)  # unlike SIG_IGN it is not handed on to other programs


def obey(pipe: Connection, jobs: queue.SimpleQueue[Job], outlet: Outlet) -> None:
    """Take orders and words about the running one from the parent, and end this process with it."""
    stop, wanted = threading.Event(), threading.Event()
    try:
        while True:
            match pipe.recv():
                case Order() as order:
                    stop, wanted = threading.Event(), threading.Event()
                    if order.watched:
                        wanted.set()
                    jobs.put(Job(order, outlet.report, stop, Previews(outlet.show, wanted)))
                case Stop():
                    stop.set()
                case Watch(on):
                    wanted.set() if on else wanted.clear()
    except (EOFError, OSError):
        os._exit(0)


def perform(functions: Functions, job: Job) -> Done | Raised:
    """Call the model's function and put its end into words."""
    try:
        stats = numbers(functions[job.model](job))
    except BadInput as error:
        return Raised(error.code, error.detail, final=True)
    except Stopped:
        return Raised("stopped", "the job was cancelled")
    except Exception as error:
        traceback.print_exc()
        return Raised("worker_error", f"{type(error).__name__}: {error}")
    if not job.output.is_file():
        return Raised("no_result", "the task function wrote no output")
    return Done(stats)


def numbers(stats: object) -> dict[str, float]:
    """What can be told about the work: finite numbers by name. The rest is left out: the work is done all the same."""
    told: dict[str, float] = {}
    if not isinstance(stats, Mapping | None):
        log.warning("numbers_left_out", reason=f"a function returns numbers by name, not {type(stats).__name__}")
        return told
    for name, value in (stats or {}).items():
        try:
            told[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("number_left_out", name=str(name), reason=str(error))
    return {name: value for name, value in told.items() if math.isfinite(value)}
