"""What a server in the fan-out benchmark is told to publish, line by line on its standard input.

    steady RATE      so many events a second, to its topics in turn, until the next command
    burst EVENTS     so many events to each topic, at once
    rest             nothing

The peers in other languages obey the same words.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable


def stamp() -> str:
    """The time as the audience reads it: 16 digits of nanoseconds."""
    return f"{time.monotonic_ns():016d}"


async def obey_forever(publish: Callable[[int], None], topics: int) -> None:
    """Publish by the topic's number, as told, until the input ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    steady: asyncio.Task[None] | None = None
    while line := await lines.readline():
        word, _, number = line.decode().strip().partition(" ")
        if steady is not None:
            steady.cancel()
            steady = None
        if word == "steady":
            steady = asyncio.create_task(flow(publish, topics, float(number)))
        elif word == "burst":
            for _ in range(int(number)):
                for topic in range(topics):
                    publish(topic)


async def flow(publish: Callable[[int], None], topics: int, rate: float) -> None:
    """A steady stream, to each topic in turn; what could not be published in time is left out."""
    began, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - began) * rate)
        sent = max(sent, due - int(rate / 10) - 1)
        while sent < due:
            publish(sent % topics)
            sent += 1
        await asyncio.sleep(max(0.0005, (sent + 1) / rate - (time.perf_counter() - began)))
