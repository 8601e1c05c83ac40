"""Task functions for the tests; they run in processes of their own, so they stand in a module."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from worker.job import Job, Stats
from worker.previews import Kind

KINDS: tuple[Kind, ...] = ("original", "mask", "composite")


def copy(job: Job) -> Stats:
    """The result is the video and what came with it."""
    names = sorted(job.inputs)
    job.report("segment", 50.0, 1, "half")
    job.output.write_bytes(b"|".join(job.inputs[name].read_bytes() for name in names))
    job.report("encode", 100.0, 2)
    return {"frames": 2, "seconds": 0.5, "nonsense": float("nan")}


def spin(job: Job) -> Stats:
    """Uses all it can get of one processor, until it is cancelled."""
    job.report("segment", 1.0)
    while not job.cancelled:
        sum(range(10_000))
    Path(job.options["mark"]).write_text("stopped")
    return None


def deaf(job: Job) -> Stats:
    """Never asks whether it was cancelled."""
    job.report("segment", 1.0, message=str(os.getpid()))
    while True:
        sum(range(10_000))


def gate(job: Job) -> Stats:
    """Waits for a line in a named pipe, so that a test decides when the work is done."""
    job.report("segment", 10.0)
    with open(job.options["gate"]) as pipe:
        pipe.readline()
    return copy(job)


def crash(job: Job) -> Stats:
    """Ends like a model with a bug in its native code, once."""
    if job.options.get("crash", True):
        os.kill(os.getpid(), signal.SIGSEGV)
    return copy(job)


def refuse(job: Job) -> Stats:
    """Blames the input."""
    raise job.BadInput("not_video", "no pictures in it")


def break_down(job: Job) -> Stats:
    """Has a bug."""
    raise ZeroDivisionError("a bug")


def forget(job: Job) -> Stats:
    """Writes no result."""
    return None


def chatter(job: Job) -> Stats:
    """Reports far more often than anybody wants to know."""
    for _ in job.progress(range(2000), phase="segment"):
        pass
    for _ in job.progress(range(2000), phase="encode"):
        pass
    return copy(job)


def pid(job: Job) -> Stats:
    """The result is the number of the process."""
    job.output.write_text(str(os.getpid()))
    return None


def show(job: Job) -> Stats:
    """Shows one set of pictures once somebody looks, and as many as it can when nobody does any more."""
    grey = np.full((90, 160), 128, np.uint8)
    while not job.watched and not job.cancelled:
        time.sleep(0.01)  # a process of its own: there is nothing to wait on but the flag
    for kind in KINDS:
        job.preview(kind, grey, 7)
    job.report("segment", 50.0)
    while job.previews.wanted.is_set() and not job.cancelled:
        time.sleep(0.01)
    for frame in range(100):
        for kind in KINDS:
            job.preview(kind, grey, frame)
    return copy(job)


def numpy_numbers(job: Job) -> Stats:
    """Counts with numpy, shows such a frame once somebody looks, and returns words among its numbers."""
    while not job.watched and not job.cancelled:
        time.sleep(0.01)
    job.preview("mask", np.zeros((8, 8), np.uint8), np.int64(7))
    job.report("segment", np.float32(50.0), np.int64(3))
    job.output.write_bytes(b"counted")
    return {"frames": np.int64(2), "model": "v2", "none": None}  # type: ignore[dict-item]


def list_of_numbers(job: Job) -> Stats:
    """Returns something else than numbers by name."""
    job.output.write_bytes(b"counted")
    return [1.0, 2.0]  # type: ignore[return-value]


def refuse_with_objects(job: Job) -> Stats:
    """Blames the input with the exception that it made, and no code."""
    raise job.BadInput("", FileNotFoundError("nothing there"))


def helpers(job: Job) -> Stats:
    """Starts another program and a fork, and asks both to end; the result says how they did."""
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    fork.terminate()
    fork.join()
    job.output.write_text(f"{program.wait()} {fork.exitcode}")
    return None


def layers(job: Job) -> Stats:
    """Delivers all that there can be, or what the options name."""
    job.output.write_bytes(b"all of it")
    for name in job.options.get("more", ["mask", "foreground"]):
        getattr(job, name).write_bytes(name.encode())
    return {"frames": 3}


def unseen(job: Job) -> Stats:
    """Would fail if anybody made a picture of what it shows."""
    for frame in range(100):
        assert not job.watched
        for kind in KINDS:
            job.preview(kind, b"x" * 10_000_000, frame)
    return copy(job)
