"""The live websocket: snapshots, events in order, coming back; rows 104 to 115 of the bad inputs."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import handlers.live
import handlers.sight
from hub.ids import new_id
from tests.handlers.fake_worker import worker
from tests.handlers.running import PATIENCE_S, Answer, Api, Person, eventually, fine, one_loop, refused

pytestmark = [one_loop, pytest.mark.usefixtures("fast")]


class Page:
    """A browser's page with a live socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.asked = 0

    async def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        """The one reply to a message; events that come before it are an error."""
        self.asked += 1
        await self.socket.send(json.dumps({"type": type, "id": self.asked, **fields}))
        reply = await self.hear()
        assert reply["id"] == self.asked, reply
        return reply

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            heard: dict[str, Any] = json.loads(await self.socket.recv())
        assert heard["v"] == 1
        return heard

    async def events(self, until: str) -> list[dict[str, Any]]:
        """What happens up to the first event of this type."""
        heard = [await self.hear()]
        while heard[-1]["type"] != until:
            heard.append(await self.hear())
        return heard

    async def closed(self) -> int:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006


@asynccontextmanager
async def page(api: Api, person: Person | None = None, query: str = "", **options: Any) -> AsyncIterator[Page]:
    """A page, signed in when a person is given."""
    async with connect(api.hub.url.replace("http", "ws") + "/api/live" + query, proxy=None, **options) as socket:
        made = Page(socket)
        if person is not None:
            assert (await made.ask("auth", token=person.token))["type"] == "authed"
        yield made


def cursor(event: dict[str, Any]) -> str:
    return f"{event['epoch']}:{event['offset']}"


# --- what works -------------------------------------------------------------------------------------------------


async def test_p10_a_snapshot_and_then_every_event_in_order(api: Api) -> None:
    """P9, P10: what a page sees of a task, from its creation to its result."""
    person = await api.user()
    async with worker(api) as maker, page(api, person) as viewer:
        mine = await viewer.ask("subscribe", topic="tasks")
        assert (mine["recovered"], mine["snapshot"], mine["events"]) == (False, {"items": []}, [])
        task = await person.create(maker.model)
        [created] = await viewer.events("created")
        assert (created["topic"], created["data"]["id"], created["data"]["state"]) == ("tasks", task["id"], "waiting")
        one = await viewer.ask("subscribe", topic=f"task:{task['id']}")
        assert (one["snapshot"]["state"], cursor(one)) == ("waiting", one["snapshot"]["cursor"])
        assert (await viewer.ask("unsubscribe", topic="tasks"))["type"] == "unsubscribed"
        assign = await maker.take()
        for percent in (10, 20, 90):
            await maker.tell(assign, percent)
        await maker.finish(assign)
        heard = await viewer.events("completed")
        assert [event["offset"] for event in heard] == list(range(one["offset"] + 1, one["offset"] + 1 + len(heard)))
        assert {event["topic"] for event in heard} == {f"task:{task['id']}"}
        assert heard[0]["type"] == "assigned" and heard[0]["data"]["worker"] == maker.name
        shown = [event["data"]["progress"] for event in heard]
        assert shown == sorted(shown) and shown[-1] == 100
        assert heard[-1]["data"]["result"]["video"]["frames"] == 3
        assert heard[-1]["data"]["cursor"] == cursor(heard[-1])
        fine(await person("DELETE", f"/api/tasks/{task['id']}"), 204)
        assert (await viewer.events("deleted"))[-1]["data"] == {"id": task["id"]}


