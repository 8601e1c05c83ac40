"""How fast the hub gives files out, next to nginx (GET with sendfile), turn by turn; and what a ping meets meanwhile.

A user's video of that size is asked for over its signed link, as a player does. The file is in memory for both.

    python -m bench.download [--quick] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from .peers import servers
from .stage import Stage, a_hub, family_cpu_seconds, load, say_result
from .traffic import Asking, Numbers, Sending, idle_ping, receive_all, send_all, watching
from .upload import MIB, TAIL, payload_of

LIMIT_S = 400.0  # no new round begins after this


@dataclass(slots=True)
class Source:
    """A server that has the file, and how it is asked for it."""

    name: str
    pid: int
    port: int
    path: str
    numbers: Numbers = field(default_factory=Numbers)

    def asking(self) -> Asking:
        return Asking(self.port, f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


async def uploaded(stage: Stage, size: int, senders: ProcessPoolExecutor) -> dict[str, Any]:
    """A video of that size in the hub."""
    async with payload_of(size - TAIL) as payload:
        head = (
            f"POST /api/videos?name=v.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stage.token}\r\n"
            f"Content-Type: video/mp4\r\nContent-Length: {size}\r\n\r\n"
        )
        sending = Sending(stage.port, head.encode(), payload.path, payload.size, bytes(TAIL))
        _, [(status, body)] = await asyncio.get_running_loop().run_in_executor(senders, send_all, [sending])
    if status != 201:
        raise RuntimeError(f"the video was not taken: {body[:300]!r}")
    video: dict[str, Any] = json.loads(body)
    return video


async def turn(source: Source, stage: Stage, size: int, streams: int, readers: ProcessPoolExecutor) -> None:
    """Ask for the whole file over so many connections at once, and note how fast it came."""
    loop, askings, cpu = asyncio.get_running_loop(), [source.asking()] * streams, family_cpu_seconds(source.pid)
    async with AsyncExitStack() as stack:
        if source.name == "hub":
            watch = await stack.enter_async_context(watching(stage.port, stage.resident_bytes))
            source.numbers.watches.setdefault(streams, []).append(watch)
        seconds, sizes = await loop.run_in_executor(readers, receive_all, askings)
    if sizes != [size] * streams:
        raise RuntimeError(f"{source.name} gave {sizes} bytes instead of {size}")
    source.numbers.note(streams, streams * size, seconds, family_cpu_seconds(source.pid) - cpu)


async def measure(size: int, rounds: int, streams: Sequence[int]) -> dict[str, Any]:
    began, done, skipped = time.monotonic(), 0, {}
    async with AsyncExitStack() as stack:
        readers = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        stage = await stack.enter_async_context(a_hub())
        idle = await idle_ping(stage.port)
        video = await uploaded(stage, size, readers)
        sources = [Source("hub", stage.pid, stage.port, video["content_url"])]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        nginx = await stack.enter_async_context(servers.nginx(folder))
        if nginx.skipped:
            skipped["nginx"] = nginx.skipped
        else:
            [kept] = (stage.folder / "videos").rglob(video["sha256"])
            shutil.copyfile(kept, nginx.files / "v.mp4")
            sources.append(Source("nginx", nginx.pid, nginx.port, "/v.mp4"))
        for number in range(-1, rounds):
            if time.monotonic() - began > LIMIT_S:
                break
            for count in streams:
                for source in sources[::1 if number % 2 else -1]:
                    await turn(source, stage, size, count, readers)
            if number < 0:  # both are warm now, and the file is in memory
                for source in sources:
                    source.numbers.forget()
            done = number + 1
    told = {source.name: source.numbers.report() for source in sources}
    ratios = {}
    if len(sources) == 2:
        for count, rates in sources[0].numbers.rates.items():
            pairs = zip(rates, sources[1].numbers.rates[count], strict=True)
            ratios[str(count)] = round(median(ours / theirs for ours, theirs in pairs), 2)
    return {
        "bench": "download", "bytes": size, "rounds": done, "load": load(), "versions": {"nginx": nginx.version},
        "skipped": skipped, "idle_ping_ms": idle, **told, "ratios": {"hub/nginx": ratios},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 MiB; under a minute")
    parser.add_argument("--rounds", type=int, help="how many turns each has (5)")
    given = parser.parse_args()
    os.environ |= {"UPLOAD_FILE_SIZE_LIMIT": "2000"}
    size = (256 if given.quick else 1024) * MIB
    say_result(measure(size, given.rounds or 5, (1, 8)), 600.0)
