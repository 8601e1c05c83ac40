"""How many live events a second the hub delivers to many viewers, and what a delivery costs it.

All viewers watch one user's "tasks" topic while workers report progress; next to it, in the same run, a plain Tornado
server sends messages of the same size with write_message. The viewers are raw sockets that only count.

    python -m bench.fanout [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from hub import messages

from .stage import BenchWorker, Stage, a_hub, cpu_seconds, say_result
from .wire import handshake, masked

MARK = b'"epoch"'  # once in each event
PUBLISH_S = 0.25  # a task's progress is shown at most this often


class Counter(asyncio.Protocol):
    """One viewer: says what it must, then counts events."""

    def __init__(self, port: int, path: str, sayings: list[bytes]) -> None:
        self.hello = handshake(port, path)
        self.sayings = sayings
        self.events = 0
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.hello + b"".join(map(masked, self.sayings)))

    def data_received(self, data: bytes) -> None:
        whole = self.tail + data
        self.events += whole.count(MARK)
        self.tail = whole[-(len(MARK) - 1):]


async def audience(port: int, path: str, sayings: list[bytes], viewers: int) -> list[Counter]:
    loop = asyncio.get_running_loop()
    counters = [Counter(port, path, sayings) for _ in range(viewers)]
    for counter in counters:
        await loop.create_connection(lambda counter=counter: counter, "127.0.0.1", port)  # type: ignore[misc]
    return counters


async def count(counters: list[Counter], seconds: float) -> float:
    """Deliveries a second over the given time."""
    await asyncio.sleep(1.0)  # the stream is under way: this is a window of time, not a wait for something
    before, began = sum(each.events for each in counters), time.perf_counter()
    await asyncio.sleep(seconds)
    return (sum(each.events for each in counters) - before) / (time.perf_counter() - began)


# --- the hub ----------------------------------------------------------------------------------------------------


async def progress_for_ever(workers: list[BenchWorker]) -> None:
    """Every running task reports just as often as the hub passes it on."""
    leases = []
    for worker in workers:
        for _ in range(worker.slots):
            leases.append((worker, (await worker.assigned.get())[1].lease))
    percent = 0.0
    while True:
        began = time.perf_counter()
        percent = min(99.0, percent + 0.01)
        for worker, lease in leases:
            worker.say(messages.Progress(lease=lease, phase="segment", progress=percent))
        await asyncio.sleep(max(0.0, PUBLISH_S + 0.005 - (time.perf_counter() - began)))


async def run_hub(stage: Stage, viewers: int, workers: list[BenchWorker], seconds: float) -> dict[str, float]:
    for _ in range(sum(worker.slots for worker in workers)):
        stage.call("POST", "/api/tasks", {"video_id": stage.video_id, "model": "noop"})
    progress = asyncio.create_task(progress_for_ever(workers))
    auth = json.dumps({"type": "auth", "id": 1, "token": stage.token}).encode()
    subscribe = json.dumps({"type": "subscribe", "id": 2, "topic": "tasks"}).encode()
    counters = await audience(stage.port, "/api/live", [auth, subscribe], viewers)
    cpu = cpu_seconds(stage.pid)
    rate = await count(counters, seconds)
    cpu = cpu_seconds(stage.pid) - cpu
    progress.cancel()
    return {"deliveries_per_second": round(rate), "cpu_s_per_million": round(1e6 * cpu / (rate * (seconds + 1)), 2)}


# --- the peer ---------------------------------------------------------------------------------------------------


def run_peer(port_to: Connection, events_per_second: float, size: int) -> None:
    """A plain Tornado server that sends the same number of messages to all its sockets; ends with its parent."""
    sockets: set[WebSocketHandler] = set()

    class Plain(WebSocketHandler):
        def check_origin(self, origin: str) -> bool:
            return True

        def open(self, *_: str, **__: str) -> None:
            sockets.add(self)

        def on_message(self, message: str | bytes) -> None:
            return None

    async def serve() -> None:
        listening = bind_sockets(0, "127.0.0.1", backlog=1024)
        HTTPServer(Application([(r"/", Plain)])).add_sockets(listening)
        port_to.send((listening[0].getsockname()[1], os.getpid()))
        text = (MARK.decode() + "x" * size)[:size]
        began, sent = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - began) * events_per_second)
            while sent < due:
                sent += 1
                for each in sockets:
                    each.write_message(text)
                await asyncio.sleep(0)
            await asyncio.sleep(0.002)

    asyncio.run(serve())


async def run_plain(viewers: int, rate: float, seconds: float) -> dict[str, float]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_peer, args=(theirs, rate, 220), daemon=True)
    process.start()
    port, pid = await asyncio.to_thread(ours.recv)
    counters = await audience(port, "/", [], viewers)
    cpu = cpu_seconds(pid)
    delivered = await count(counters, seconds)
    cpu = cpu_seconds(pid) - cpu
    process.kill()
    process.join()
    each = 1e6 * cpu / (delivered * (seconds + 1))
    return {"deliveries_per_second": round(delivered), "cpu_s_per_million": round(each, 2)}


async def measure(quick: bool) -> dict[str, Any]:
    viewers, seconds, tasks = (200, 6.0, 32) if quick else (1000, 20.0, 64)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    async with a_hub() as stage:
        worker = BenchWorker(stage, "bench", min(tasks, 64))
        await worker.join((await stage.register_workers([worker.name]))[worker.name])
        hub = await run_hub(stage, viewers, [worker], seconds)
    plain = await run_plain(viewers, tasks / PUBLISH_S, seconds)
    return {
        "bench": "fanout", "viewers": viewers, "asked_events_per_second": round(tasks / PUBLISH_S), "hub": hub,
        "tornado_write_message": plain,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    socket.setdefaulttimeout(30)
    quick = parser.parse_args().quick
    say_result(measure(quick), 100.0 if quick else 600.0)
