"""Orders one after the other over one connection: as Tornado serves them, and on the bare socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import handlers.base
import handlers.kept_line
from hub.task import Task
from tests.handlers.running import (
    PATIENCE_S, Answer, Api, Ends, Person, Place, eventually, fast, fine, one_loop, refused, running_hub,
)

__all__ = ["fast"]

pytestmark = one_loop
ALIKE = ("date", "content-length", "location")


def request(person: Person, body: bytes, *more: str, path: str = "/api/tasks", method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {person.token}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", *more, "", "",
    ]
    return "\r\n".join(lines).encode() + body


def order(video: str, model: str, **more: Any) -> bytes:
    return json.dumps({"video_id": video, "model": model, **more}).encode()


async def answer(ends: Ends) -> Answer:
    """The next answer on a connection."""
    async with asyncio.timeout(PATIENCE_S):
        head = (await ends[0].readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(first.split()[1]), headers, await ends[0].readexactly(int(headers["content-length"])))


async def ask(ends: Ends, data: bytes) -> Answer:
    ends[1].write(data)
    return await answer(ends)


async def ready(api: Api) -> tuple[Person, str, str]:
    """Somebody with a video, and a model: what an order needs."""
    person = await api.user()
    return person, (await person.upload_video())["id"], api.offer_model()


def kept(api: Api, number: int) -> None:
    """Check how many connections are on their bare sockets."""
    assert len(api.hub.rooms.kept) == number


async def test_orders_follow_each_other_on_one_connection(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    async with api.connection() as ends:
        told = [await ask(ends, request(person, order(video, model, priority=number))) for number in range(5)]
        kept(api, int(fast))
    tasks = [fine(each, 201) for each in told]
    assert [task["priority"] for task in tasks] == [0, 1, 2, 3, 4]
    for each, task in zip(told, tasks, strict=True):
        assert each.headers["location"] == f"/api/tasks/{task['id']}"
        assert (await person.get(f"/api/tasks/{task['id']}"))["priority"] == task["priority"]
        assert {k: v for k, v in each.headers.items() if k not in ALIKE} == {
            "content-type": "application/json; charset=utf-8", "x-content-type-options": "nosniff", "vary": "Origin",
            "cache-control": "no-store", "referrer-policy": "no-referrer",
        }
        assert each.headers["date"].endswith(" GMT")
    await eventually(lambda: not api.hub.rooms.kept)


async def test_p5_the_same_key_is_the_same_task_on_one_connection(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    async with api.connection() as ends:
        await ask(ends, request(person, order(video, model)))
        first = await ask(ends, request(person, order(video, model), "Idempotency-Key: one"))
        again = await ask(ends, request(person, order(video, model), "Idempotency-Key: one"))
        other = await ask(ends, request(person, order(video, model), "Idempotency-Key: two"))
        refused(await ask(ends, request(person, order(video, model, priority=1), "Idempotency-Key: one")), 422,
                "key_reused")
        refused(await ask(ends, request(person, order(video, model), "Idempotency-Key: " + "x" * 201)), 422, "invalid")
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert fine(again, 201)["id"] == fine(first, 201)["id"] != fine(other, 201)["id"]
    assert len((await person.get("/api/tasks"))["items"]) == 3


async def test_what_cannot_be_ordered_is_refused_and_the_connection_serves_on(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    async with api.connection() as ends:
        for _ in range(2):
            fine(await ask(ends, request(person, order(video, model))), 201)
            refused(await ask(ends, request(person, b"{")), 400, "bad_json")
            refused(await ask(ends, request(person, b"")), 400, "bad_json")
            refused(await ask(ends, request(person, b"[" * 60_000)), 400, "bad_json")
            problem = refused(await ask(ends, request(person, order("x", model))), 404, "not_found")
            assert (problem["errors"][0]["pointer"], problem["instance"]) == ("/video_id", "/api/tasks")
            refused(await ask(ends, request(person, order(video, "unheard-of"))), 422, "unknown_model")
            refused(await ask(ends, request(person, order(video, model, state="completed"))), 422, "invalid")
    assert len((await person.get("/api/tasks"))["items"]) == 2


async def test_a_connection_of_orders_serves_every_other_request_too(api: Api, fast: bool) -> None:
    """As proxies do it, which carry many people's requests over one connection."""
    person, video, model = await ready(api)
    other, others_video, _ = await ready(api)
    async with api.connection() as ends:
        first = fine(await ask(ends, request(person, order(video, model))), 201)
        listed = fine(await ask(ends, request(person, b"", method="GET")))
        assert [task["id"] for task in listed["items"]] == [first["id"]]
        second = fine(await ask(ends, request(person, order(video, model))), 201)
        fine(await ask(ends, request(other, order(others_video, model))), 201)
        refused(await ask(ends, request(other, order(video, model))), 404, "not_found")
        cancelled = await ask(ends, request(person, b"", path=f"/api/tasks/{second['id']}/cancel"))
        assert fine(cancelled)["state"] == "cancelled"
        form = request(person, order(video, model)).replace(b"application/json", b"text/plain")
        refused(await ask(ends, form), 415, "unsupported_media_type")
        fine(await ask(ends, request(person, order(video, model), "Accept-Language: zh")), 201)
        problem = refused(await ask(ends, request(person, b"{", "Accept-Language: zh")), 400, "bad_json")
        assert problem["title"] == "请求体不是有效的 JSON"
    assert len((await person.get("/api/tasks"))["items"]) == 3
    assert len((await other.get("/api/tasks"))["items"]) == 1


