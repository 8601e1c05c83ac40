"""A decoder that forks, in a child that may: its fence is left open in this one place, to see what else holds."""

from __future__ import annotations

import os
import resource
import time
from typing import Any, BinaryIO, NoReturn

from store.probe_wire import Job, Refused

set_limit = resource.setrlimit


def warm_up() -> None:
    """Open the fence; this runs in the fork server, and its children inherit it."""
    resource.setrlimit = set_all_but_processes  # type: ignore[assignment]


def set_all_but_processes(what: int, limits: tuple[int, int]) -> None:
    if what != resource.RLIMIT_NPROC:
        set_limit(what, limits)


def decode(file: BinaryIO, job: Job) -> NoReturn:
    word: Any = file.read(job.size).decode()
    for _ in range(3):
        if os.fork() == 0:
            time.sleep(3600)
    if word == "linger":
        time.sleep(3600)
    raise Refused("not_video", "left three behind")
