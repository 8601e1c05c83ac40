"""A decoder that does what a taken-over one would; the probe's tests put it into the child in place of the real one.

What it does is the first word of the file.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from store.probe_wire import Job, Refused

GOOD_JPEG = b"\xff\xd8\xff\xd9"


def decode(file: BinaryIO, job: Job) -> tuple[dict[str, Any], list[bytes]]:
    word, _, rest = file.read(job.size).decode().partition(" ")
    result: tuple[dict[str, Any], list[bytes]] = DEEDS[word](rest)
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


def limits(_: str) -> NoReturn:
    """Say what the kernel allows; the refusal's detail is JSON."""
    names = ("AS", "CPU", "FSIZE", "NPROC", "NOFILE", "CORE")
    found = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}
    raise Refused("not_video", json.dumps(found))


def fork(_: str) -> NoReturn:
    """A fork bomb; the refusal's detail says how far it came."""
    made = 0
    for _number in range(100):
        try:
            if os.fork() == 0:
                time.sleep(3600)
            made += 1
        except OSError:
            pass
    raise Refused("not_video", f"{made} forks")


def lie(rest: str) -> tuple[dict[str, Any], list[bytes]]:
    """Facts as the test wrote them down."""
    facts, poster = json.loads(rest)
    return facts, [GOOD_JPEG if poster else b"<script>"]


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
        "end the parent": lambda: end(parent),
        "become root": lambda: os.setuid(0),
        "raise a limit": raise_limit,
        "hold other descriptors": more_than_two_descriptors,
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


def end(parent: int) -> None:
    """Raises OSError where it lives on."""
    os.kill(parent, signal.SIGKILL)
    time.sleep(0.05)
    if os.getppid() == parent:
        raise OSError("it is still there")


def fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)


def more_than_two_descriptors() -> None:
    """Raises ValueError where there are but the file and the way to answer."""
    found = 0
    for descriptor in range(3, 4096):
        try:
            os.fstat(descriptor)
            found += 1
        except OSError:
            pass
    if found <= 2:
        raise ValueError("no others")


def raise_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


DEEDS: dict[str, Callable[[str], Any]] = {
    deed.__name__: deed for deed in (sleep, spin, stop, crash, error, eat, shout, babble, limits, fork, lie, reach)
}