async def test_p16_a_token_that_is_void_orders_nothing_more(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    async with api.connection() as ends:
        fine(await ask(ends, request(person, order(video, model))), 201)
        fine(await person("POST", "/api/auth/logout"), 204)
        refused(await ask(ends, request(person, order(video, model))), 401, "unauthorized")


async def test_orders_come_in_any_pieces(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    one = request(person, order(video, model))
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        for byte in one[:-1]:
            ends[1].write(bytes([byte]))
            await asyncio.sleep(0)
        fine(await ask(ends, one[-1:]), 201)
        ends[1].write(one * 20 + one[:50])
        for _ in range(20):
            fine(await answer(ends), 201)
        fine(await ask(ends, one[50:]), 201)
        large = request(person, order(video, model) + b" " * 60_000)
        ends[1].write(large * 6)  # more than is read ahead
        for _ in range(6):
            fine(await answer(ends), 201)
        kept(api, int(fast))
    assert await api.hub.rooms.store.count(Task, owner=person.user.id) == 29


@pytest.mark.parametrize("size", range(handlers.kept_line.LARGEST - 50, handlers.kept_line.LARGEST + 101, 25))
async def test_an_order_about_as_large_as_is_read_ahead_is_served(api: Api, size: int) -> None:
    person, video, model = await ready(api)
    small = request(person, order(video, model))
    one = request(person, order(video, model) + b" " * (size - len(small)))
    async with api.connection() as ends:
        fine(await ask(ends, small), 201)
        [line] = api.hub.rooms.kept
        ends[1].write(one[:-10])
        await eventually(lambda: len(line.line.inbox) == len(one) - 10 or not api.hub.rooms.kept)
        fine(await ask(ends, one[-10:]), 201)


@pytest.mark.parametrize("lines", [
    "Content-Length: {n}\r\nContent-Length: {n}1", "Content-Length: {n}\r\nTransfer-Encoding: chunked",
    "Content-Length: +{n}", "Content-Length: -1", "Content-Length : {n}", "Content-Length: {n}\r\nX: a\0b",
    "Content-Length: " + "9" * 5000,
])
async def test_row_05_to_08_unreadable_orders_get_400_and_the_connection_ends(api: Api, fast: bool, lines: str) -> None:
    person, video, model = await ready(api)
    one = request(person, order(video, model))
    head, _, body = one.partition(b"Content-Length: ")
    body = body.partition(b"\r\n\r\n")[2]
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        ends[1].write(head + lines.format(n=len(body)).encode() + b"\r\n\r\n" + body)
        raw = await ends[0].read()
    assert raw.startswith(b"HTTP/1.1 400 ") and raw.count(b"HTTP/1.1 ") == 1
    assert len((await person.get("/api/tasks"))["items"]) == 1


async def test_row_36_a_large_order_is_413_before_it_is_read(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    async with api.connection() as ends:
        fine(await ask(ends, request(person, order(video, model))), 201)
        head, _, _ = request(person, b" " * 400_000).partition(b"\r\n\r\n")
        refused(await ask(ends, head + b"\r\n\r\n"), 413, "too_large")


async def test_row_18_an_order_that_drips_is_cut_off(api: Api, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.base, "BODY_S", 0.3)
    monkeypatch.setattr(handlers.kept_line, "REST_S", 0.3)
    person, video, model = await ready(api)
    one = request(person, order(video, model))
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        ends[1].write(one[:-1])
        assert await ends[0].read() == b""
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        fine(await ask(ends, one), 201)
        ends[1].write(one[:-1])
        assert await ends[0].read() == b""
    kept(api, 0)


async def test_who_is_quiet_for_long_is_let_go(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.kept_line, "QUIET_S", 0.2)
    person, video, model = await ready(api)
    async with api.connection() as ends:
        fine(await ask(ends, request(person, order(video, model))), 201)
        kept(api, 1)
        assert await ends[0].read() == b""
    kept(api, 0)


async def test_who_hangs_up_amid_an_order_leaves_nothing(api: Api) -> None:
    person, video, model = await ready(api)
    one = request(person, order(video, model))
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        ends[1].write(one + one[:-3])
        kept(api, 1)
    await eventually(lambda: not api.hub.rooms.kept)
    async with asyncio.timeout(PATIENCE_S):
        while len((await person.get("/api/tasks"))["items"]) < 2:  # the whole one counts, although nobody hears of it
            await asyncio.sleep(0.01)


async def test_who_does_not_take_the_answers_is_not_read(api: Api) -> None:
    person, video, model = await ready(api)
    one = request(person, order(video, model, options={"note": "x" * 400}))
    async with api.connection() as ends:
        fine(await ask(ends, one), 201)
        for _ in range(100):
            ends[1].write(one * 10)
        [line] = api.hub.rooms.kept
        await eventually(lambda: not line.line.reading)
        for _ in range(1000):
            fine(await answer(ends), 201)
        fine(await ask(ends, one), 201)


async def test_orders_are_counted_like_all_requests(api: Api, fast: bool) -> None:
    person, video, model = await ready(api)
    label = 'hub_requests_total{endpoint="Tasks",method="POST",status="201"}'

    async def counted() -> float:
        text = (await (await api.user("admin"))("GET", "/metrics")).body.decode()
        return float(next((line.split()[-1] for line in text.splitlines() if line.startswith(label)), 0))

    before = await counted()
    async with api.connection() as ends:
        for _ in range(4):
            fine(await ask(ends, request(person, order(video, model))), 201)
    assert await counted() == before + 4


async def test_p15_an_order_under_way_is_answered_when_the_hub_stops(place: Place) -> None:
    async with running_hub(place) as hub:
        api = Api(hub, place.folder)
        person, video, model = await ready(api)
        one = request(person, order(video, model))
        async with api.connection() as ends, api.connection() as idle:
            fine(await ask(ends, one), 201)
            fine(await ask(idle, one), 201)
            [line] = [each for each in hub.rooms.kept if each.line.address == ends[1].get_extra_info("sockname")]
            ends[1].write(one)
            while not line.line.asked:
                await asyncio.sleep(0)  # the hub runs in this loop, and an order takes many turns of it
            await hub.stop()
            told = await answer(ends)
            assert (fine(told, 201)["model"], told.headers["connection"]) == (model, "close")
            assert await ends[0].read() == await idle[0].read() == b""
        api.close()