async def test_p10_who_comes_back_gets_what_was_missed_or_is_told_to_start_anew(api: Api) -> None:
    """P10: complete or declined, never partial."""
    person, model = await api.user(), api.offer_model()
    video = (await person.upload_video())["id"]
    async with page(api, person) as viewer:
        seen = cursor(await viewer.ask("subscribe", topic="tasks"))
    missed = [(await person.create(model, video))["id"] for _ in range(3)]
    async with page(api, person) as viewer:
        back = await viewer.ask("subscribe", topic="tasks", after=seen)
        assert (back["recovered"], back["snapshot"]) == (True, None)
        assert [event["data"]["id"] for event in back["events"]] == missed
        assert cursor(back["events"][-1]) == cursor(back)
        assert (await viewer.ask("subscribe", topic="tasks", after=cursor(back)))["events"] == []
    epoch = seen.rpartition(":")[0]
    async with page(api, person) as viewer:
        for unknown in ("old:1", f"{epoch}:4", f"{epoch}:-1", f"{epoch}:{2**63}", f"{epoch}:x", epoch, ":", "", "1"):
            fresh = await viewer.ask("subscribe", topic="tasks", after=unknown)
            assert not fresh["recovered"] and fresh["events"] == [], unknown
            assert [task["id"] for task in fresh["snapshot"]["items"]] == missed[::-1]


async def test_two_pages_see_the_same_and_other_people_nothing(api: Api) -> None:
    person, other = await api.user(), await api.user()
    async with page(api, person) as first, page(api, person) as second, page(api, other) as stranger:
        for viewer in (first, second, stranger):
            await viewer.ask("subscribe", topic="tasks")
        task = await person.create(api.offer_model())
        assert await first.events("created") == await second.events("created")
        assert (await stranger.ask("ping"))["type"] == "pong"
        own = await other.create(api.offer_model())
        [event] = await stranger.events("created")
        assert event["data"]["id"] == own["id"] != task["id"]


async def test_p9_subscribing_again_repeats_nothing(api: Api) -> None:
    """P9: the events told in a reply are not told once more."""
    person, model = await api.user(), api.offer_model()
    video = (await person.upload_video())["id"]
    async with page(api, person) as viewer:
        start = cursor(await viewer.ask("subscribe", topic="tasks"))
        asking = [{"type": "subscribe", "id": f"s{n}", "topic": "tasks", "after": start} for n in range(20)]
        creating = asyncio.gather(*(person.create(model, video) for _ in range(10)))
        for each in asking:
            await viewer.socket.send(json.dumps(each))
            await asyncio.sleep(0.002)
        await creating
        told, live, replies = 0, [], 0
        while replies < 20 or told < 10:
            heard = await viewer.hear()
            if "id" in heard:
                replies += 1
                assert [event["offset"] for event in heard["events"]] == list(range(1, heard["offset"] + 1))
                told = max(told, heard["offset"])
            else:
                assert heard["offset"] == told + 1, "an event came twice or out of order"
                told = heard["offset"]
                live.append(told)
        assert live == sorted(set(live))


# --- the door ---------------------------------------------------------------------------------------------------


async def handshake(api: Api, path: str = "/api/live", **changes: str) -> Answer:
    headers = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **{n.replace("_", "-"): v for n, v in changes.items()},
    }
    return await api("GET", path, headers={name: value for name, value in headers.items() if value})


@pytest.mark.parametrize("origin", [
    "https://evil.test", "null", "https://videos.test.evil.test", "http://videos.test", "https://videos.test:8443",
    "https://xvideos.test", "file://", "http://[",
])
async def test_row_104_a_foreign_page_gets_no_socket(api: Api, origin: str) -> None:
    refused(await handshake(api, Origin=origin), 403, "forbidden")


async def test_pages_of_ours_and_programs_get_a_socket(api: Api) -> None:
    person = await api.user()
    for origin in ("https://videos.test", "https://friend.test", api.hub.url, None):
        async with page(api, person, origin=origin) as viewer:
            assert (await viewer.ask("ping"))["type"] == "pong"


async def test_row_115_what_is_no_handshake_is_426(api: Api) -> None:
    answer = await handshake(api, Sec_WebSocket_Version="8")
    refused(answer, 426, "upgrade_required")
    assert answer.headers["sec-websocket-version"] == "13"
    refused(await handshake(api, Upgrade=""), 426, "upgrade_required")
    refused(await handshake(api, Connection="close"), 426, "upgrade_required")
    refused(await handshake(api, Sec_WebSocket_Key=""), 400, "bad_request")
    refused(await handshake(api, Host="evil.test"), 421, "bad_host")
    refused(await api("POST", "/api/live", b""), 405, "method_not_allowed")


