"""Looks into files that strangers sent, from a safe distance: keeps the `Probe` promise of hub/ports.

Owns the process that forks decoding children, and the checks on what they answer. Never decodes anything itself: not a
byte of an uploaded file is read in the hub's process, and FFmpeg is not even loaded there. The codes of a refusal are
listed in store/probe_wire.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import re
import signal
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import msgspec

from hub.errors import MediaRefused, Unavailable
from hub.media import WORKER_PURPOSES, Facts, Previews, Purpose
from store.probe_wire import MAX_ANSWER, OUT_OF_MEMORY, REFUSALS, Job

ROOT = Path(__file__).resolve().parent.parent
GRACE_S = 10.0  # how much longer than a child's own deadline the hub waits before it replaces the whole fork server
START_S = 30.0
MIB = 1 << 20
KEPT_ENVIRONMENT = {  # what an interpreter may need to start, and none of the hub's secrets
    name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LC_ALL", "LANG") if name in os.environ
}


class Verdict(msgspec.Struct):
    """How a child ended: `status` is its exit status, or minus the signal that ended it."""

    timed_out: bool
    status: int


class Answer(msgspec.Struct):
    """What a child says: facts and how long the pictures are that follow, or why not."""

    facts: Facts | None = None
    sizes: list[int] = []
    code: str = ""
    detail: str = ""


class ServerGone(Exception):
    """The fork server died; the probe can be asked again."""


class ForkServer:
    """The process that forks; `control` is its socket."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.control = control

    @classmethod
    async def start(cls, decoder: str) -> ForkServer:
        """Raises Unavailable where it does not come up (its own complaint is on stderr)."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            control.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-E", "-s", "-m", "store.probe_child", str(theirs.fileno()), decoder,
                cwd=ROOT,
                env=KEPT_ENVIRONMENT | {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        server = cls(process, control)
        try:
            async with asyncio.timeout(START_S):
                if await receive(control, 16) == b"ready":
                    return server
        except TimeoutError:
            server.kill()
        except asyncio.CancelledError:
            control.close()
            raise
        await server.stop()
        raise Unavailable("the process that looks into uploads does not start")

    def send(self, job: Job, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self.control, [json.dumps(asdict(job)).encode()], descriptors)
        except OSError:
            raise ServerGone from None

    async def stop(self) -> None:
        """Hang up; it kills its children and leaves. Where it does not leave it is killed, and they die with it."""
        self.control.close()
        try:
            async with asyncio.timeout(2):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # process.kill() may reap it before asyncio does


class Probe:
    """Facts and previews of an untrusted file, found out in a child that can reach nothing but that file.

    Args:
        max_pixels: width x height of a video picture; compared before decoding.
        max_picture_pixels: the same for still pictures.
        max_frames: pictures in one video.
        timeout_s: wall clock seconds for one file.
        result_s_per_mib: seconds on top for each MiB of a worker's file, whose every frame is decoded.
        memory: bytes of address space for one child.
        concurrent: how many children at once.
        decoder: module with `decode(file, job)` and `warm_up()`; it runs only in the child.
    """

    def __init__(
        self,
        *,
        max_pixels: int = 8192 * 4320,
        max_picture_pixels: int = 64_000_000,
        max_frames: int = 1_000_000,
        timeout_s: float = 30.0,
        result_s_per_mib: float = 4.0,
        memory: int = 2 << 30,
        concurrent: int = 2,
        decoder: str = "store.probe_decode",
    ) -> None:
        self.max_pixels = max_pixels
        self.max_picture_pixels = max_picture_pixels
        self.max_frames = max_frames
        self.timeout_s = timeout_s
        self.result_s_per_mib = result_s_per_mib
        self.memory = memory
        self.decoder = decoder
        self.turns = asyncio.Semaphore(concurrent)
        self.server: asyncio.Task[ForkServer] | None = None  # a task: who asked first may be cancelled, others wait too
        self.stopped = False

    async def start(self) -> None:
        """Start the fork server; without this the first probe does it.

        Raises:
            Unavailable: it does not come up.
        """
        self.stopped = False
        await self.running()

    async def stop(self) -> None:
        """End the fork server and every child; probes under way raise Unavailable. Stopping twice is harmless."""
        self.stopped = True
        starting, self.server = self.server, None
        if starting:
            with suppress(Unavailable):
                await (await starting).stop()

    async def __call__(self, path: Path, purpose: Purpose) -> tuple[Facts, Previews]:
        """The facts, a poster, and of users' films a strip.

        Raises:
            MediaRefused: with a code out of REFUSALS.
            FileNotFoundError: there is no such file.
            Unavailable: the probe was stopped meanwhile.
        """
        async with self.turns:
            file, size = open_plain(path)
            try:
                job = self.job(purpose, size)
                for _ in range(2):
                    server = await self.running()
                    try:
                        return conclude(*await self.ask(server, job, file))
                    except ServerGone:
                        await self.drop(server)
                raise refusal("probe_crashed")
            finally:
                os.close(file)

    def job(self, purpose: Purpose, size: int) -> Job:
        results = purpose in WORKER_PURPOSES
        wall_s = self.timeout_s + (self.result_s_per_mib * size / MIB if results else 0.0)
        return Job(
            purpose=purpose.value,
            size=size,
            every_frame=results,
            max_pixels=self.max_picture_pixels if purpose is Purpose.BACKGROUND else self.max_pixels,
            max_frames=self.max_frames,
            wall_s=wall_s,
            cpu_s=math.ceil(wall_s) + 1,
            memory=self.memory,
        )

    async def running(self) -> ForkServer:
        if self.stopped:
            raise Unavailable("the hub is stopping")
        starting = self.server = self.server or asyncio.create_task(ForkServer.start(self.decoder))
        try:
            return await asyncio.shield(starting)
        except Unavailable:
            if self.server is starting:
                self.server = None
            raise

    async def drop(self, server: ForkServer) -> None:
        """Make sure that this fork server is gone, so that the next probe starts another."""
        if self.server and self.server.done() and self.server.result() is server:
            self.server = None
        server.kill()
        await server.stop()

    async def ask(self, server: ForkServer, job: Job, file: int) -> tuple[Verdict, bytes]:
        """How the child ended, and what it wrote until then.

        Raises:
            ServerGone: the fork server died on the way.
            MediaRefused: nothing came back in time, not even from the fork server.
        """
        answers, child_answers = socket.socketpair()
        verdicts, server_verdicts = socket.socketpair()
        with answers, verdicts:
            with child_answers, server_verdicts:
                answers.setblocking(False)
                verdicts.setblocking(False)
                server.send(job, [file, child_answers.fileno(), server_verdicts.fileno()])
            try:
                async with asyncio.timeout(job.wall_s + GRACE_S):
                    answer = await receive(answers, MAX_ANSWER)
                    if len(answer) == MAX_ANSWER:
                        verdicts.shutdown(socket.SHUT_WR)  # hang up: the fork server ends the child now
                    verdict = await receive(verdicts, 256)
            except TimeoutError:
                await self.drop(server)
                raise refusal("probe_timeout") from None
        if not verdict:
            raise ServerGone
        return msgspec.json.decode(verdict, type=Verdict), answer


def open_plain(path: Path) -> tuple[int, int]:
    """A descriptor and the size in bytes; only of a real file, never through a link.

    Raises:
        MediaRefused: something else than a file.
        FileNotFoundError: nothing there.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refusal("not_video") from None
        raise
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode):
        os.close(file)
        raise refusal("not_video")
    return file, facts.st_size


