"""The worker SDK: offer models to a hub, get jobs, give results.

Owns what a user of the SDK sees: which function does which model's jobs, starting and stopping. The conversation with
the hub is the session's, the models run in processes of their own (child), transfers in threads (files).

    worker = Worker(models=[Model("my-model", description="What it is good for")])

    @worker.task("my-model")
    def replace(job: Job) -> None:
        ...write the finished video to job.output...

    if __name__ == "__main__":
        worker.run("http://hub:6001", token)
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from hub.messages import Model

from .auto import AutoTransport
from .child import NAME
from .errors import Refused
from .job import Job, TaskFunction
from .polling import PollTransport
from .pushed import PushTransport
from .session import Session
from .transports import Transport, WebSocketTransport

__all__ = ["DRAIN_S", "Job", "Model", "PushTransport", "Worker"]

DRAIN_S = 600.0  # how long running work may take to end, once the worker was asked to stop

Hardware = Mapping[str, str | int | float | bool | None]
Way = Transport | str
log = structlog.get_logger(__name__)


class Worker:
    """An interface service: `models` that it offers, `slots` jobs at a time, under its registered `name`.

    `name` must be the one that the hub's admin registered the token for; the host's name if not given.
    """

    def __init__(
        self, models: Sequence[Model], *, name: str | None = None, slots: int = 1, hardware: Hardware | None = None,
    ) -> None:
        self.models = {model.name: model for model in models}
        self.name = name or platform.node()
        self.slots = slots
        self.hardware = dict(hardware or {"cpus": os.cpu_count(), "system": platform.system()})
        self.functions: dict[str, TaskFunction] = {}
        self.session: Session | None = None
        self.last_moment: asyncio.TimerHandle | None = None

    def task(self, *names: str) -> Callable[[TaskFunction], TaskFunction]:
        """Decorate the function that does the jobs of these models.

        It runs in a process of its own, which finds it by module and name: define it at the top level of a module,
        and start the worker under `if __name__ == "__main__":`. It stays loaded between jobs, so keep the model in
        a module variable.

        Raises:
            ValueError: a name is not among the worker's models.
            TypeError: a function that another process cannot find.
        """
        for name in names:
            if name not in self.models:
                raise ValueError(f"{name!r} is not among this worker's models: {', '.join(self.models)}")

        def register(function: TaskFunction) -> TaskFunction:
            where = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
            if "<" in where:
                raise TypeError(
                    f"{where} runs in a process of its own and must be found there by name: "
                    "define it with def at the top level of a module"
                )
            self.functions.update(dict.fromkeys(names, function))
            return function

        return register

    def run(self, url: str, token: str, *, transport: Way = "auto", drain_s: float = DRAIN_S) -> None:
        """Serve the hub at `url` until SIGINT, SIGTERM or its `drain`; exits with code 2 when it refuses this worker.

        The same where address or token cannot be right: both with one line in the log.

        The first signal lets running work end, for `drain_s` seconds at most; the second ends it. `transport` is
        "auto" (a websocket, or polls where none gets through), "websocket", "poll", or a transport.
        """
        if multiprocessing.current_process().name.startswith(f"{NAME}-"):
            raise RuntimeError('put worker.run(...) under if __name__ == "__main__": the model\'s process imports this')
        try:
            check(url, token)
        except ValueError as error:
            log.error("not_started", worker=self.name, reason=str(error))
            sys.exit(2)
        try:
            asyncio.run(self.serve(url, token, transport=transport, signals=True, drain_s=drain_s))
        except Refused as refused:
            log.error("refused_by_hub", worker=self.name, reason=str(refused))
            sys.exit(2)

    async def serve(
        self, url: str, token: str, *, transport: Way = "auto", signals: bool = False, drain_s: float = DRAIN_S,
    ) -> None:
        """Serve the hub until `stop` or `drain` is called or the hub asks to leave, in a running event loop.

        Raises:
            Refused: the hub does not want this worker.
            ValueError: a model has no task function, address or token cannot be right, or there is no such transport.
            TypeError: a task function cannot be found by another process, or a value of `hardware` cannot be told.
        """
        check(url, token)
        if missing := sorted(self.models.keys() - self.functions.keys()):
            raise ValueError(f"no task function for: {', '.join(missing)}")
        try:
            pickle.dumps(self.functions)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"a task function must be importable by module and name: {error}") from error
        way = way_to(url, token, transport) if isinstance(transport, str) else transport
        self.session = Session(
            way, url, self.functions, list(self.models.values()),
            name=self.name, slots=self.slots, hardware=self.hardware,
        )
        if signals:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                with suppress(NotImplementedError):  # no such thing on Windows, where Ctrl-C raises instead
                    loop.add_signal_handler(number, self.drain, drain_s)
        try:
            await self.session.run()
        finally:
            if self.last_moment is not None:
                self.last_moment.cancel()
            self.last_moment = None
            await way.close()

    def drain(self, seconds: float = DRAIN_S) -> None:
        """Take no more jobs and let `serve` return when the running ones have ended, or after `seconds`.

        Called a second time it ends them at once.
        """
        if self.session is None:
            return
        if self.last_moment is not None or seconds <= 0:
            self.stop()
            return
        log.info("draining", running=len(self.session.works), at_most_s=seconds)
        self.last_moment = asyncio.get_running_loop().call_later(seconds, self.stop)
        self.session.drain()

    def stop(self) -> None:
        """End the running jobs, say goodbye to the hub and let `serve` return."""
        if self.session is not None:
            self.session.stopping.set()


def check(url: str, token: str) -> None:
    """Whether a hub may be at this address and a header may carry this token.

    Raises:
        ValueError: the text says what is wrong, and does not show the token.
    """
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or "@" in parts.netloc:
        raise ValueError(f"a hub's address is like http://hub:6001, not {url.rpartition('@')[2]!r}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"the hub's links begin behind host and port, so give {parts.scheme}://{parts.netloc} alone")
    if not token or not (token.isascii() and token.isprintable()):
        raise ValueError("this cannot be the token: it is empty, or has a line end or a foreign letter in it")


def way_to(url: str, token: str, name: str) -> Transport:
    """The transport of that name.

    Raises:
        ValueError: there is none.
    """
    socket, poll = WebSocketTransport(url, token), PollTransport(url, token)
    ways: dict[str, Transport] = {"auto": AutoTransport(socket, poll), "websocket": socket, "poll": poll}
    if name not in ways:
        raise ValueError(f"no transport {name!r}; there are {', '.join(ways)}, or a PushTransport")
    return ways[name]
