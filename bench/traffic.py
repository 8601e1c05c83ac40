"""Bytes at full speed to and from a server, and a ping beside them: from processes of their own, by plain sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

from .stage import percentiles

PERIOD_S, PINGERS, IDLE_S = 0.01, 20, 3.0
READ = 1024 * 1024
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sending:
    """One request with a large body: `head` holds its headers, the body is a file of `size` bytes and then `tail`."""

    port: int
    head: bytes
    path: str
    size: int
    tail: bytes


@dataclass(frozen=True, slots=True)
class Asking:
    """One request for a large body."""

    port: int
    head: bytes


def send_all(sendings: Sequence[Sending]) -> tuple[float, list[tuple[int, bytes]]]:
    """Send all at once; seconds from the first byte to the last answer, and the answers: status and body."""
    return at_once(send, sendings)


def receive_all(askings: Sequence[Asking]) -> tuple[float, list[int]]:
    """Ask for all at once; seconds, and how many bytes each body had."""
    return at_once(receive, askings)


def at_once(work: Callable[[Any, threading.Barrier], R], items: Sequence[Any]) -> tuple[float, list[R]]:
    """Do all in threads that start together; they wait in the kernel."""
    began = 0.0

    def note() -> None:
        nonlocal began
        began = time.perf_counter()

    start = threading.Barrier(len(items), note)
    with ThreadPoolExecutor(len(items)) as pool:
        done = list(pool.map(lambda item: work(item, start), items))
    return time.perf_counter() - began, done


def send(sending: Sending, start: threading.Barrier) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", sending.port)) as line, open(sending.path, "rb") as file:
        line.settimeout(None)
        start.wait()
        try:
            line.sendall(sending.head)
            at = 0
            while at < sending.size:
                at += os.sendfile(line.fileno(), file.fileno(), at, sending.size - at)
            line.sendall(sending.tail)
        except ConnectionError:
            pass  # it has been refused; the answer says why
        status, length, body = head_of(line)
        while len(body) < length and (more := line.recv(READ)):
            body += more
        return status, body


def receive(asking: Asking, start: threading.Barrier) -> int:
    """The body is dropped in the kernel, so that the reader costs as little as it can."""
    with socket.create_connection(("127.0.0.1", asking.port)) as line:
        line.settimeout(None)
        start.wait()
        line.sendall(asking.head)
        status, length, body = head_of(line)
        assert status in (200, 206), status
        got, room = len(body), bytearray(READ)
        while got < length and (count := line.recv_into(room, READ, socket.MSG_TRUNC)):
            got += count
        return got


def head_of(line: socket.socket) -> tuple[int, int, bytes]:
    """Status and length of an answer, and what of its body came along."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        piece = line.recv(4096)
        if not piece:
            raise ConnectionError("hung up without an answer")
        heard += piece
    head, _, body = heard.partition(b"\r\n\r\n")
    if head[9:12] == b"100":
        return head_of(line)
    length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return int(head[9:12]), int(length or 0), body


@dataclass(slots=True)
class Watch:
    """What was seen of the hub meanwhile: the seconds that each ping took, and its memory in bytes."""

    pings: list[float] = field(default_factory=list)
    before: int = 0
    most: int = 0

    def report(self) -> dict[str, Any]:
        return {"ping_ms": percentiles(self.pings), "memory_growth_mib": round((self.most - self.before) / 2**20, 1)}


@dataclass(slots=True)
class Numbers:
    """What came out for one server, by the number of connections: a list with one entry for each turn."""

    rates: dict[int, list[float]] = field(default_factory=dict)  # megabytes a second
    cpu: dict[int, list[float]] = field(default_factory=dict)  # seconds for a gibibyte
    watches: dict[int, list[Watch]] = field(default_factory=dict)

    def note(self, streams: int, size: int, seconds: float, cpu: float) -> None:
        """A turn moved `size` bytes in so many seconds, and took `cpu` seconds of a processor."""
        self.rates.setdefault(streams, []).append(size / seconds / 1e6)
        self.cpu.setdefault(streams, []).append(cpu / size * 2**30)

    def forget(self) -> None:
        """That was the warming up."""
        for each in (self.rates, self.cpu, self.watches):
            each.clear()

    def report(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for streams, rates in self.rates.items():
            told[str(streams)] = {
                "mb_s": round(median(rates)), "runs": [round(rate) for rate in rates],
                "cpu_s_per_gib": round(median(self.cpu[streams]), 2),
            }
            if watches := self.watches.get(streams):
                growth = max(watch.most - watch.before for watch in watches)
                pings = percentiles([ping for watch in watches for ping in watch.pings])
                told[str(streams)] |= {"ping_ms": pings, "memory_growth_mib": round(growth / 2**20, 1)}
        return told


async def idle_ping(port: int) -> dict[str, float]:
    """What a ping meets when the hub has nothing to do: what the machine itself adds, and who else is on it."""
    async with watching(port, lambda: 0) as watch:
        await asyncio.sleep(IDLE_S)
    return percentiles(watch.pings)


@asynccontextmanager
async def watching(port: int, memory: Callable[[], int]) -> AsyncIterator[Watch]:
    """Ping every 10 ms and look at the memory, until the block ends.

    None waits for another's answer, as far as the connections reach; what is sent late counts from when it was due.
    """
    watch = Watch(before=memory())
    watch.most = watch.before
    began = time.perf_counter()

    async def ping(number: int) -> None:
        """Every so many-th of the pings, over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = began + number * PERIOD_S
        try:
            while True:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                watch.pings.append(time.perf_counter() - due)
                watch.most = max(watch.most, memory())
                due += PERIOD_S * PINGERS
        finally:
            writer.close()

    pinging = [asyncio.create_task(ping(number)) for number in range(PINGERS)]
    try:
        yield watch
    finally:
        for task in pinging:
            task.cancel()
        await asyncio.wait(pinging)
