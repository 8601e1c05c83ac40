"""How fast a task gets from its creation to a worker, and how many tasks a second the hub takes from birth to end.

Every task is durable twice on its way (created, leased) and once at its end. The floor is what the same machine needs
for two journaled writes to the same MongoDB plus one websocket round trip.

    python -m bench.dispatch [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from pymongo import AsyncMongoClient
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from websockets.asyncio.client import connect

from store.embedded import attached

from .stage import BenchWorker, Stage, a_hub, percentiles

WORKERS, SLOTS, CREATORS = 8, 8, 32


async def create(stage: Stage, client: AsyncHTTPClient) -> str:
    """One task; its id."""
    body = json.dumps({"video_id": stage.video_id, "model": "noop"})
    headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
    answer = await client.fetch(HTTPRequest(f"{stage.url}/api/tasks", "POST", headers, body))
    return str(json.loads(answer.body)["id"])


async def idle(stage: Stage, client: AsyncHTTPClient, worker: BenchWorker, tasks: int) -> list[float]:
    """Seconds from sending each creation to the worker's having the assignment, one task at a time."""
    took = []
    for _ in range(tasks):
        began = time.perf_counter()
        creation = asyncio.create_task(create(stage, client))
        at, assign = await worker.assigned.get()
        took.append(at - began)
        await worker.end(assign)
        await creation
    return took


async def sustained(stage: Stage, client: AsyncHTTPClient, workers: list[BenchWorker], tasks: int) -> float:
    """Tasks a second from the first creation until the last one has ended."""
    async def serve(worker: BenchWorker) -> None:
        while True:
            _, assign = await worker.assigned.get()
            await worker.end(assign)
            done.release()

    async def feed() -> None:
        while numbers:
            numbers.pop()
            await create(stage, client)

    done = asyncio.Semaphore(0)
    numbers = list(range(tasks))
    serving = [asyncio.create_task(serve(worker)) for worker in workers]
    began = time.perf_counter()
    await asyncio.gather(*(feed() for _ in range(CREATORS)))
    for _ in range(tasks):
        await done.acquire()
    took = time.perf_counter() - began
    for each in serving:
        each.cancel()
    return tasks / took


async def floor(stage: Stage, rounds: int) -> list[float]:
    """Seconds for two journaled writes and one round trip on a live socket."""
    took = []
    async with attached(stage.folder / "data") as uri:
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(uri)
        writes = client["bench"]["floor"]
        async with connect(f"{stage.url.replace('http', 'ws', 1)}/api/live", compression=None) as live:
            await live.send(json.dumps({"type": "auth", "id": 0, "token": stage.token}))
            await live.recv()
            for number in range(rounds):
                began = time.perf_counter()
                await writes.insert_one({"_id": number, "state": "waiting", "pad": "x" * 1000})
                await writes.update_one({"_id": number}, {"$set": {"state": "processing"}})
                await live.send(json.dumps({"type": "ping", "id": number}))
                await live.recv()
                took.append(time.perf_counter() - began)
        await client.close()
    return took


async def measure(quick: bool) -> dict[str, object]:
    AsyncHTTPClient.configure(None, max_clients=CREATORS)
    client = AsyncHTTPClient()
    async with a_hub() as stage:
        workers = [BenchWorker(stage, f"bench-{number}", SLOTS) for number in range(WORKERS)]
        taking = []
        for worker in workers:
            await worker.join(stage.register_worker(worker.name))
            taking.append(asyncio.create_task(worker.take_all()))
            if worker is workers[0]:
                latencies = await idle(stage, client, worker, 100 if quick else 500)
        lowest = await floor(stage, 100 if quick else 500)
        cpu, tasks = stage.cpu_seconds(), 2000 if quick else 10_000
        rate = await sustained(stage, client, workers, tasks)
        cpu = stage.cpu_seconds() - cpu
        for each in taking:
            each.cancel()
    start, least = percentiles(latencies), percentiles(lowest)
    return {
        "bench": "dispatch", "create_to_start_ms": start, "floor_ms": least,
        "p50_over_floor": round(start["p50"] / least["p50"], 2), "tasks_per_second": round(rate),
        "hub_cpu_ms_per_task": round(1000 * cpu / tasks, 3), "tasks": tasks, "workers": WORKERS, "slots": SLOTS,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds")
    print(json.dumps(asyncio.run(measure(parser.parse_args().quick))))
