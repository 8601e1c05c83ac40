"""Live topics without a websocket: long polls, server-sent events, and changing between them in mid-stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from tests.handlers.fake_worker import worker
from tests.handlers.running import PATIENCE_S, Api, Person, eventually, fine, one_loop, refused
from tests.handlers.test_live import cursor, page

pytestmark = [one_loop, pytest.mark.usefixtures("fast")]


async def poll(person: Person, topics: str = "tasks", **query: Any) -> dict[str, Any]:
    """One long poll."""
    asked = "".join(f"&{name}={quote(str(value))}" for name, value in query.items())
    answer: dict[str, Any] = await person.get(f"/api/live?topics={topics}{asked}")
    return answer


class Stream:
    """A stream of server-sent events, as EventSource reads it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self.last_id = ""
        self.status = 0

    async def begin(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        self.status = int(head.split()[1])
        assert self.status != 200 or b"text/event-stream" in head

    async def line(self) -> str:
        """One line of the stream, out of its chunks."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self.reader.readline()).decode().rstrip("\r\n")

    async def hear(self) -> dict[str, Any]:
        """The next event; "" once the stream has ended."""
        while True:
            line = await self.line()
            if line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("data: "):
                heard: dict[str, Any] = json.loads(line[6:])
                return heard


@asynccontextmanager
async def stream(api: Api, path: str, token: str = "", last_id: str = "") -> AsyncIterator[Stream]:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Last-Event-ID: {last_id}"] if last_id else []
    async with api.connection("\r\n".join([*lines, "", ""])) as (reader, _):
        opened = Stream(reader)
        await opened.begin()
        yield opened


async def a_task(api: Api) -> tuple[Person, str, dict[str, Any]]:
    """Somebody with a video and one waiting task; the model."""
    person, model = await api.user(), api.offer_model()
    return person, model, await person.create(model)


# --- long polls -------------------------------------------------------------------------------------------------


async def test_p10_a_poll_tells_where_things_stand_and_the_next_what_has_come(api: Api) -> None:
    person, model, task = await a_task(api)
    first = await poll(person)
    [mine] = first["topics"]
    assert (mine["recovered"], [item["id"] for item in mine["snapshot"]["items"]]) == (False, [task["id"]])
    assert first["cursor"] == cursor(mine)
    waiting = asyncio.create_task(poll(person, cursor=first["cursor"], wait=20))
    await eventually(lambda: bool(api.hub.runner.topics.get("tasks", person.user.id).viewers))
    another = await person.create(model, task["video"]["id"])
    [mine] = (await waiting)["topics"]
    assert (mine["recovered"], [event["data"]["id"] for event in mine["events"]]) == (True, [another["id"]])


async def test_p10_a_poll_of_many_topics_takes_their_cursors_joined_in_any_order(api: Api) -> None:
    person, model, task = await a_task(api)
    names = f"tasks,task:{task['id']}"
    both = await poll(person, names)
    assert both["cursor"].count(",") == 1
    quiet = await poll(person, names, cursor=both["cursor"], wait=0.05)
    assert quiet["cursor"] == both["cursor"]
    assert [(each["recovered"], each["events"]) for each in quiet["topics"]] == [(True, [])] * 2
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    turned = ",".join(reversed(both["cursor"].split(",")))
    heard = await poll(person, names, cursor=turned, wait=20)
    assert [[event["type"] for event in each["events"]] for each in heard["topics"]] == [["cancelled"]] * 2


@pytest.mark.parametrize("query", ["", "wait=-1", "wait=nan", "wait=x", "wait=" + "1" * 400])
async def test_row_116_what_a_poll_cannot_mean_is_refused(api: Api, query: str) -> None:
    person = await api.user()
    topics = "tasks" if query else ""
    refused(await person("GET", f"/api/live?topics={topics}&{query}"), 400, "bad_query")


async def test_row_116_a_poll_that_would_wait_for_ever_waits_a_minute(api: Api) -> None:
    from handlers.live_poll import LONGEST_WAIT_S, seconds
    assert (seconds("1e9"), seconds("0.5")) == (LONGEST_WAIT_S, 0.5)


async def test_a_poll_needs_a_token_and_finds_nothing_foreign(api: Api) -> None:
    person, _, task = await a_task(api)
    other = await api.user()
    refused(await api("GET", "/api/live?topics=tasks"), 401, "unauthorized")
    refused(await other("GET", f"/api/live?topics=tasks,task:{task['id']}"), 404, "not_found")
    refused(await person("GET", "/api/live?topics=admin"), 404, "not_found")


async def test_row_118_polls_that_are_dropped_leave_nothing(api: Api) -> None:
    person = await api.user()
    at = (await poll(person))["cursor"]
    before = len(api.hub.runner.viewers)
    ask = (
        f"GET /api/live?topics=tasks&cursor={at}&wait=50 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {person.token}\r\n\r\n"
    )
    for _ in range(4):
        ends = [await asyncio.open_connection("127.0.0.1", api.hub.port) for _ in range(50)]
        for _, writer in ends:
            writer.write(ask.encode())
        await eventually(lambda: len(api.hub.runner.viewers) > before)
        for _, writer in ends:
            writer.transport.abort()
        await eventually(lambda: len(api.hub.runner.viewers) == before)
    assert not api.hub.runner.topics.get("tasks", person.user.id).viewers
    assert api.hub.rooms.audience.count[person.user.id] == 0


async def test_a_task_s_events_can_be_asked_for_by_its_id(api: Api) -> None:
    person, _, task = await a_task(api)
    path = f"/api/tasks/{task['id']}/events"
    now = await person.get(path)
    assert (now["recovered"], now["snapshot"]["id"], now["cursor"]) == (False, task["id"], task["cursor"])
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    missed = await person.get(f"{path}?after={task['cursor']}&wait=5")
    assert [event["type"] for event in missed["events"]] == ["cancelled"]
    stranger = await api.user()
    refused(await stranger("GET", path), 404, "not_found")
    async with stream(api, path, person.token, last_id=task["cursor"]) as heard:
        opening = await heard.hear()
        assert opening["recovered"] and [event["type"] for event in opening["events"]] == ["cancelled"]
        assert heard.last_id == missed["cursor"]


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The next answer on a connection."""
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].split()[0])
        return int(head.split()[1]), json.loads(await reader.readexactly(size))


