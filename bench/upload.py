"""How fast the hub takes files in, next to nginx (PUT with dav) and @tus/server, turn by turn; and what a ping meets.

A result is sent in one request of tus (creation with upload), as workers do. The hub is measured as it really works:
hashed with SHA-256 and on the disk (fdatasync) before it answers. The peers do neither, so there are hubs beside it
that leave out the hashing, the syncing, or both, in this benchmark only. `hub_video` is the hub as users meet it: the
same bytes as a video, which is hashed with MD5 as well and looked into before it is answered. `hub_cached` writes
through the page cache, as on a file system that knows no other way.

    python -m bench.upload [--quick] [--rounds N] [--many]

--many sends fifty videos of 200 MB at once, and counts those that arrive whole.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from .peers import servers
from .stage import CLIP, BenchWorker, Stage, a_hub, family_cpu_seconds, load, say_result
from .traffic import Numbers, Sending, idle_ping, send_all, watching

MIB = 1024 * 1024
LIMIT_S = 400.0  # no new round begins after this
TAIL = 16
HUBS: dict[str, tuple[str, ...]] = {
    "hub": ("hub", "run"), "hub_video": ("hub", "run"), "hub_cached": ("bench.without", "direct"),
    "hub_unhashed": ("bench.without", "hashing"), "hub_unsynced": ("bench.without", "syncing"),
    "hub_unhashed_unsynced": ("bench.without", "hashing", "syncing"),
}
PROMISES = {  # what has been done when the last byte is answered
    "hub": "hashed, on the disk", "hub_video": "hashed twice, on the disk, looked into",
    "hub_cached": "hashed, on the disk", "hub_unhashed": "on the disk", "hub_unsynced": "hashed",
    "hub_unhashed_unsynced": "", "nginx": "", "tus_server": "",
}


@dataclass(frozen=True, slots=True)
class Payload:
    """A file in memory whose bytes are sent again and again, and the hash of it all; with a tail it is a video."""

    path: str
    size: int
    running: Any  # hashlib's, of all the bytes

    def hash_with(self, tail: bytes) -> str:
        whole = self.running.copy()
        whole.update(tail)
        return str(whole.hexdigest())


@asynccontextmanager
async def payload_of(size: int) -> AsyncIterator[Payload]:
    """A short film and then random bytes that belong to no picture, `size` in all."""
    clip = CLIP.read_bytes()
    begin = clip + (size - len(clip) + TAIL).to_bytes(4) + b"free"
    memory = Path("/dev/shm")
    with tempfile.NamedTemporaryFile(dir=memory if memory.is_dir() else None, prefix="bench-") as file:
        running = hashlib.sha256(begin)
        file.write(begin)
        for at in range(len(begin), size, MIB):
            piece = os.urandom(min(MIB, size - at))
            running.update(piece)
            file.write(piece)
        file.flush()
        yield Payload(file.name, size, running)


class Target:
    """One server that is measured."""

    watched: Stage | None = None

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.numbers = Numbers()

    async def prepared(self, payload: Payload, tails: Sequence[bytes]) -> list[Sending]:
        raise NotImplementedError

    async def settled(self, answers: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The answers when everything is done that the server does with a file."""
        return answers

    def check(self, answers: list[tuple[int, bytes]], payload: Payload, tails: Sequence[bytes]) -> None:
        """Raises RuntimeError where a file has not arrived as it was sent."""
        bad = [(status, body[:300]) for status, body in answers if status not in (200, 201, 204)]
        if bad:
            raise RuntimeError(f"{self.name}: {bad[0]}")

    def clean(self) -> None:
        """Remove what has arrived."""


