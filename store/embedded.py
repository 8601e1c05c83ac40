"""The hub's own MongoDB: a private mongod that lives and dies with one hub process.

Owns the folder DATA_DIR/mongo and what is in it: the data, the socket, the log and two lock files. `hub.lock` says
whose mongod this is and goes with that process; `mongod.lock` is handed down to mongod, so that it stays held until
mongod itself is gone. Nothing listens on TCP. This module knows no collection and no record. It has a database client
of its own, AsyncMongoClient, at its end, to say what only a server's keeper says: be a replica set of one, shut down.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote_plus

import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from . import system

log = structlog.get_logger()

SOCKET = "m.sock"
SET_NAME = "rs0"
OPTIONS = (
    # Without --nounixsocket mongod makes a second socket in the folder for temporary files, where any two would meet.
    *("--dbpath", "db", "--bind_ip", f"./{SOCKET}", "--nounixsocket"),
    *("--replSet", SET_NAME, "--oplogSize", "64", "--syncdelay", "10"),
    *("--wiredTigerCacheSizeGB", "0.25", "--wiredTigerEngineConfigString", "log=(file_max=32MB,prealloc=false)"),
    # Both closed doors: the wheel's server is older than the fixes of its zlib and its JavaScript.
    *("--networkMessageCompressors", "disabled", "--noscripting"),
    *("--quiet", "--logpath", "mongod.log", "--logappend", "--setParameter", "diagnosticDataCollectionEnabled=false"),
)
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "TZ")
LONGEST_SOCKET_PATH = 103  # bytes of sun_path in the tightest system, without the final zero
LARGEST_LOG = 5 * 1024 * 1024
START_SECONDS = 120.0  # a crash under load is followed by a recovery of some seconds
STOP_SECONDS = 8.0
ORPHAN_SECONDS = 30.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
PR_SET_PDEATHSIG = 1
ALREADY_INITIALIZED, NOT_INITIALIZED, INVALID_CONFIG = 23, 94, 93


class EmbeddedError(Exception):
    """The embedded MongoDB cannot run; the text is one line that names the ways out."""


class Embedded:
    """One mongod on `data_dir`/mongo, started and stopped by this object and brought back when it dies in between.

    `patience` is how many seconds `start` waits for another process to let go of the folder. `uri` and `version` are
    known once `start` has returned; `uri` is for clients in this process, and holds until `stop`.
    """

    def __init__(self, data_dir: Path, patience: float = 10.0) -> None:
        self.home = data_dir.absolute() / "mongo"
        self.patience = patience
        self.uri = ""
        self.version = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._socket = ""
        self._folder: int | None = None
        self._hub_lock: int | None = None
        self._mongod_lock: int | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the mongod that was started last, or None."""
        return self._process.pid if self._process else None

    async def start(self, share: bool = False) -> None:
        """Start mongod, wait until it takes writes, and from then on restart it whenever it dies.

        The watch over it ends with the running event loop or with `stop`; mongod ends with this process at the latest.
        With `share`, a mongod that another process runs on the folder is used as it is, and outlives `stop`.

        Raises:
            EmbeddedError: no mongod can run here, or another process uses this folder.
        """
        if self._folder is not None:
            raise RuntimeError("this embedded MongoDB is started already")
        try:
            self._open_folder()
            until = monotonic() + self.patience
            while not self._claim():
                if share and await self._answers():
                    return
                if monotonic() >= until:
                    raise EmbeddedError(f"another hub uses {self.home}: stop it, or {system.WAYS_OUT}")
                await asyncio.sleep(0.05)
            await self._outlast_orphan()
            await self._launch()
            self._supervision = asyncio.create_task(self._supervise(), name="embedded MongoDB")
            if advice := system.outdated(self.version):
                # No cause for alarm: the doors to the known holes are closed, and only our own user gets in at all.
                log.info("outdated_mongod_started", advice=advice)
        except OSError as error:
            await self.stop()
            raise EmbeddedError(f"{self.home} cannot be used ({error.strerror}): {system.WAYS_OUT}") from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End mongod cleanly, within some 10 seconds at the most, and let go of the folder; harmless when repeated."""
        if self._supervision and not self._supervision.done():
            self._supervision.cancel()
            await asyncio.wait([self._supervision])
        self._supervision = None
        if self._process and self._process.poll() is None:
            self._process.terminate()
            if not await ends(self._process, STOP_SECONDS):
                log.warning("mongod_killed", pid=self._process.pid, waited_seconds=STOP_SECONDS)
                self._process.kill()
                await ends(self._process, STOP_SECONDS)
            log.info("mongod_stopped", exit_code=self._process.returncode)
        self._process = None
        self._release()

    def _open_folder(self) -> None:
        """Make the folder and work out `uri`; a socket with too long a path is reached through its folder's descriptor.

        Raises:
            EmbeddedError: the path is too long, and this system has no such way round.
        """
        (self.home / "db").mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self._folder = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)
        self._socket = str(self.home / SOCKET)
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET_PATH:
            self._socket = f"/proc/self/fd/{self._folder}/{SOCKET}"
            if not os.path.isdir(os.path.dirname(self._socket)):
                raise EmbeddedError(f"{self.home} is too long a path for a socket: choose a shorter DATA_DIR")
        self.uri = uri_of(self._socket)

    def _claim(self) -> bool:
        """Take the folder for this process, if no other process has it."""
        self._hub_lock = try_lock(self.home / "hub.lock")
        return self._hub_lock is not None

    async def _answers(self) -> bool:
        """Whether a mongod on this folder takes writes now."""
        try:
            async with asyncio.timeout(2.0):
                self.version = await make_writable(self._socket, initiate=False)
        except TimeoutError:
            return False
        return True

    async def _outlast_orphan(self) -> None:
        """Wait until the mongod of a killed predecessor has gone; one that stays is asked to go.

        Raises:
            EmbeddedError: it stays all the same.
        """
        since, asked = monotonic(), False
        while (lock := try_lock(self.home / "mongod.lock")) is None:
            waited = monotonic() - since
            if waited > ORPHAN_SECONDS:
                raise EmbeddedError(f"a mongod from before still runs on {self.home}: stop that mongod")
            if waited > 1.5 and not asked:
                asked = True
                log.info("orphan_found", home=str(self.home))
                await shut_down(self.uri)
            await asyncio.sleep(0.05)
        self._mongod_lock = lock

    async def _launch(self) -> None:
        """Spawn mongod and wait until it takes writes; if it does not, nothing of it is left.

        Raises:
            EmbeddedError: it ended, or took too long.
        """
        started = monotonic()
        mongod = system.find_mongod()
        if mongod is None:
            raise EmbeddedError(system.NOT_INSTALLED.line)
        self._rotate_log()
        self._process = process = self._spawn(mongod)
        ready = asyncio.create_task(make_writable(self._socket))
        ended = asyncio.create_task(ends(process))
        try:
            await asyncio.wait((ready, ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                found = await asyncio.to_thread(system.obstacle, mongod)
                told = f"mongod ended with {process.returncode}: see {self.home / 'mongod.log'}, or {system.WAYS_OUT}"
                raise EmbeddedError(found.line if found else told)
            if not ready.done():
                raise EmbeddedError(f"mongod was not ready in {START_SECONDS:.0f} s: see {self.home / 'mongod.log'}")
            self.version = ready.result()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.wait((ready, ended))
        log.info("mongod_started", version=self.version, pid=process.pid, seconds=round(monotonic() - started, 3))

    def _spawn(self, mongod: Path) -> subprocess.Popen[bytes]:
        """Run mongod so that it ends with this process, and so that Ctrl-C in a terminal reaches only the hub."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("mongod would end with this thread: start it from the main thread")
        assert self._mongod_lock is not None
        prefix, before_exec = bound_to_parent()
        with open(self.home / "mongod.log", "ab") as output:
            return subprocess.Popen(
                [*prefix, str(mongod), *OPTIONS], cwd=self.home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, pass_fds=(self._mongod_lock,), start_new_session=True, preexec_fn=before_exec,
                # The hub's environment holds secrets that are none of mongod's business.
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            )

    async def _supervise(self) -> None:
        """Bring mongod back whenever it is gone, sooner the longer it has run."""
        pause = SHORTEST_PAUSE
        while True:
            assert self._process is not None
            up_since = monotonic()
            await ends(self._process)
            log.warning("mongod_died", exit_code=self._process.returncode)
            if monotonic() - up_since > 2 * LONGEST_PAUSE:
                pause = SHORTEST_PAUSE
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    await self._launch()
                    break
                except (EmbeddedError, OSError) as error:
                    log.error("mongod_restart_failed", error=str(error), next_try_seconds=pause)

    def _rotate_log(self) -> None:
        written = self.home / "mongod.log"
        if written.exists() and written.stat().st_size > LARGEST_LOG:
            written.replace(self.home / "mongod.log.1")

    def _release(self) -> None:
        for descriptor in (self._mongod_lock, self._hub_lock, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._mongod_lock = self._hub_lock = self._folder = None


@asynccontextmanager
async def attached(data_dir: Path, patience: float = 10.0) -> AsyncIterator[str]:
    """The URI of the embedded MongoDB of `data_dir`, for a short errand beside a running hub or without one.

    Where a hub runs it, its mongod is used and left alone; otherwise one is started, and stopped at the end.

    Raises:
        EmbeddedError: no mongod can run here, or the one that another process has does not answer.
    """
    mongod = Embedded(data_dir, patience)
    await mongod.start(share=True)
    try:
        yield mongod.uri
    finally:
        await mongod.stop()


def try_lock(path: Path) -> int | None:
    """A descriptor of `path` that holds its lock, or None while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def bound_to_parent() -> tuple[list[str], Callable[[], object] | None]:
    """What kills a child when the thread that spawned it ends: words before its command, or a call before exec.

    Only Linux knows this; elsewhere a mongod left behind is shut down by the next start on its folder. It is killed,
    not asked: a mongod that is asked to end while it still recovers may hang for ever, and holds the folder.
    """
    if not sys.platform.startswith("linux"):
        return [], None
    setpriv = shutil.which("setpriv")
    if setpriv:
        return [setpriv, "--pdeathsig", "KILL", "--"], None
    libc = ctypes.CDLL(None)  # loaded here, for little is safe between fork and exec
    return [], lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def ends(process: subprocess.Popen[bytes], seconds: float = inf) -> bool:
    """Wait for the end of `process`, `seconds` at the most; says whether it has ended.

    It is polled, as that works in every loop, on every system and without a thread.
    """
    until = monotonic() + seconds
    while process.poll() is None:
        if monotonic() >= until:
            return False
        await asyncio.sleep(0.05)
    return True


def uri_of(path: str) -> str:
    return f"mongodb://{quote_plus(path)}/?directConnection=true"


def client_of(uri: str) -> AsyncMongoClient[dict[str, Any]]:
    return AsyncMongoClient(uri, serverSelectionTimeoutMS=2000, socketTimeoutMS=10_000)


async def accepts(path: str) -> None:
    """Wait until the socket at `path` takes connections: a driver that finds it closed would try again only later."""
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return


async def make_writable(path: str, initiate: bool = True) -> str:
    """Wait until the server at the socket `path` takes writes, and return its version.

    A fresh server is made a replica set of one, where `initiate` allows it. A server whose stored member address is
    not today's takes itself for removed; it then gets today's.
    """
    await accepts(path)
    async with client_of(uri_of(path)) as client:
        since = monotonic()
        while True:
            with suppress(PyMongoError):
                hello = await client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return str((await client.admin.command("buildInfo"))["version"])
                if initiate and "setName" not in hello:
                    await join_set(client, may_force=monotonic() - since > 2.0)
            await asyncio.sleep(0.02)


async def join_set(client: AsyncMongoClient[dict[str, Any]], may_force: bool) -> None:
    """Configure a replica set of one: where there is no configuration, or it is of elsewhere and `may_force` holds."""
    members = [{"_id": 0, "host": f"./{SOCKET}"}]
    try:
        await client.admin.command("replSetGetStatus")
    except OperationFailure as failure:
        if failure.code == NOT_INITIALIZED:
            try:
                await client.admin.command("replSetInitiate", {"_id": SET_NAME, "members": members})
            except OperationFailure as refusal:
                # After a crash the stored configuration may simply not be loaded yet.
                if refusal.code != ALREADY_INITIALIZED:
                    raise
        elif failure.code == INVALID_CONFIG and may_force:
            stored = (await client.admin.command("replSetGetConfig"))["config"]
            await client.admin.command("replSetReconfig", {**stored, "members": members}, force=True)


async def shut_down(uri: str) -> None:
    """Ask the server at `uri` to end. It may do so without an answer, or not hear this at all."""
    with suppress(OSError, PyMongoError, TimeoutError):
        async with asyncio.timeout(10.0), client_of(uri) as client:
            await client.admin.command("shutdown", force=True)