async def test_a_connection_that_polls_serves_every_other_request_too(api: Api) -> None:
    """As browsers do it, and proxies that carry many people's requests over one connection."""
    person, model, task = await a_task(api)
    other = await api.user()

    def ask(path: str, whose: Person = person, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {whose.token}\r\n{more}\r\n".encode()

    async with api.connection(ask("/api/live?topics=tasks")) as (reader, writer):
        _, first = await answer(reader)
        at = first["cursor"]
        for _ in range(3):
            created = await person.create(model, task["video"]["id"])
            writer.write(ask(f"/api/live?topics=tasks&cursor={quote(at)}&wait=20"))
            status, told = await answer(reader)
            assert (status, [event["data"]["id"] for event in told["topics"][0]["events"]]) == (200, [created["id"]])
            at = told["cursor"]
        writer.write(ask(f"/api/live?topics=tasks&cursor={at}&wait=20"))
        await asyncio.sleep(0)
        another = await person.create(model, task["video"]["id"])
        _, told = await answer(reader)
        assert told["topics"][0]["events"][0]["data"]["id"] == another["id"]
        at = told["cursor"]
        writer.write(ask("/api/live?topics=tasks", other))
        _, told = await answer(reader)
        assert told["topics"][0]["snapshot"] == {"items": []}, "another token is another user"
        writer.write(ask("/api/auth/me") + ask(f"/api/live?topics=tasks&cursor={at}&wait=0.05"))
        _, me = await answer(reader)
        assert me["user"]["id"] == person.user.id
        _, told = await answer(reader)
        assert (told["cursor"], told["topics"][0]["events"]) == (at, [])
        for bad in ("topics=tasks&wait=nan", "topics=", "topics=task:x", "topics=%ff"):
            writer.write(ask(f"/api/live?{bad}"))
            assert (await answer(reader))[0] == (404 if bad == "topics=task:x" else 400), bad
        writer.write(ask(f"/api/live?topics=tasks&cursor={at}"))
        assert (await answer(reader))[1]["cursor"] == at
    await eventually(lambda: api.hub.rooms.audience.count[person.user.id] == 0)


async def test_a_poll_after_more_than_is_kept_begins_anew(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person, _, task = await a_task(api)
    ask = (
        "GET /api/live?topics=tasks&cursor={}&wait=5 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {person.token}\r\n\r\n"
    )
    async with api.connection(ask.format("")) as (reader, writer):
        _, first = await answer(reader)
        topic = api.hub.runner.topics.get("tasks", person.user.id)
        for _ in range(1100):
            topic.publish("updated", {"id": task["id"]}, "now")
        await eventually(lambda: not any(viewer.behind for viewer in topic.viewers))
        writer.write(ask.format(first["cursor"]).encode())
        _, told = await answer(reader)
        assert not told["topics"][0]["recovered"]
        assert told["cursor"] == topic.cursor


# --- server-sent events -----------------------------------------------------------------------------------------


async def test_p10_a_stream_tells_where_things_stand_and_goes_on(api: Api) -> None:
    person, model, task = await a_task(api)
    async with stream(api, f"/api/live/stream?topics=tasks,task:{task['id']}", person.token) as heard:
        mine, own = await heard.hear(), await heard.hear()
        assert [item["id"] for item in mine["snapshot"]["items"]] == [task["id"]] == [own["snapshot"]["id"]]
        assert heard.last_id == f"{cursor(mine)},{cursor(own)}"
        fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
        told = sorted([await heard.hear(), await heard.hear()], key=lambda event: len(event["topic"]))
        assert [(event["type"], event["topic"]) for event in told] == [
            ("cancelled", "tasks"), ("cancelled", f"task:{task['id']}"),
        ]
        assert sorted(heard.last_id.split(",")) == sorted(map(cursor, told))
        last = heard.last_id
    another = await person.create(model, task["video"]["id"])
    async with stream(api, f"/api/live/stream?topics=tasks,task:{task['id']}", person.token, last) as heard:
        mine, own = await heard.hear(), await heard.hear()
        assert mine["recovered"] and [event["data"]["id"] for event in mine["events"]] == [another["id"]]
        assert own["recovered"] and own["events"] == []


async def test_p10_a_client_changes_its_transport_in_mid_stream_and_misses_nothing(api: Api) -> None:
    """P9, P10: the cursor of one transport is good on every other."""
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        topic = f"task:{task['id']}"
        assign = await maker.take()
        seen: list[dict[str, Any]] = []
        at = task["cursor"]
        for percent in (10, 20, 30, 40, 50, 60):
            await maker.tell(assign, percent)
            for way in ("socket", "poll", "stream"):
                if way == "socket":
                    async with page(api, person) as viewer:
                        told = await viewer.ask("subscribe", topic=topic, after=at)
                elif way == "poll":
                    [told] = (await poll(person, topic, cursor=at))["topics"]
                else:
                    async with stream(api, f"/api/live/stream?topics={topic}", person.token, at) as heard:
                        told = await heard.hear()
                assert told["recovered"]
                seen += told["events"]
                at = cursor(told)
        await maker.finish(assign)
        while seen[-1]["type"] != "completed":
            [told] = (await poll(person, topic, cursor=at, wait=10))["topics"]
            seen, at = seen + told["events"], cursor(told)
        first = int(task["cursor"].rpartition(":")[2]) + 1
        assert [event["offset"] for event in seen] == list(range(first, first + len(seen)))


async def test_a_stream_is_opened_by_a_ticket_and_only_once(api: Api) -> None:
    person = await api.user()
    issued = fine(await person("POST", "/api/live/ticket", b""), 201)
    assert issued["expires_in"] == 30
    path = f"/api/live/stream?topics=tasks&ticket={issued['ticket']}"
    async with stream(api, path) as heard:
        assert (await heard.hear())["topic"] == "tasks"
    refused(await api("GET", path), 401, "unauthorized")
    refused(await api("GET", "/api/live/stream?topics=tasks"), 401, "unauthorized")
    refused(await api("GET", "/api/live/stream", headers={"Authorization": f"Bearer {person.token}"}), 400, "bad_query")
    evil = {"Origin": "https://evil.test", "Authorization": f"Bearer {person.token}"}
    refused(await api("GET", "/api/live/stream?topics=tasks", headers=evil), 403, "forbidden")


async def test_a_ticket_opens_a_websocket_too_and_ends_with_its_session(api: Api) -> None:
    person = await api.user()
    ticket = fine(await person("POST", "/api/live/ticket", b""), 201)["ticket"]
    async with page(api, query=f"?ticket={ticket}") as viewer:
        assert (await viewer.ask("subscribe", topic="tasks"))["snapshot"] == {"items": []}
        left_over = fine(await person("POST", "/api/live/ticket", b""), 201)["ticket"]
        fine(await person("POST", "/api/auth/logout", b""), 204)
        assert await viewer.closed() == 4401
    refused(await api("GET", f"/api/live/stream?topics=tasks&ticket={left_over}"), 401, "unauthorized")


async def test_a_stream_says_why_it_ends(api: Api) -> None:
    person = await api.user()
    async with stream(api, "/api/live/stream?topics=tasks", person.token) as heard:
        await heard.hear()
        fine(await person("POST", "/api/auth/logout", b""), 204)
        last = await heard.hear()
        assert (last["type"], last["code"]) == ("farewell", 4401)
        assert await heard.line() == ""


async def test_a_waiting_poll_is_answered_when_its_session_ends(api: Api) -> None:
    person = await api.user()
    at = (await poll(person))["cursor"]
    waiting = asyncio.create_task(person("GET", f"/api/live?topics=tasks&cursor={at}&wait=50"))
    await eventually(lambda: bool(api.hub.runner.topics.get("tasks", person.user.id).viewers))
    fine(await person("POST", "/api/auth/logout", b""), 204)
    refused(await waiting, 401, "unauthorized")
