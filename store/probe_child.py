"""The other side of the probe: a small process that forks one fenced child for each untrusted file.

Owns the fence: what a decoding child may use, reach and leave behind. Never looks into a file itself and never imports
the hub; the decoder is a module named on the command line with `decode(file, job) -> (facts, jpeg)` and `warm_up()`.

Linux only. The hub talks to it over one Unix socket: each message is a job with three descriptors (the file, where the
child answers, where this process says how the child ended). End of file on that socket means that the hub is gone.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from store.probe_wire import CRASHED, OUT_OF_MEMORY, Job, Refused

Decode = Callable[[BinaryIO, Job], tuple[dict[str, Any], bytes]]

MAX_DESCRIPTORS = 64
NOBODY = 65534
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000  # linux/sched.h
libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Raises OSError where the kernel refuses."""
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def leave_the_world() -> None:
    """Cut this process (and so every child) off from network, files and other processes, as far as it is permitted.

    Needs root or unprivileged user namespaces. Without either the limits of `fence` still hold: no descriptor can be
    opened, so neither file nor socket; but a child of the hub's own user could then send signals to the hub.
    """
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    apart = CLONE_NEWNET | CLONE_NEWPID
    if not libc.unshare(apart) or not libc.unshare(CLONE_NEWUSER | apart):
        become_first_process()
    with suppress(OSError):
        empty = tempfile.mkdtemp()
        os.chdir(empty)
        os.rmdir(empty)  # in a deleted folder nothing can be made either
        os.chroot(".")
    os.chdir("/")


def become_first_process() -> None:
    """Go on as process 1 of the new process namespace; the process that the hub started only waits for it.

    Nobody inside can see or signal anything outside, nor end process 1; when that ends, the kernel ends all others.
    """
    first = os.fork()
    if first:
        os.closerange(3, MAX_DESCRIPTORS)
        os.waitpid(first, 0)
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def fence(job: Job, keep: tuple[int, int]) -> None:
    """Take from this freshly forked child everything but the two descriptors in `keep` and the job's limits.

    Raises:
        OSError: a limit could not be set; nothing may be decoded then.
    """
    for stream in (1, 2):
        os.dup2(0, stream)  # 0 is /dev/null, open for writing too
    low, high = sorted(keep)
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, MAX_DESCRIPTORS)
    if os.geteuid() == 0:
        with suppress(OSError):  # a container's root may have nobody else to become
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    for what, limit in (
        (resource.RLIMIT_CPU, job.cpu_s),
        (resource.RLIMIT_AS, job.memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def answer(decode: Decode, job: Job, file: int, result: int) -> None:
    """Decode and write one line of JSON, then the JPEG."""
    poster = b""
    try:
        with os.fdopen(file, "rb", closefd=False) as source:
            facts, poster = decode(source, job)
        head: dict[str, Any] = {"facts": facts}
    except Refused as refused:
        head = {"code": refused.code, "detail": refused.detail}
    left = memoryview(json.dumps(head).encode() + b"\n" + poster)
    while left:
        left = left[os.write(result, left):]


def live_as_child(decode: Decode, job: Job, file: int, result: int, parent: int) -> NoReturn:
    """The whole life of one child; it ends here, without cleaning up what the parent owns."""
    status = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        fence(job, (file, result))
        if os.getppid() == parent:
            answer(decode, job, file, result)
            status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)


@dataclass(slots=True)
class Child:
    """One running child: `verdict` goes to the hub, `deadline` is monotonic seconds."""

    pid: int
    verdict: socket.socket
    deadline: float
    timed_out: bool = False

    def kill(self) -> None:
        """End its whole process group; safe until the child has been reaped."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class ForkServer:
    """Forks, watches and buries children until the hub hangs up."""

    def __init__(self, control: socket.socket, decode: Decode) -> None:
        self.control = control
        self.decode = decode
        self.children: dict[int, Child] = {}
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = socket.socketpair()
        for end in (self.woken, self.waker):
            end.setblocking(False)

    def run(self) -> None:
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select(self.patience()):
                if key.fileobj is self.control:
                    message, descriptors, _, _ = socket.recv_fds(self.control, 4096, 3)
                    if not message:
                        return self.end_all()
                    self.fork(Job(**json.loads(message)), *descriptors)
                elif key.fileobj is self.woken:
                    self.woken.recv(4096)
                elif key.data in self.children:  # the hub waits no longer for this one
                    self.selector.unregister(key.fileobj)
                    self.children[key.data].kill()
            self.end_late()
            self.bury()

    def patience(self) -> float | None:
        """Seconds until the next deadline, or None where there is none."""
        deadlines = [child.deadline for child in self.children.values() if not child.timed_out]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def fork(self, job: Job, file: int, result: int, verdict: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            live_as_child(self.decode, job, file, result, parent)
        with suppress(OSError):
            os.setpgid(pid, pid)  # here as well: it may be killed before it gets to run
        os.close(file)
        os.close(result)
        child = Child(pid, socket.socket(fileno=verdict), time.monotonic() + job.wall_s)
        child.verdict.setblocking(False)
        self.children[pid] = child
        self.selector.register(child.verdict, selectors.EVENT_READ, pid)

    def end_late(self) -> None:
        now = time.monotonic()
        for child in self.children.values():
            if child.deadline <= now and not child.timed_out:
                child.timed_out = True
                child.kill()

    def bury(self) -> None:
        """Reap who has ended, orphans included, and tell the hub how its children ended."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                child = self.children.pop(ended.si_pid, None)
                if child:
                    child.kill()  # what it left behind; its number is still its own
                _, status = os.waitpid(ended.si_pid, 0)
                if child:
                    self.report(child, os.waitstatus_to_exitcode(status))

    def report(self, child: Child, status: int) -> None:
        with suppress(OSError):
            child.verdict.send(json.dumps({"timed_out": child.timed_out, "status": status}).encode())
        with suppress(KeyError):
            self.selector.unregister(child.verdict)
        child.verdict.close()

    def end_all(self) -> None:
        signal.set_wakeup_fd(-1)  # who ends from now on wakes nobody
        for child in self.children.values():
            child.kill()


def main() -> None:
    """`python -m store.probe_child DESCRIPTOR MODULE`: serve the hub on that inherited socket."""
    given = int(sys.argv[1])
    control = socket.socket(fileno=os.dup(given))  # the lowest free number, among those that a child closes
    os.close(given)
    decoder = importlib.import_module(sys.argv[2])
    decoder.warm_up()
    leave_the_world()
    gc.freeze()
    with suppress(BrokenPipeError):  # the hub may have lost interest meanwhile
        control.send(b"ready")
        ForkServer(control, decoder.decode).run()


if __name__ == "__main__":
    main()
