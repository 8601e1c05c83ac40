"""Fan-out: how many live events a second reach many viewers, what a delivery costs, and what a viewer does.

The hub beside its peers in one run, one after the other in each scene: nginx with nchan, Node's ws, uWebSockets.js
and stock Tornado, as far as they can be had. Each server has one core to itself, the audience (bench/audience.c)
another. All publish events of about 300 bytes when they are told to; nchan's are posted by a process of their own that
is not counted. Processor time is what counts on a machine that others use too.

    taskset -c 0,1 python -m bench.fanout [--quick] [--only SCENE] [--peers hub,nchan]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .audience import Audience, a_process, audience, sayings
from .peers import install
from .peers.nchan import configure
from .stage import cpu_seconds, free_port, load, percentiles, say_result
from .wire import Talk

PEERS = ("hub", "nchan", "ws", "uws", "tornado")
QUICK = ("one_topic", "own_topics", "long_polls"), ("hub", "nchan", "tornado")  # scenes and peers of a quick run
SERVER_CORE = "0"


class Server:
    """One peer: the process that is measured, and where its events come from."""

    def __init__(self, process: asyncio.subprocess.Process, publisher: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.publisher = publisher
        self.port = port
        self.facts: dict[str, Any] = {}

    def say(self, line: str) -> None:
        assert self.publisher.stdin is not None
        self.publisher.stdin.write(f"{line}\n".encode())

    @property
    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def serving(peer: str, viewers: int, way: str, node: Path | None) -> AsyncIterator[Server]:
    """A peer that is up, for so many viewers of "one" topic, "own" topics or "poll"s."""
    topics = viewers if way == "own" else 1
    python = [sys.executable, "-m"]
    async with AsyncExitStack() as stack:
        if peer.startswith("nchan"):
            folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nchan-"))), free_port()
            file = configure(folder, port, history=peer == "nchan+history")
            process = await stack.enter_async_context(
                a_process(SERVER_CORE, "nginx", "-c", str(file), "-p", str(folder)),
            )
            await answering(port)
            publisher = await stack.enter_async_context(
                a_process("1", *python, "bench.peers.nchan", str(port), str(topics)),
            )
            yield Server(process, publisher, port)
            return
        command = {
            "hub": [*python, "bench.fanout_hub", str(viewers), way],
            "tornado": [*python, "bench.peers.fanout_tornado", str(viewers), way],
        }.get(peer) or ["node", "bench/peers/fanout.mjs", peer, str(node), str(viewers), way]
        process = await stack.enter_async_context(a_process(SERVER_CORE, *command))
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("it did not come up")
        facts = json.loads(line)
        server = Server(process, process, facts["port"])
        server.facts = facts
        yield server


async def answering(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise RuntimeError(f"nobody listens on {port}")


# --- what is measured -------------------------------------------------------------------------------------------


async def steady(server: Server, crowd: Audience, rate: float, seconds: float) -> dict[str, float]:
    """So many events a second, for a while: how late they come, and what they cost."""
    server.say(f"steady {rate}")
    await asyncio.sleep(1.0)  # the stream is under way: this is a window of time, not a wait for something
    crowd.say("go")
    cpu = server.cpu
    await asyncio.sleep(seconds)
    cpu = server.cpu - cpu
    counted = await crowd.stop()
    server.say("rest")
    await asyncio.sleep(0.3)
    return {**told(counted, cpu), "p50_ms": counted["p50"], "p99_ms": counted["p99"]}


async def bursts(server: Server, crowd: Audience, viewers: int, events: int, seconds: float) -> dict[str, float]:
    """Many events at once, the next when all of them have come, as often as it goes."""
    loop = asyncio.get_running_loop()
    crowd.say("go")
    cpu, began, due = server.cpu, loop.time(), 0
    while loop.time() - began < seconds:
        due += viewers * events
        crowd.say(f"expect {due}")
        server.say(f"burst {events}")
        await crowd.hear("reached")
    cpu = server.cpu - cpu
    return told(await crowd.stop(), cpu)


def told(counted: dict[str, float], cpu: float) -> dict[str, float]:
    deliveries = counted["deliveries"]
    result = {
        "deliveries_per_second": round(deliveries / counted["seconds"]),
        "cpu_s_per_million": round(1e6 * cpu / max(1, deliveries), 2),
    }
    return result | ({"lost": counted["lost"]} if counted["lost"] else {})


async def many_of_one(peer: str, viewers: int, rates: tuple[float, ...], seconds: float, node: Path | None) -> Any:
    """One topic, many viewers."""
    async with serving(peer, viewers, "one", node) as server:
        before = server.resident
        async with audience(server.port, sayings(peer, viewers, "one", server.facts)) as crowd:
            result: dict[str, Any] = {"kib_a_connection": round((server.resident - before) / viewers / 1024, 1)}
            for rate in rates:
                result[f"steady_{round(rate * viewers / 1000)}k"] = await steady(server, crowd, rate, seconds)
            result["bursts"] = await bursts(server, crowd, viewers, 50_000 // viewers, seconds)
        return result


async def each_its_own(peer: str, viewers: int, seconds: float, node: Path | None) -> Any:
    """Own topics: an event to each, again and again."""
    async with serving(peer, viewers, "own", node) as server:
        async with audience(server.port, sayings(peer, viewers, "own", server.facts)) as crowd:
            return await bursts(server, crowd, viewers, 1, seconds)


async def with_stopped(peer: str, viewers: int, rate: float, seconds: float, node: Path | None) -> Any:
    """A tenth of the viewers does not read any more: what the others notice."""
    async with serving(peer, viewers, "one", node) as server:
        async with audience(server.port, sayings(peer, viewers, "one", server.facts)) as crowd:
            before = await steady(server, crowd, rate, seconds)
            memory = server.resident
            crowd.say(f"quiet {viewers // 10}")
            after = await steady(server, crowd, rate, 2 * seconds)
            grown = round((server.resident - memory) / 2**20, 1)
        return {"all_read": before, "tenth_stopped": after, "memory_grown_mib": grown}


async def polls(peer: str, viewers: int, seconds: float) -> Any:
    """Long polls: each answer is followed by the next question."""
    async with serving(peer, viewers, "poll" if peer == "tornado" else "one", None) as server:
        async with audience(server.port, sayings(peer, viewers, "poll", server.facts), polls=True) as crowd:
            return await bursts(server, crowd, viewers, 1, seconds)


async def herd(viewers: int) -> Any:
    """All come back at once, with their cursors: how soon all look, and how long another waits for a pong meanwhile."""
    async with serving("hub", viewers, "one", None) as server:
        pongs: list[float] = []
        pinging = asyncio.create_task(ping(server, pongs))
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        pongs.clear()
        async with audience(server.port, sayings("hub", viewers, "one", server.facts), opening=viewers):
            took = loop.time() - began
        pinging.cancel()
        return {"viewers": viewers, "back_in_s": round(took, 2), "ping_ms": percentiles(pongs), "pings": len(pongs)}


async def ping(server: Server, pongs: list[float]) -> None:
    """Ask the hub again and again, on a websocket, and note how long its answers take."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    talk = await Talk.open(server.port, "/api/live", heard.put_nowait)
    talk.say(json.dumps({"type": "auth", "id": 0, "token": server.facts["token"]}).encode())
    await heard.get()
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        talk.say(b'{"type":"ping","id":1}')
        await heard.get()
        pongs.append(loop.time() - began)
        await asyncio.sleep(0.02)


