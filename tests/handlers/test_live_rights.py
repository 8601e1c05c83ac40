"""Who may go on looking: rights that are taken away end what is open, and nobody takes more than a share."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace
from websockets.exceptions import InvalidStatus

import handlers.audience
from hub.account import User
from hub.effects import Delete, Save
from hub.ids import new_id
from tests.handlers.running import PATIENCE_S, Api, Person, eventually, fine, one_loop, refused
from tests.handlers.test_live import page
from tests.handlers.test_live_ways import poll, stream

pytestmark = one_loop


async def change(api: Api, person: Person, **fields: Any) -> None:
    """Another process changes a user's record: this hub is not told."""
    store = api.hub.rooms.store
    user = await store.get(User, person.user.id)
    assert user is not None
    await store.commit([Save(replace(user, version=user.version + 1, **fields), user.version)])


async def disable(api: Api, person: Person) -> None:
    await change(api, person, disabled=True, token_epoch=1)


async def delete(api: Api, person: Person) -> None:
    await api.hub.rooms.store.commit([Delete(User, person.user.id)])


@pytest.mark.parametrize("end", [disable, delete])
async def test_p16_who_is_shut_out_sees_nothing_more_on_any_way(api: Api, end: Any) -> None:
    person = await api.user()
    at = (await poll(person))["cursor"]
    waiting = asyncio.create_task(person("GET", f"/api/live?topics=tasks&cursor={at}&wait=50"))
    async with page(api, person) as viewer, stream(api, "/api/live/stream?topics=tasks", person.token) as heard:
        await viewer.ask("subscribe", topic="tasks")
        await heard.hear()
        await eventually(lambda: len(api.hub.runner.topics.get("tasks", person.user.id).viewers) == 3)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await end(api, person)
        assert await viewer.closed() == 4401
        assert (await heard.hear())["code"] == 4401
        refused(await waiting, 401, "unauthorized")
        assert loop.time() - began < PATIENCE_S
    await eventually(lambda: not api.hub.runner.topics.get("tasks", person.user.id).viewers)


async def test_p16_an_admin_who_is_none_any_more_loses_the_admins_topic(api: Api) -> None:
    admin, person = await api.user("admin"), await api.user()
    async with page(api, admin) as viewer, page(api, admin) as modest:
        every = await viewer.ask("subscribe", topic="admin")
        assert every["type"] == "subscribed"
        await modest.ask("subscribe", topic="tasks")
        task = await person.create(api.offer_model())
        [created] = await viewer.events("created")
        assert (created["data"]["id"], created["data"]["owner"]) == (task["id"], person.user.id)
        again = (await poll(admin, "admin"))["topics"][0]["snapshot"]["items"]
        assert (again[0]["id"], again[0]["owner"]) == (task["id"], person.user.id)
        await change(api, admin, role="user")
        assert await viewer.closed() == 4403
        assert (await modest.ask("ping"))["type"] == "pong"


async def test_row_113_many_sockets_of_one_user_are_too_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.hub.rooms.audience, "most", 3)
    person, other = await api.user(), await api.user()
    proof = {"additional_headers": {"Authorization": f"Bearer {person.token}"}}
    async with page(api, person) as first, page(api, None, **proof) as second:
        async with stream(api, "/api/live/stream?topics=tasks", person.token) as heard:
            await heard.hear()
            async with page(api) as fourth:
                reply = await fourth.ask("auth", token=person.token)
                assert (reply["type"], reply["code"]) == ("error", "rate_limited")
                assert await fourth.closed() == 4429
            with pytest.raises(InvalidStatus) as answer:
                async with page(api, None, **proof):
                    pass
            assert answer.value.response.status_code == 429
            refused(await person("GET", "/api/live?topics=tasks"), 429, "rate_limited")
            refused(await person("GET", "/api/live/stream?topics=tasks"), 429, "rate_limited")
            async with page(api, other) as another:
                assert (await another.ask("ping"))["type"] == "pong"
        await eventually(lambda: api.hub.rooms.audience.count[person.user.id] == 2)
        assert (await second.ask("ping"))["type"] == (await first.ask("ping"))["type"] == "pong"
        assert (await poll(person))["topics"][0]["type"] == "subscribed"


async def test_one_that_asks_and_asks_is_slowed_down_and_nothing_is_lost(api: Api) -> None:
    person, other = await api.user(), await api.user()
    async with page(api, person) as eager, page(api, other) as calm:
        for number in range(400):
            await eager.socket.send(json.dumps({"type": "ping", "id": number}))
        assert (await calm.ask("ping"))["type"] == "pong"
        assert [(await eager.hear())["id"] for _ in range(400)] == list(range(400))


async def test_tickets_are_bounded_and_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await api.user()
    api.hub.rooms.audience.tickets.clear()
    monkeypatch.setattr(handlers.audience, "TICKETS", 1)
    ticket = fine(await person("POST", "/api/live/ticket", b""), 201)["ticket"]
    refused(await person("POST", "/api/live/ticket", b""), 429, "rate_limited")
    until, *rest = api.hub.rooms.audience.tickets[ticket]
    api.hub.rooms.audience.tickets[ticket] = (until - 31, *rest)  # type: ignore[assignment]
    refused(await api("GET", f"/api/live/stream?topics=tasks&ticket={ticket}"), 401, "unauthorized")
    fine(await person("POST", "/api/live/ticket", b""), 201)
    refused(await api("POST", "/api/live/ticket", b""), 401, "unauthorized")


async def test_p15_who_is_sent_away_at_a_restart_is_told_when_to_come_back(api: Api) -> None:
    person = await api.user()
    at = (await poll(person))["cursor"]
    waiting = asyncio.create_task(person("GET", f"/api/live?topics=tasks&cursor={at}&wait=50"))
    async with page(api, person) as viewer, stream(api, "/api/live/stream?topics=tasks", person.token) as heard:
        await heard.hear()
        await eventually(lambda: len(api.hub.runner.topics.get("tasks", person.user.id).viewers) == 2)
        api.hub.runner.close_sockets()
        told = [await viewer.hear(), await heard.hear()]
        assert [(each["type"], each["code"]) for each in told] == [("farewell", 1012)] * 2
        assert all(0 < each["reconnect_after"] <= 30 for each in told)
        assert await viewer.closed() == 1012
        assert int(refused_after(await waiting)) >= 1


def refused_after(answer: Any) -> str:
    refused(answer, 503, "unavailable")
    return str(answer.headers["retry-after"])


async def test_nobody_is_forgotten_in_the_count(api: Api) -> None:
    person = await api.user()
    id = new_id()
    for path in (f"/api/live?topics=task:{id}", f"/api/live/stream?topics=task:{id}", f"/api/tasks/{id}/events"):
        refused(await person("GET", path), 404, "not_found")
    assert (await person("HEAD", "/api/live/stream?topics=tasks")).status == 200
    await eventually(lambda: api.hub.rooms.audience.count[person.user.id] == 0)