class HubTarget(Target):
    """A hub, and a worker whose lease opens the way for results."""

    def __init__(self, name: str, stage: Stage, worker: BenchWorker) -> None:
        super().__init__(name, stage.pid)
        self.watched = stage
        self.stage = stage
        self.worker = worker

    async def prepared(self, payload: Payload, tails: Sequence[bytes]) -> list[Sending]:
        self.stage.call("POST", "/api/tasks", {"video_id": self.stage.video_id, "model": "noop"})
        _, self.assign = await self.worker.assigned.get()
        size = payload.size + TAIL
        head = (
            f"POST {self.assign.upload_url} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
            f"Upload-Length: {size}\r\nUpload-Metadata: purpose {b64encode(b'result').decode()}\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {size}\r\n\r\n"
        )
        return [Sending(self.stage.port, head.encode(), payload.path, payload.size, tail) for tail in tails]

    async def settled(self, answers: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """A hub that hashes for longer than ten seconds answers before."""
        found = []
        for status, body in answers:
            while status == 201 and "sha256" not in (upload := json.loads(body)):
                query = self.assign.upload_url.partition("?")[2]
                told = await asyncio.to_thread(self.stage.call, "GET", f"/api/uploads/{upload['id']}?{query}")
                body = json.dumps(told).encode()
            found.append((status, body))
        return found

    def check(self, answers: list[tuple[int, bytes]], payload: Payload, tails: Sequence[bytes]) -> None:
        super().check(answers, payload, tails)
        if "unhashed" not in self.name and whole(answers, payload, tails) != len(tails):
            raise RuntimeError(f"{self.name}: a file arrived changed")

    def clean(self) -> None:
        self.worker.end(self.assign)
        for kept in (self.stage.folder / "output" / "results").iterdir():
            shutil.rmtree(kept)


class VideoTarget(Target):
    """A hub, and a user's videos."""

    def __init__(self, name: str, stage: Stage) -> None:
        super().__init__(name, stage.pid)
        self.watched = self.stage = stage

    async def prepared(self, payload: Payload, tails: Sequence[bytes]) -> list[Sending]:
        return video_sendings(self.stage, payload, tails)

    def check(self, answers: list[tuple[int, bytes]], payload: Payload, tails: Sequence[bytes]) -> None:
        super().check(answers, payload, tails)
        if whole(answers, payload, tails) != len(tails):
            raise RuntimeError(f"{self.name}: a file arrived changed")

    def clean(self) -> None:
        for video in self.stage.call("GET", "/api/videos")["items"]:
            if video["id"] != self.stage.video_id:
                self.stage.call("DELETE", f"/api/videos/{video['id']}")


def video_sendings(stage: Stage, payload: Payload, tails: Sequence[bytes]) -> list[Sending]:
    head = (
        f"POST /api/videos?name=v.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stage.token}\r\n"
        f"Content-Type: video/mp4\r\nContent-Length: {payload.size + TAIL}\r\n\r\n"
    )
    return [Sending(stage.port, head.encode(), payload.path, payload.size, tail) for tail in tails]


def whole(answers: list[tuple[int, bytes]], payload: Payload, tails: Sequence[bytes]) -> int:
    """How many files are there as they were sent."""
    return sum(
        status == 201 and json.loads(body)["sha256"] == payload.hash_with(tail)
        for (status, body), tail in zip(answers, tails, strict=True)
    )


class PeerTarget(Target):
    def __init__(self, name: str, server: servers.Server, head: Callable[[int, int], str]) -> None:
        super().__init__(name, server.pid)
        self.server = server
        self.head = head

    async def prepared(self, payload: Payload, tails: Sequence[bytes]) -> list[Sending]:
        size = payload.size + TAIL
        return [
            Sending(self.server.port, self.head(number, size).encode(), payload.path, payload.size, tail)
            for number, tail in enumerate(tails)
        ]

    def check(self, answers: list[tuple[int, bytes]], payload: Payload, tails: Sequence[bytes]) -> None:
        super().check(answers, payload, tails)
        sizes = sorted(path.stat().st_size for path in self.server.files.iterdir())[-len(tails):]
        if sizes != [payload.size + TAIL] * len(tails):
            raise RuntimeError(f"{self.name} has files of {sizes} bytes")

    def clean(self) -> None:
        for path in self.server.files.iterdir():
            path.unlink()


def put(number: int, size: int) -> str:
    return f"PUT /f{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"


def create(number: int, size: int) -> str:
    return (
        f"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\nUpload-Length: {size}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {size}\r\n\r\n"
    )


PEERS = [("nginx", servers.nginx, put), ("tus_server", servers.tus_server, create)]


@dataclass(slots=True)
class Field:
    """All that take part, and why some do not."""

    targets: list[Target] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def all_targets(wanted: Collection[str]) -> AsyncIterator[Field]:
    """Hubs, and the peers that can be had, all running."""
    taking_part = Field()
    async with AsyncExitStack() as stack:
        for name, program in [(name, program) for name, program in HUBS.items() if name in wanted]:
            stage = await stack.enter_async_context(a_hub(program=program))
            if name == "hub_video":
                taking_part.targets.append(VideoTarget(name, stage))
                continue
            worker = BenchWorker(stage, name, 1)
            await worker.join((await stage.register_workers([name]))[name])
            taking_part.targets.append(HubTarget(name, stage, worker))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        for name, peer, head in [peer for peer in PEERS if peer[0] in wanted]:
            server = await stack.enter_async_context(peer(folder / name))
            if server.skipped:
                taking_part.skipped[name] = server.skipped
            else:
                taking_part.targets.append(PeerTarget(name, server, head))
                taking_part.versions[name] = server.version
        yield taking_part


async def turn(target: Target, payload: Payload, streams: int, senders: ProcessPoolExecutor) -> None:
    """Send the payload over so many connections at once, and note how fast that was."""
    tails = [secrets.token_bytes(TAIL) for _ in range(streams)]
    sendings = await target.prepared(payload, tails)
    loop = asyncio.get_running_loop()
    cpu = family_cpu_seconds(target.pid)
    try:
        async with AsyncExitStack() as stack:
            if target.watched is not None:
                watch = await stack.enter_async_context(watching(target.watched.port, target.watched.resident_bytes))
                target.numbers.watches.setdefault(streams, []).append(watch)
            seconds, answers = await loop.run_in_executor(senders, send_all, sendings)
            answered = time.perf_counter()
            answers = await target.settled(answers)
            seconds += time.perf_counter() - answered
        target.check(answers, payload, tails)
        size = streams * (payload.size + TAIL)
        target.numbers.note(streams, size, seconds, family_cpu_seconds(target.pid) - cpu)
    finally:
        target.clean()  # nothing is left to be written, which would be the next one's business


async def measure(size: int, rounds: int, streams: Sequence[int], wanted: Collection[str]) -> dict[str, Any]:
    began, done = time.monotonic(), 0
    async with payload_of(size) as payload, all_targets(wanted) as taking_part:
        idle = [await idle_ping(each.watched.port) for each in taking_part.targets[:1] if each.watched]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as senders:
            for number in range(-1, rounds):
                if time.monotonic() - began > LIMIT_S:
                    break
                targets = taking_part.targets[number % 2::1] + taking_part.targets[:number % 2]
                for count in streams if number >= 0 else streams[:1]:
                    for target in targets:
                        await turn(target, payload, count, senders)
                if number < 0:  # everybody is warm now
                    for target in taking_part.targets:
                        target.numbers.forget()
                done = number + 1
    told = {target.name: {"done_when_answered": PROMISES[target.name], **target.numbers.report()}
            for target in taking_part.targets}
    return {
        "bench": "upload", "bytes": size + TAIL, "rounds": done, "load": load(), "versions": taking_part.versions,
        "skipped": taking_part.skipped, "idle_ping_ms": idle[0] if idle else None, **told,
        "ratios": ratios({each.name: each for each in taking_part.targets}),
    }


def ratios(targets: dict[str, Target]) -> dict[str, Any]:
    """The median over rounds of how many times as fast, each round by itself: the machine may change meanwhile."""
    told: dict[str, Any] = {}
    for ours, theirs in (
        ("hub_unhashed_unsynced", "nginx"), ("hub_unhashed", "nginx"), ("hub_unhashed_unsynced", "tus_server"),
        ("hub_unhashed", "tus_server"), ("hub_unsynced", "tus_server"), ("hub", "tus_server"), ("hub", "nginx"),
        ("hub_video", "tus_server"), ("hub", "hub_cached"),
    ):
        if ours in targets and theirs in targets:
            told[f"{ours}/{theirs}"] = {
                str(count): round(median(
                    a / b for a, b in zip(rates, targets[theirs].numbers.rates[count], strict=True)
                ), 2)
                for count, rates in targets[ours].numbers.rates.items()
            }
    return told


# --- fifty at once --------------------------------------------------------------------------------------------------


async def measure_many(files: int, size: int) -> dict[str, Any]:
    """So many videos at once, from one user: how many are whole, and what a ping and the memory say meanwhile."""
    os.environ |= {"USER_UPLOADS_LIMIT": str(files)}
    async with payload_of(size) as payload, a_hub() as stage:
        idle = await idle_ping(stage.port)
        tails = [secrets.token_bytes(TAIL) for _ in range(files)]
        sendings = video_sendings(stage, payload, tails)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as senders:
            async with watching(stage.port, stage.resident_bytes) as watch:
                seconds, answers = await asyncio.get_running_loop().run_in_executor(senders, send_all, sendings)
        refused = [body[:300].decode() for status, body in answers if status != 201]
    return {
        "bench": "upload_many", "files": files, "bytes": size + TAIL, "whole": whole(answers, payload, tails),
        "refused": refused[:3], "seconds": round(seconds, 1), "mb_s": round(files * (size + TAIL) / seconds / 1e6),
        "load": load(), "idle_ping_ms": idle, **watch.report(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 MiB, or ten videos of 50 MB; about a minute")
    parser.add_argument("--rounds", type=int, help="how many turns each has (3)")
    parser.add_argument("--only", default=",".join(PROMISES), help="who takes part, with commas")
    parser.add_argument("--many", action="store_true", help="fifty videos of 200 MB at once")
    given = parser.parse_args()
    os.environ |= {
        "UPLOAD_FILE_SIZE_LIMIT": "2000", "RESULT_FILE_SIZE_LIMIT": "2000", "USER_STORAGE_LIMIT": "100000",
    }
    if given.many:
        say_result(measure_many(*((10, 50_000_000) if given.quick else (50, 200_000_000))), 600.0)
    else:
        size, rounds = (256, 2) if given.quick else (1024, 3)
        say_result(measure(size * MIB, given.rounds or rounds, (1, 8), given.only.split(",")), 900.0)