async def test_row_105_without_a_token_there_is_nothing_to_see(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in ({"type": "subscribe", "topic": "tasks"}, {"type": "ping"}, {"type": "auth", "token": "x.y.z"}):
        async with page(api) as viewer:
            reply = await viewer.ask(**first)
            assert (reply["type"], reply["code"]) == ("error", "unauthorized")
            assert await viewer.closed() == 4401
    monkeypatch.setattr(handlers.live, "AUTH_S", 0.1)
    async with page(api) as viewer:
        assert await viewer.closed() == 4401
    with pytest.raises(InvalidStatus):
        async with page(api, origin="https://evil.test"):
            pass


async def test_a_socket_ends_with_the_session_that_opened_it(api: Api) -> None:
    person = await api.user()
    now = api.hub.rooms.clock.wall()
    another, _, _ = api.hub.rooms.tokens.issue(person.user, now)
    lifetime = api.hub.settings.jwt_expires_in
    ending, _, _ = api.hub.rooms.tokens.issue(person.user, now - lifetime + 1)
    async with page(api, person) as viewer, page(api) as other, page(api) as expiring:
        assert (await other.ask("auth", token=another))["type"] == "authed"
        assert (await expiring.ask("auth", token=ending))["type"] == "authed"
        fine(await person("POST", "/api/auth/logout", b""), 204)
        assert await viewer.closed() == 4401
        assert await expiring.closed() == 4401
        assert (await other.ask("ping"))["type"] == "pong"
    account = {"email": f"{new_id()}@test.example", "password": "correct horse"}
    token = fine(await api("POST", "/api/auth/register", json_body=account), 201)["token"]
    async with page(api) as viewer:
        assert (await viewer.ask("auth", token=token))["type"] == "authed"
        change = {"password": "correct horse", "new_password": "another horse"}
        fine(await api("POST", "/api/auth/password", json_body=change, token=token))
        assert await viewer.closed() == 4401


async def test_a_socket_belongs_to_whom_signed_in_first(api: Api) -> None:
    person, other = await api.user(), await api.user()
    async with page(api, person) as viewer:
        assert (await viewer.ask("auth", token=person.token))["type"] == "authed"
        assert (await viewer.ask("auth", token=other.token))["code"] == "forbidden"
        assert (await viewer.ask("subscribe", topic="tasks"))["snapshot"] == {"items": []}


@pytest.mark.parametrize("raw", [
    "", "x", "{}", '{"type":{}}', '{"type":"ping"}', '{"type":"nothing","id":[]}', "[" * 60_000,
    '{"type":"ping","id":[]}',
    '{"type":"subscribe","id":1}', '{"type":"subscribe","id":1,"topic":5}', "null", b"\xff\xfe", b'{"type":"ping"}',
    '{"type":"subscribe","id":1,"topic":"' + "t" * 300 + '"}',
])
async def test_row_109_what_is_no_message_ends_the_connection(api: Api, raw: str | bytes) -> None:
    person = await api.user()
    async with page(api, person) as viewer:
        await viewer.socket.send(raw)
        assert await viewer.closed() == 1008


@pytest.mark.parametrize("fields", [
    {"type": "hello", "protocol": 1, "worker": "w", "instance": "i", "models": []}, {"type": "accept", "offer": "x"},
    {"type": "nothing"},
])
async def test_row_114_an_unknown_message_is_answered_once_and_ignored(api: Api, fields: dict[str, Any]) -> None:
    person = await api.user()
    async with page(api, person) as viewer:
        assert (await viewer.ask(**fields))["code"] == "unknown_message"
        await viewer.socket.send(json.dumps({"id": 7, **fields}))
        assert (await viewer.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("topic", ["task:", "task:x", "task", "admin", "", "tasks:1", "task:*", "\x00", "users"])
async def test_row_110_what_is_not_there_or_another_s_cannot_be_watched(api: Api, topic: str) -> None:
    person, other = await api.user(), await api.user()
    foreign = await other.create(api.offer_model())
    async with page(api, person) as viewer:
        for name in (topic, f"task:{foreign['id']}"):
            reply = await viewer.ask("subscribe", topic=name)
            assert (reply["type"], reply["code"]) == ("error", "not_found")
        assert (await viewer.ask("unsubscribe", topic=topic))["type"] == "unsubscribed"


async def test_row_112_subscriptions_are_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.sight, "SUBSCRIPTIONS", 3)
    person, model = await api.user(), api.offer_model()
    video = (await person.upload_video())["id"]
    tasks = [(await person.create(model, video))["id"] for _ in range(4)]
    async with page(api, person) as viewer:
        replies = [(await viewer.ask("subscribe", topic=f"task:{id}"))["type"] for id in tasks]
        assert replies == ["subscribed"] * 3 + ["error"]
        assert (await viewer.ask("subscribe", topic=f"task:{tasks[0]}"))["type"] == "subscribed"
        await viewer.ask("unsubscribe", topic=f"task:{tasks[0]}")
        assert (await viewer.ask("subscribe", topic=f"task:{tasks[3]}"))["type"] == "subscribed"


def frame(opcode: int, payload: bytes, length: bytes | None = None, first_bits: int = 0x80) -> bytes:
    """One masked frame; `length` replaces the true one."""
    mask = os.urandom(4)
    said = length or (bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload)))
    return bytes([first_bits | opcode]) + said + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(payload))


