"""The same as on any day, over real sockets: a viewer that changes its way again and again is never fooled."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from tests.handlers.running import Api, Person, fine, one_loop
from tests.handlers.test_live import page
from tests.handlers.test_live_any_day import WAYS, Viewer
from tests.handlers.test_live_ways import poll, stream

pytestmark = one_loop
Act = Callable[[], Awaitable[None]]


async def look(api: Api, person: Person, viewer: Viewer, way: str, act: Act, events: int) -> None:
    """Come on one way, hear a few things that happen meanwhile, and go without a word."""
    at = viewer.cursor
    if way == "poll":
        viewer.joined((await poll(person, **({"cursor": at} if at else {})))["topics"][0])
    elif way == "socket":
        async with page(api, person) as socket:
            viewer.joined(await socket.ask("subscribe", topic="tasks", **({"after": at} if at else {})))
            for _ in range(events):
                await act()
                viewer.see(await socket.hear())
            socket.socket.transport.abort()
    else:
        async with stream(api, "/api/live/stream?topics=tasks", person.token, at or "") as heard:
            viewer.joined(await heard.hear())
            for _ in range(events):
                await act()
                viewer.see(await heard.hear())


@pytest.mark.parametrize("seed", range(6))
async def test_p9_p10_a_viewer_that_changes_its_way_ends_with_what_is_stored(api: Api, seed: int) -> None:
    dice, person, model = random.Random(seed), await api.user(), api.offer_model()
    video = (await person.upload_video())["id"]
    viewer, tasks = Viewer(), []

    async def act() -> None:
        """One thing happens, of which one event tells."""
        if not tasks or dice.random() < 0.5:
            tasks.append((await person.create(model, video))["id"])
        else:
            fine(await person("POST", f"/api/tasks/{tasks.pop(dice.randrange(len(tasks)))}/cancel", b""))

    for _ in range(12):
        for _ in range(dice.randrange(3)):
            await act()
        way, events = dice.choice(WAYS), dice.randrange(3)
        await look(api, person, viewer, way, act, events)
    await look(api, person, viewer, "poll", act, 0)
    stored = (await person.get("/api/tasks?limit=200"))["items"]
    assert {id: view["state"] for id, view in viewer.picture.items()} == {view["id"]: view["state"] for view in stored}
