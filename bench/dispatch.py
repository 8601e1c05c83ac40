"""How fast a task gets from its creation to a worker, and how many tasks a second the hub takes from birth to end.

Every task is durable twice on its way (created, leased) and once at its end. The floor is what the same machine needs
for two journaled writes to the same MongoDB plus one websocket round trip. Peers do the same job in the same run, turn
by turn with the hub, so that a busy machine is busy for all of them.

    python -m bench.dispatch [--quick] [--no-peers]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from . import backlog
from .peers import Peer, all_peers
from .stage import DATABASE, BenchWorker, Cpu, Stage, a_hub, load, percentiles, say_result
from .wire import Caller, Talk

WORKERS, SLOTS, CREATORS = 8, 8, 32
RATE = 100  # tasks a second that come by the clock, however the hub is doing


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: numbers of tasks, `runs` of the sustained job and `turns` beside a backlog, and for how
    many seconds a new user's tasks are waited for while a backlog is served; `limit` seconds for all of it.
    """

    idle: int
    open_loop: int
    sustained: int
    runs: int
    turns: int
    backlogs: tuple[int, ...]
    newcomers: int
    patience: float
    limit: float


QUICK = Size(100, 300, 800, 3, 2, (20_000,), newcomers=10, patience=3.0, limit=300.0)  # installs too, the first time
FULL = Size(500, 3000, 3000, 5, 10, (100_000, 1_000_000), newcomers=25, patience=10.0, limit=1200.0)
PATIENCE = 300.0  # seconds for a hub with a million waiting tasks to be ready


class Crew:
    """Eight workers and 32 creators on one hub, and what they have seen: `started` by task id, `ended` a count."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.workers = [BenchWorker(stage, f"bench-{number}", SLOTS) for number in range(WORKERS)]
        self.callers: list[Caller] = []
        self.tokens: dict[str, str] = {}
        self.started: dict[str, float] = {}
        self.ended = 0
        self.changed = asyncio.Event()
        self.order = json.dumps({"video_id": stage.video_id, "model": "noop"}).encode()

    async def arrive(self) -> None:
        self.tokens = await self.stage.register_workers([worker.name for worker in self.workers])
        self.callers = [await Caller.open(self.stage.port) for _ in range(CREATORS)]
        for worker in self.workers:
            worker.take = partial(self.take, worker)
            worker.ended = self.count
        await self.offer()

    async def offer(self, *models: str) -> None:
        """All workers join with these models; those that were here before come back."""
        for worker in self.workers:
            await worker.join(self.tokens[worker.name], *models)

    def take(self, worker: BenchWorker, at: float, assign: Any) -> None:
        self.started[assign.task] = at
        worker.end(assign)
        self.changed.set()

    def count(self) -> None:
        self.ended += 1
        self.changed.set()

    async def create(self, caller: Caller) -> str:
        """One task; its id."""
        status, body = await caller.post("/api/tasks", self.stage.token, self.order)
        if status != 201:
            raise RuntimeError(f"the hub answered {status}: {body[:300]!r}")
        return str(json.loads(body)["id"])

    async def until_ended(self, tasks: int) -> None:
        while self.ended < tasks:
            self.changed.clear()
            await self.changed.wait()

    async def start_of(self, task: str) -> float:
        """When a worker got the task."""
        while task not in self.started:
            self.changed.clear()
            await self.changed.wait()
        return self.started.pop(task)


async def idle(crew: Crew, tasks: int) -> list[float]:
    """Seconds from sending each creation to the worker's having the assignment, one task at a time."""
    took = []
    for _ in range(tasks):
        target, began = crew.ended + 1, time.perf_counter()
        task = await crew.create(crew.callers[0])
        took.append(await crew.start_of(task) - began)
        await crew.until_ended(target)
    return took


async def open_loop(crew: Crew, rate: float, tasks: int, patience: float = 60.0) -> list[float | None]:
    """Seconds from when each creation was due to the worker's having it; None where that took too long."""
    free: asyncio.Queue[Caller] = asyncio.Queue()
    for caller in crew.callers:
        free.put_nowait(caller)

    async def one(due: float) -> float | None:
        caller = await free.get()
        task = await crew.create(caller)
        free.put_nowait(caller)
        try:
            return await asyncio.wait_for(crew.start_of(task), patience) - due
        except TimeoutError:
            return None

    began, under_way = time.perf_counter(), []
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            under_way.append(group.create_task(one(due)))
    return [each.result() for each in under_way]


async def sustained(crew: Crew, tasks: int) -> float:
    """Tasks a second from the first creation until the hub has acknowledged the last one's end."""
    async def feed(caller: Caller) -> None:
        while numbers:
            numbers.pop()
            await crew.create(caller)

    numbers, target = list(range(tasks)), crew.ended + tasks
    began = time.perf_counter()
    await asyncio.gather(*map(feed, crew.callers), crew.until_ended(target))
    return tasks / (time.perf_counter() - began)


