"""Previews: a worker is told that somebody looks, its pictures reach who looks, and nobody else pays for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

import hub.watching
from hub.messages import Assign, Problem, Watching
from hub.previews import LARGEST
from tests.handlers.fake_worker import FakeWorker, worker
from tests.handlers.running import PATIENCE_S, Api, Person, eventually, fine, one_loop, refused
from tests.handlers.test_live import Page, page
from tests.handlers.test_live_ways import poll, stream

pytestmark = one_loop

JPEG, WEBP = b"\xff\xd8\xff\xe0 a small picture", b"RIFF\x10\0\0\0WEBPVP8 another"


def preview(lease: str, kind: str = "original", image: bytes = JPEG, **fields: Any) -> bytes:
    header = json.dumps({"lease": lease, "kind": kind, **fields}).encode()
    return b"\x01" + len(header).to_bytes(4, "big") + header + image


async def running(person: Person, maker: FakeWorker) -> tuple[str, Assign]:
    """A task that the worker works on: its id and the assignment."""
    task = await person.create(maker.model)
    return task["id"], await maker.take()


async def picture(socket: ClientConnection) -> tuple[dict[str, Any], bytes]:
    """The next binary message to a page; its header and the picture."""
    async with asyncio.timeout(PATIENCE_S):
        while isinstance(raw := await socket.recv(), str):
            continue
    assert raw[:1] == b"\x01"
    size = int.from_bytes(raw[1:5], "big")
    return json.loads(raw[5:5 + size]), raw[5 + size:]


async def looking(viewer: Page, maker: FakeWorker, task: str) -> Watching:
    """The page looks; what the worker is told."""
    assert (await viewer.ask("subscribe", topic=f"task:{task}"))["type"] == "subscribed"
    return await maker.expect(Watching)


@pytest.mark.usefixtures("fast")
async def test_a_picture_reaches_who_looks(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker, page(api, person) as viewer:
        task, assign = await running(person, maker)
        assert await looking(viewer, maker, task) == Watching(lease=assign.lease, on=True, n=maker.seen, ack=2)
        await maker.socket.send(preview(assign.lease, "mask", WEBP, frame=7))
        header, image = await picture(viewer.socket)
        assert image == WEBP
        assert {name: header[name] for name in ("type", "topic", "id", "attempt", "kind", "frame", "content_type")} == {
            "type": "preview", "topic": f"task:{task}", "id": task, "attempt": 1, "kind": "mask", "frame": 7,
            "content_type": "image/webp",
        }
        async with page(api, person) as later:
            await later.ask("subscribe", topic=f"task:{task}")
            assert (await picture(later.socket))[1] == WEBP, "who comes later is shown the last one"


async def test_a_worker_is_told_when_the_last_one_has_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.watching, "LINGER_S", 0.0)
    person = await api.user()
    async with worker(api) as maker:
        async with page(api, person) as viewer:
            task, assign = await running(person, maker)
            await looking(viewer, maker, task)
            await maker.socket.send(preview(assign.lease))
            await picture(viewer.socket)
        assert not (await maker.expect(Watching)).on
        assert api.hub.runner.topic(task).pictures == {}
        await maker.socket.send(preview(assign.lease))
        await maker.tell(assign, 50)
        await eventually(lambda: api.hub.runner.core.tasks[task].progress == 50)
        assert api.hub.runner.topic(task).pictures == {}, "without a viewer it costs nothing"


async def test_more_than_two_a_second_are_dropped(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker, page(api, person) as viewer:
        task, assign = await running(person, maker)
        await looking(viewer, maker, task)
        for number in range(50):
            await maker.socket.send(preview(assign.lease, frame=number))
        await maker.tell(assign, 50)
        shown = 0
        while isinstance(raw := await viewer.socket.recv(), bytes) or json.loads(raw)["type"] != "progressed":
            shown += isinstance(raw, bytes)
        assert 3 <= shown <= 8


async def test_foreign_late_and_broken_pictures_reach_nobody(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker, worker(api) as other, page(api, person) as viewer:
        task, assign = await running(person, maker)
        await looking(viewer, maker, task)
        await other.socket.send(preview(assign.lease))
        await maker.socket.send(preview("no such lease"))
        for broken in (
            b"\x01", b"\x01\0\0\0\x02{}", preview(assign.lease, image=b"GIF89a"), preview(assign.lease, "face"),
            b"\x01\xff\xff\xff\xff{}", preview(assign.lease, image=JPEG + bytes(LARGEST)),
        ):
            await maker.socket.send(broken)
            assert (await maker.expect(Problem)).code == "bad_preview"
        assert api.hub.runner.topic(task).pictures == {}


async def test_workers_and_viewers_without_a_websocket_have_previews_too(api: Api) -> None:
    person, stranger = await api.user(), await api.user()
    async with worker(api) as maker:
        task, assign = await running(person, maker)
        topic = f"task:{task}"
        async with stream(api, f"/api/live/stream?topics={topic}", person.token) as heard:
            await heard.hear()
            await maker.expect(Watching)
            sent = preview(assign.lease, "composite", frame=3)
            fine(await api("POST", "/api/workers/previews", sent, token=maker.token), 204)
            event = await heard.hear()
            assert (event["type"], event["data"]["kind"], event["data"]["frame"]) == ("preview", "composite", 3)
            got = await api("GET", event["data"]["url"])
            assert (got.status, got.headers["content-type"], got.body) == (200, "image/jpeg", JPEG)
            [polled] = (await poll(person, topic))["previews"]
            assert polled["data"]["number"] == event["data"]["number"]
            path = f"/api/tasks/{task}/previews/composite"
            assert (await person("GET", path)).body == JPEG
            refused(await stranger("GET", path), 404, "not_found")
            refused(await api("GET", path), 401, "unauthorized")
            refused(await api("GET", path + "?expires=99999999999&signature=x"), 403, "link_invalid")
            refused(await api("POST", "/api/workers/previews", sent, token=person.token), 403, "forbidden")
            refused(await api("POST", "/api/workers/previews", b"x", token=maker.token), 422, "invalid")
            refused(await api("POST", "/api/workers/previews", bytes(LARGEST + 1), token=maker.token), 413, "too_large")


async def test_pictures_that_come_between_two_polls_are_in_the_next_one(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await running(person, maker)
        topic = f"task:{task}"
        cursor = (await poll(person, topic))["cursor"]
        held = asyncio.create_task(poll(person, topic, cursor=cursor, wait=20))
        assert (await maker.expect(Watching)).on
        for kind in ("original", "mask", "composite"):
            await maker.socket.send(preview(assign.lease, kind, frame=3))
        assert [event["data"]["frame"] for event in (await held)["previews"]] in ([3], [3] * 2, [3] * 3)
        await eventually(lambda: len(api.hub.runner.topic(task).pictures) == 3)
        shown = (await poll(person, topic, cursor=cursor))["previews"]
        assert {event["data"]["kind"] for event in shown} == {"original", "mask", "composite"}