async def receive(end: socket.socket, limit: int) -> bytes:
    """Everything up to the end, but at most `limit` bytes; one message from a message socket."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    try:
        while len(data) < limit:
            piece = await loop.sock_recv(end, min(limit - len(data), 1 << 16))
            data += piece
            if not piece or end.type == socket.SOCK_SEQPACKET:
                break
    except ConnectionError:
        pass
    return bytes(data)


def conclude(verdict: Verdict, raw: bytes) -> tuple[Facts, Previews]:
    """What the hub believes of a child's answer; everything in it is checked, for the child may have been taken over.

    Raises:
        MediaRefused: the child says so, or it ended badly, or its answer makes no sense.
    """
    if verdict.timed_out or verdict.status == -signal.SIGXCPU:
        raise refusal("probe_timeout")
    if verdict.status == OUT_OF_MEMORY:
        raise refusal("probe_memory")
    if verdict.status != 0:
        raise refusal("probe_crashed")
    head, _, pictures = raw.partition(b"\n")
    try:
        answer = msgspec.json.decode(head, type=Answer)
    except (msgspec.DecodeError, UnicodeError):
        raise refusal("probe_crashed") from None
    if answer.code in REFUSALS:
        raise refusal(answer.code, answer.detail[:300])
    if answer.facts is None or not plausible(answer.facts):
        raise refusal("probe_crashed")
    return answer.facts, previews(answer.sizes, pictures)


def previews(sizes: list[int], pictures: bytes) -> Previews:
    """The poster, and perhaps the strip, out of what a child sent.

    Raises:
        MediaRefused: these are not one or two JPEGs of these sizes.
    """
    if len(sizes) not in (1, 2) or min(sizes) < 0 or sum(sizes) != len(pictures):
        raise refusal("probe_crashed")
    found = [pictures[:sizes[0]], pictures[sizes[0]:]][:len(sizes)]
    if not all(each.startswith(b"\xff\xd8\xff") and each.endswith(b"\xff\xd9") for each in found):
        raise refusal("probe_crashed")
    return Previews(*found)


def plausible(facts: Facts) -> bool:
    """Whether every number is finite and in its range, and every name is one."""
    names = (facts.codec, facts.pixel_format, facts.container, facts.audio_codec or "none")
    if not all(re.fullmatch(r"[a-z0-9_.-]{1,40}", name) for name in names):
        return False
    if not re.fullmatch(r"[0-9]{1,9}/[1-9][0-9]{0,8}", facts.fps) or Fraction(facts.fps) > 1000:
        return False
    return (
        0 < facts.width <= 1 << 20
        and 0 < facts.height <= 1 << 20
        and 0 < facts.frames <= 1 << 40
        and math.isfinite(facts.duration)
        and 0 <= facts.duration < 1e7
        and facts.rotation in (0, 90, 180, 270)
    )


def refusal(code: str, detail: str = "") -> MediaRefused:
    return MediaRefused(detail or REFUSALS[code], code=code)
