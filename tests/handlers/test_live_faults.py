"""Viewers that are dead, deaf or many: the hub lets go of them, and those who read notice nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

from bench.wire import handshake, masked
from handlers.audience import Seat
from handlers.live import FastConnection, Viewer
from handlers.wire import BEATS, MOST_UNSENT
from tests.handlers.running import PATIENCE_S, Api, Person, eventually, one_loop
from tests.handlers.test_live import page

pytestmark = one_loop


def seats(api: Api, person: Person) -> list[Seat]:
    return [seat for seat in api.hub.rooms.audience.seats() if seat.user is not None and seat.user.id == person.user.id]


def greeting(person: Person, topic: str) -> bytes:
    """What a viewer says, all of it at once."""
    said: list[dict[str, Any]] = [
        {"type": "auth", "id": 1, "token": person.token}, {"type": "subscribe", "id": 2, "topic": topic},
    ]
    return handshake(1, "/api/live") + b"".join(masked(json.dumps(each).encode()) for each in said)


async def test_fault_13_a_viewer_behind_a_dead_line_is_let_go_and_one_that_answers_stays(api: Api) -> None:
    person = await api.user()
    async with page(api, person) as lively, api.connection(greeting(person, "tasks")):
        await eventually(lambda: len(seats(api, person)) == 2)
        for _ in range(2):
            for _ in range(BEATS):
                api.hub.rooms.pulse.beat()
            assert (await lively.ask("ping"))["type"] == "pong"
        await eventually(lambda: len(seats(api, person)) == 1)
        assert (await lively.ask("ping"))["type"] == "pong"


async def test_fault_24_fifty_viewers_that_never_read_cost_little_and_nobody_anything(api: Api) -> None:
    """P11: what waits for each is bounded, whatever is published."""
    person = await api.user()
    api.hub.rooms.audience.most, most = 100, api.hub.rooms.audience.most
    topic = api.hub.runner.topics.get("tasks", person.user.id)
    async with AsyncExitStack() as stack:
        lively = await stack.enter_async_context(page(api, person))
        await lively.ask("subscribe", topic="tasks")
        for _ in range(50):
            deaf = socket.socket()
            stack.callback(deaf.close)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", api.hub.port))
            deaf.send(greeting(person, "tasks"))
        await eventually(lambda: len(topic.viewers) == 51)
        for number in range(6000):
            topic.publish("progressed", {"id": str(number), "message": "x" * 1000}, "now")
            if number % 50 == 49:
                heard = [await lively.hear() for _ in range(50)]
                assert heard[-1]["data"]["id"] == str(number)
                kept = [len(unsent) for unsent in unsents(api, person)]
                assert sum(kept) <= len(kept) * MOST_UNSENT
        await eventually(lambda: len(topic.viewers) == 1)
        await eventually(lambda: len(seats(api, person)) == 1)
        assert (await lively.ask("ping"))["type"] == "pong"
    api.hub.rooms.audience.most = most


def unsents(api: Api, person: Person) -> list[memoryview]:
    """What waits for each viewer of a person."""
    found = [seat.connection for seat in seats(api, person) if isinstance(seat, Viewer)]
    wires = [connection.wire for connection in found if isinstance(connection, FastConnection)]
    return [wire.unsent for wire in wires if wire.unsent is not None]


async def test_p11_a_viewer_that_pauses_goes_on_with_what_it_missed_merged(api: Api) -> None:
    """The same over a real socket: it stops reading, much happens, and it reads again."""
    person = await api.user()
    topic = api.hub.runner.topics.get("tasks", person.user.id)
    async with page(api, person, max_queue=1) as viewer:
        place = (await viewer.ask("subscribe", topic="tasks"))["offset"]
        viewer.socket.transport.pause_reading()
        [seat] = seats(api, person)
        while not seat.subscriber.behind:
            topic.publish("updated", {"id": "x", "message": "x" * 50_000}, "now")
            await asyncio.sleep(0)
        behind = topic.offset
        for number in range(500):
            topic.publish("progressed", {"id": "one", "progress": number}, "now", "one")
        viewer.socket.transport.resume_reading()
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while place < topic.offset:
                event = await viewer.hear()
                first = event["data"]["first"] if event["type"] == "merged" else event["offset"]
                assert first == place + 1
                place = event["offset"]
                seen.append(event)
        assert seen[-1]["data"]["progress"] == 499
        assert sum(event["offset"] > behind for event in seen) < 10


async def test_fault_25_a_herd_comes_back_with_its_cursors_and_costs_no_reading(api: Api) -> None:
    """P15: two hundred at once, each told what it missed; bench/fanout.py sends five thousand."""
    person, model = await api.user(), api.offer_model()
    video = (await person.upload_video())["id"]
    async with page(api, person) as viewer:
        reply = await viewer.ask("subscribe", topic="tasks")
    at = f"{reply['epoch']}:{reply['offset']}"
    task = await person.create(model, video)
    api.hub.rooms.audience.most, most = 300, api.hub.rooms.audience.most
    asked, store = 0, api.hub.rooms.store
    page_of = store.page

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += arguments[0].__name__ == "Task"
        return await page_of(*arguments, **options)

    store.page = counted  # type: ignore[method-assign]
    try:
        async def come() -> None:
            async with page(api, person) as again:
                told = await again.ask("subscribe", topic="tasks", after=at)
                assert told["recovered"] and [event["data"]["id"] for event in told["events"]] == [task["id"]]

        await asyncio.gather(*(come() for _ in range(200)))
    finally:
        store.page = page_of  # type: ignore[method-assign]
        api.hub.rooms.audience.most = most
    assert asked == 0
    await eventually(lambda: not seats(api, person))
