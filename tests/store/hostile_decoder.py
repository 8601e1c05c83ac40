"""A decoder that does what a taken-over one would; the probe's tests put it into the child in place of the real one.

What it does is the first word of the file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from store.probe_wire import Job, Refused

GOOD_JPEG = b"\xff\xd8\xff\xd9"


def decode(file: BinaryIO, job: Job) -> tuple[dict[str, Any], bytes]:
    word, _, rest = file.read(job.size).decode().partition(" ")
    result: tuple[dict[str, Any], bytes] = DEEDS[word](rest)
    return result


def warm_up() -> None:
    """Nothing to load."""


def sleep(_: str) -> NoReturn:
    while True:
        time.sleep(3600)


def spin(_: str) -> NoReturn:
    while True:
        pass


def stop(_: str) -> NoReturn:
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def crash(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def error(_: str) -> NoReturn:
    raise KeyError("a mistake in the decoder")


def eat(_: str) -> None:
    eaten = []
    while True:
        eaten.append(bytes(64 << 20))


def shout(_: str) -> NoReturn:
    """1 GB to each of the standard streams, then a refusal, so that the test sees that it came to its end."""
    megabyte = b"!" * (1 << 20)
    for stream in (1, 2):
        for _number in range(1024):
            os.write(stream, megabyte)
    raise Refused("not_video", "shouted")


def babble(_: str) -> NoReturn:
    """Answer without end on every descriptor there is."""
    while True:
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"x" * 65536)
            except OSError:
                pass


def lie(rest: str) -> tuple[dict[str, Any], bytes]:
    """Facts as the test wrote them down."""
    facts, poster = json.loads(rest)
    return facts, GOOD_JPEG if poster else b"<script>"


def reach(rest: str) -> NoReturn:
    """Try to get out; the refusal's detail names all that worked."""
    parent = os.getppid()
    attempts: dict[str, Callable[[], Any]] = {
        "read a neighbour's file": lambda: open(rest, "rb"),
        "see a neighbour's file": lambda: os.stat(rest),
        "read the users' list": lambda: open("/etc/passwd", "rb"),
        "list the root": lambda: [None][len(os.listdir("/")) and 0] if os.listdir("/") else 1 / 0,
        "read a process": lambda: open("/proc/self/environ", "rb"),
        "write a file": lambda: open("/tmp/written", "wb"),
        "make a folder": lambda: os.mkdir("/made"),
        "open a socket": lambda: socket.socket(socket.AF_INET),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "fork": fork_and_leave,
        "signal the parent": lambda: os.kill(parent, signal.SIGTERM) if os.getuid() else 1 / 0,
        "become root": lambda: os.setuid(0),
        "raise a limit": raise_limit,
        "see the hub's secrets": lambda: os.environ["A_SECRET_OF_THE_HUB"],
    }
    worked = []
    for name, attempt in attempts.items():
        try:
            attempt()
            worked.append(name)
        except (OSError, ValueError, ZeroDivisionError, KeyError):
            pass
    raise Refused("not_video", ", ".join(worked) or "nothing")


def fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)


def raise_limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


DEEDS: dict[str, Callable[[str], Any]] = {
    deed.__name__: deed for deed in (sleep, spin, stop, crash, error, eat, shout, babble, lie, reach)
}