async def idle(peer: str, viewers: int, way: str) -> Any:
    """Nothing happens: what holding them takes."""
    poll = way == "poll"
    async with serving(peer, viewers, "poll" if poll and peer == "tornado" else "one", None) as server:
        before, loop = server.resident, asyncio.get_running_loop()
        began = loop.time()
        async with audience(server.port, sayings(peer, viewers, way, server.facts), polls=poll):
            took = loop.time() - began
            await asyncio.sleep(2.0)
            held = server.resident - before
            cpu = server.cpu
            await asyncio.sleep(5.0)
            cpu = server.cpu - cpu
        return {
            "connections": viewers, "opened_in_s": round(took, 1), "mib": round(held / 2**20, 1),
            "kib_a_connection": round(held / viewers / 1024, 1), "cpu_share": round(cpu / 5, 3),
        }


# --- the whole --------------------------------------------------------------------------------------------------


async def measure(quick: bool, only: str, chosen: tuple[str, ...]) -> dict[str, Any]:
    without: dict[str, str] = {}
    node, peers = None, list(chosen)
    for peer, package in (("ws", "ws"), ("uws", "@btc-vision/uwebsockets.js")):
        try:
            node = install.install_websockets()
            install.loads(node, package)
        except install.NotHere as error:
            without[peer] = str(error)
            peers = [other for other in peers if other != peer]
    seconds, crowd, large, held = (1.5, 300, 1000, 1000) if quick else (5.0, 1000, 5000, 10_000)
    few = tuple(peer for peer in ("hub", "tornado") if peer in peers)
    scenes: dict[str, Callable[[str], Awaitable[dict[str, Any]]]] = {
        "one_topic": lambda peer: many_of_one(peer, crowd, (100_000 / crowd,), seconds, node),
        "one_topic_large": lambda peer: many_of_one(peer, large, (50_000 / large, 100_000 / large), seconds, node),
        "own_topics": lambda peer: each_its_own(peer, crowd * 2, seconds, node),
        "tenth_stopped": lambda peer: with_stopped(peer, crowd, 50_000 / crowd, seconds, node),
        "long_polls": lambda peer: polls(peer, crowd // 2, seconds),
        "herd": lambda peer: herd(large),
        "idle_websockets": lambda peer: idle(peer, held, "one"),
        "idle_long_polls": lambda peer: idle(peer, held, "poll"),
    }
    result: dict[str, Any] = {"bench": "fanout", "load": load(), "without": without}
    for scene, run in scenes.items():
        if only and scene != only or quick and not only and scene not in QUICK[0]:
            continue
        measured = result[scene] = {}
        among = few if "poll" in scene or "idle" in scene else ("hub",) if scene == "herd" else tuple(peers)
        for peer in among:
            named = "nchan+history" if peer == "nchan" and scene == "tenth_stopped" else peer
            try:
                measured[named] = await run(named)
            except (RuntimeError, OSError, TimeoutError, ValueError) as error:
                measured[named] = {"failed": str(error) or type(error).__name__}
        print(scene, json.dumps(measured), file=sys.stderr, flush=True)  # what is lost if it takes too long
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", default="", help="one scene")
    parser.add_argument("--peers", default="", help="some of the peers, with commas between")
    chosen = parser.parse_args()
    peers = tuple(chosen.peers.split(",")) if chosen.peers else QUICK[1] if chosen.quick else PEERS
    say_result(measure(chosen.quick, chosen.only, peers), 900.0)
