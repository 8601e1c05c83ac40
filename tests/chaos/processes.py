"""Real processes that are started, killed, stopped and started again, as a machine with a supervisor does it.

Owns signals, restarts and the search for what was left behind. Knows nothing of what the processes do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from store.embedded import bound_to_parent

ROOT = Path(__file__).parents[2]
PR_SET_CHILD_SUBREAPER = 36
GOODBYE_S = 30.0
LAST_MOMENT_S = 15.0  # in which what was orphaned must have ended


class Supervised:
    """One process that comes back whenever it ends, after `rest` seconds; what it says goes to `log`.

    An end that nobody wanted is one of the `surprises`, unless the last words were an `excuse`.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, excuse: str = "",
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = log
        self.excuse = excuse
        self.process: asyncio.subprocess.Process | None = None
        self.rest = 0.0
        self.killed = False
        self.stopping = False
        self.surprises: list[str] = []
        self.watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id, or 0 while there is none."""
        return self.process.pid if self.process is not None and self.process.returncode is None else 0

    async def start(self) -> None:
        await self.spawn()
        self.watch = asyncio.create_task(self.supervise())

    async def spawn(self) -> None:
        prefix, before_exec = bound_to_parent()
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *prefix, *self.command, cwd=ROOT, env={**os.environ, **self.environment}, stdout=log, stderr=log,
                stdin=asyncio.subprocess.DEVNULL, preexec_fn=before_exec,
            )

    async def supervise(self) -> None:
        while True:
            assert self.process is not None
            code = await self.process.wait()
            if self.stopping:
                return
            words = self.log.read_text(errors="replace").rstrip().rpartition("\n")[2]
            if not self.killed and not (self.excuse and self.excuse in words):
                self.surprises.append(f"{self.name} ended by itself with {code}: {words[:500]}")
            self.killed = False
            await asyncio.sleep(self.rest)
            await self.spawn()

    def kill(self, rest: float) -> bool:
        """kill -9; it comes back after `rest` seconds. False when there is nothing to kill."""
        if not self.pid:
            return False
        self.killed, self.rest = True, rest
        return send(self.pid, signal.SIGKILL)

    async def stop(self) -> list[str]:
        """End it properly; what was wrong about that."""
        self.stopping = True
        if self.watch is None or self.process is None:
            return []
        if self.pid:
            send(self.pid, signal.SIGTERM)
        else:
            self.watch.cancel()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await asyncio.gather(self.watch, return_exceptions=True)
        except TimeoutError:
            send(self.process.pid, signal.SIGKILL)
            await self.process.wait()
            return [f"{self.name} did not end within {GOODBYE_S:.0f} s of SIGTERM"]
        return []

    def child(self, words: str) -> int:
        """The id of a child process whose command line has these words, or 0."""
        return next((pid for pid, _, command in children(self.pid) if words in command), 0) if self.pid else 0


def send(pid: int, number: int) -> bool:
    """Send a signal; whether anybody was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def children(parent: int) -> Iterator[tuple[int, str, str]]:
    """The child processes of `parent`: id, state (as in proc(5)) and command line."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of = stat.read_text().rpartition(")")[2].split()[:2]
            command = (stat.parent / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        except OSError:
            continue  # it has ended while we looked
        if int(of) == parent:
            yield int(stat.parent.name), state, command


def adopt_orphans() -> None:
    """Become the parent of every process whose own parent ends: so whatever is left behind can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def left_behind() -> list[str]:
    """The processes that should have ended by now and have not, in words; they are ended."""
    for _ in range(int(LAST_MOMENT_S / 0.1)):
        alive = []
        for pid, state, command in list(children(os.getpid())):
            if state == "Z":
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                alive.append((pid, command))
        if not alive:
            return []
        await asyncio.sleep(0.1)  # other processes: there is nothing to wait on but their end
    for pid, _ in alive:
        send(pid, signal.SIGKILL)
    return [f"left behind: {command or '?'} ({pid})" for pid, command in alive]