@asynccontextmanager
async def floor_of(stage: Stage) -> AsyncIterator[Any]:
    """A function that gives the seconds for two journaled writes and one round trip on a live socket, n times."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    writes = stage.database[DATABASE]["floor"]
    talk = await Talk.open(stage.port, "/api/live", heard.put_nowait)
    talk.say(json.dumps({"type": "auth", "id": 0, "token": stage.token}).encode())
    await heard.get()

    async def floor(rounds: int) -> list[float]:
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            key = (await writes.insert_one({"state": "waiting", "pad": "x" * 1000})).inserted_id
            await writes.update_one({"_id": key}, {"$set": {"state": "processing"}})
            talk.say(b'{"type":"ping","id":1}')
            await heard.get()
            took.append(time.perf_counter() - began)
        return took

    yield floor
    talk.close()


async def measure_start(crew: Crew, size: Size) -> dict[str, Any]:
    """Idle beside the floor, block by block; then by the clock."""
    starts: list[float] = []
    floors: list[float] = []
    async with floor_of(crew.stage) as floor:
        await idle(crew, 20)
        await floor(20)
        for _ in range(5):
            starts += await idle(crew, size.idle // 5)
            floors += await floor(size.idle // 5)
    timed = [each for each in await open_loop(crew, RATE, size.open_loop) if each is not None]
    start, least = percentiles(starts), percentiles(floors)
    return {
        "start_ms": {"idle": start, f"at_{RATE}_per_second": percentiles(timed)}, "floor_ms": least,
        "p50_over_floor": round(start["p50"] / least["p50"], 2),
    }


async def measure_backlog(tasks: int, size: Size) -> dict[str, Any]:
    """A hub with many tasks of others waiting, turn by turn with one that has none.

    First they wait for a model that nobody serves, then for one that all workers serve; then the hub is killed.
    """
    async with a_hub() as empty, a_hub(partial(backlog.fill, tasks=tasks), patience=PATIENCE) as stage:
        ready = stage.ready_s
        memory = stage.resident_bytes() - empty.resident_bytes()
        beside, crew = Crew(empty), Crew(stage)
        rates: dict[Crew, list[float]] = {beside: [], crew: []}
        used: dict[Crew, list[float]] = {beside: [], crew: []}
        starts: dict[Crew, list[float]] = {beside: [], crew: []}
        for each in rates:
            await each.arrive()
            await idle(each, 20)
        for _ in range(size.turns):
            for each in rates:
                before = each.stage.cpu()
                rates[each].append(await sustained(each, size.sustained // size.turns))
                used[each].append(each.stage.cpu().hub - before.hub)
                starts[each] += await idle(each, size.idle // size.turns)
        ended, began = crew.ended, time.perf_counter()
        await crew.offer("noop", backlog.LATER)
        newcomers = await open_loop(crew, 5.0, size.newcomers, size.patience)
        served = (crew.ended - ended) / (time.perf_counter() - began)
        stage.kill()
        await stage.begin(PATIENCE)
    started = [each for each in newcomers if each is not None]
    return {
        "waiting": tasks, "ready_s": round(ready, 2), "ready_after_kill_s": round(stage.ready_s, 2),
        "bytes_per_waiting_task": round(memory / tasks),
        "tasks_per_second": round(median(rates[crew])), "over_empty": median_ratio(rates[crew], rates[beside]),
        "hub_cpu_over_empty": median_ratio(used[crew], used[beside]),
        "start_ms": percentiles(starts[crew]), "start_ms_empty": percentiles(starts[beside]),
        "while_served": {
            "tasks_per_second": round(served), "newcomers": len(newcomers), "newcomers_started": len(started),
            "newcomer_start_ms": percentiles(started) if started else None,
        },
    }


async def measure(size: Size, with_peers: bool) -> dict[str, Any]:
    loads = [load()]
    async with all_peers(with_peers) as peers, a_hub() as stage:
        memory = stage.resident_bytes()
        crew = Crew(stage)
        await crew.arrive()
        found = await measure_start(crew, size)
        loads.append(load())
        rates, used = [], []
        for _ in range(size.runs):
            before = stage.cpu()
            rates.append(await sustained(crew, size.sustained))
            used.append([after - earlier for after, earlier in zip(stage.cpu(), before, strict=True)])
            for peer in peers:
                await peer.sustained(size.sustained)
        for peer in peers:
            await peer.idle(size.idle)
        loads.append(load())
    backlogs = [await measure_backlog(tasks, size) for tasks in size.backlogs]
    return {
        "bench": "dispatch", **found, "tasks_per_second": round(median(rates)), "runs": [round(each) for each in rates],
        "cpu_us_per_task": {
            name: round(1e6 * median(each) / size.sustained)
            for name, each in zip(Cpu._fields, zip(*used, strict=True), strict=True)
        },
        "resident_mb": memory >> 20,
        "with_waiting": backlogs, **compare(peers, rates, found["start_ms"]["idle"]["p50"]),
        "tasks": size.sustained, "workers": WORKERS, "slots": SLOTS, "processors": os.cpu_count(),
        "load": [*loads, load()],
    }


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Runs compared turn by turn: a busy minute spoils this less than it does a ratio of medians."""
    return round(median(mine / other for mine, other in zip(ours, theirs, strict=True)), 2)


def compare(peers: list[Peer], rates: list[float], p50: float) -> dict[str, Any]:
    """Each peer's numbers, and the hub's over them: tasks a second (more is better), p50 to the start (less is)."""
    found: dict[str, Any] = {}
    for peer in peers:
        found[peer.name] = peer.report()
        if peer.rates:
            found[f"over_{peer.name}"] = median_ratio(rates, peer.rates)
        if peer.starts:
            found[f"p50_over_{peer.name}"] = round(p50 / percentiles(peer.starts)["p50"], 2)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds, once the peers are installed")
    parser.add_argument("--no-peers", action="store_true", help="the hub alone")
    asked = parser.parse_args()
    size = QUICK if asked.quick else FULL
    say_result(measure(size, not asked.no_peers), size.limit)
