"""The hub stops (P15), and what a start finds afterwards."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from hub.__main__ import Hub
from tests.handlers.fake_worker import worker
from tests.handlers.running import Api, Place, fine, running_hub, settings_for, small_video
from tests.handlers.test_live import page

pytestmark = pytest.mark.mongo


@pytest.mark.usefixtures("fast")
async def test_p15_stopping_tells_everybody_to_come_back(place: Place) -> None:
    """P15: 1012 to workers and pages, the port is closed, and soon; what was accepted is there after the start."""
    async with running_hub(place) as hub:
        api = Api(hub, place.folder)
        person = await api.user()
        video = await person.upload_video()
        async with worker(api) as maker, page(api, person) as viewer, page(api) as stranger, api.connection() as idle:
            running = await person.create(maker.model, video["id"])
            assign = await maker.take()
            waiting = await person.create(maker.model, video["id"])
            idle[1].write(
                f"POST /api/videos HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
                "Content-Type: video/mp4\r\nContent-Length: 1000000\r\n\r\n".encode() + bytes(400_000)
            )
            since = perf_counter()
            await hub.stop()
            assert perf_counter() - since < 5
            assert (await maker.closed())[0] == 1012
            assert await viewer.closed() == await stranger.closed() == 1012
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", hub.port)
        await hub.stop()
        again = Hub(settings_for(place.folder), hub.rooms.store)
        await again.start()
        try:
            api.hub = again
            assert not [name for name in api.files() if ".incoming" in name]
            states = {task["id"]: task["state"] for task in (await person.get("/api/tasks"))["items"]}
            assert states == {running["id"]: "processing", waiting["id"]: "waiting"}
            assert (await api("GET", video["content_url"])).body == small_video()
            maker.api = api
            assert not (await maker.join(running=[assign.lease])).resumed
            await maker.finish(assign)
            assert (await person.get(f"/api/tasks/{running['id']}"))["state"] == "completed"
            assert fine(await api("GET", "/readyz"))["workers"] == 1
            await maker.leave()
        finally:
            await again.stop()
            api.close()