BROKEN_FRAMES = {
    "106-reserved-opcode": frame(3, b"x"),
    "106-rsv1": frame(1, b"x", first_bits=0xC0),
    "106-long-ping": frame(9, b"x" * 126),
    "106-fragmented-ping": frame(9, b"x", first_bits=0),
    "106-bad-utf8": frame(1, b"\xff\xff"),
    "106-stray-continuation": frame(0, b"x"),
    "107-2^63": frame(1, b"", b"\xff" + struct.pack(">Q", 2**63)),
    "107-64-mb": frame(1, b"", b"\xff" + struct.pack(">Q", 64 * 1024 * 1024)),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
async def test_rows_106_and_107_broken_frames_end_the_connection_at_once(api: Api, name: str) -> None:
    upgrade = (
        "GET /api/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with api.connection(upgrade) as (reader, writer):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(BROKEN_FRAMES[name])
        rest = await reader.read()
    if name.startswith("107"):
        assert rest[:1] == b"\x88" and struct.unpack(">H", rest[2:4]) == (1009,)


async def test_p11_who_leaves_leaves_nothing(api: Api) -> None:
    person = await api.user()
    before = len(api.hub.runner.viewers)
    for _ in range(3):
        async with page(api, person) as viewer:
            await viewer.ask("subscribe", topic="tasks")
            assert len(api.hub.runner.viewers) == before + 1
            viewer.socket.transport.abort()
        await eventually(lambda: len(api.hub.runner.viewers) == before)
    assert not api.hub.runner.topics.get("tasks", person.user.id).viewers


async def test_p11_one_that_never_reads_is_cut_off_and_others_notice_nothing(api: Api) -> None:
    """P11: the hub's own buffers for it stay bounded."""
    person = await api.user()
    async with worker(api) as maker, page(api, person) as lively, page(api, person, max_queue=1) as slow:
        task = await person.create(maker.model)
        for viewer in (lively, slow):
            await viewer.ask("subscribe", topic=f"task:{task['id']}")
        slow.socket.transport.pause_reading()
        topic = api.hub.runner.topic(task["id"])
        rounds = 0
        while len(topic.viewers) > 1:
            for _ in range(50):
                topic.publish("progressed", {"id": task["id"], "message": "x" * 20_000}, "now")
                assert (await lively.hear())["type"] == "progressed"
            rounds += 1
            assert rounds < 2000, "the slow one is never cut off"
        assert (await lively.ask("ping"))["type"] == "pong"
        slow.socket.transport.resume_reading()
        assert await slow.closed() == 4500
