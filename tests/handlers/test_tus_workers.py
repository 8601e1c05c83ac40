"""Resumable uploads of workers: under a lease, with the SDK, and never under another."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from pathlib import Path
from typing import Any

from hub.media import Media
from hub.messages import Assign
from tests.handlers.fake_worker import FakeWorker, worker
from tests.handlers.running import Api, Person, fine, metadata, one_loop, refused
from tests.handlers.tus import BYTES, TUS, incoming, offset_of, patch
from worker.files import Wire, upload

pytestmark = one_loop
CONTENT = random.Random(11).randbytes(9_000_000)


async def processing(api: Api, person: Person, maker: FakeWorker) -> tuple[dict[str, Any], Assign]:
    """A task that this worker has taken."""
    task = await person.create(maker.model)
    return task, await maker.take()


async def create(api: Api, url: str, purpose: str = "result") -> str:
    answer = await api("POST", url, b"", {
        **TUS, "Upload-Length": str(len(CONTENT)), "Upload-Metadata": metadata(purpose=purpose),
    })
    fine(answer, 201)
    return answer.headers["location"]


async def test_the_sdk_sends_a_large_result(api: Api, tmp_path: Path) -> None:
    source = tmp_path / "result.mp4"
    source.write_bytes(CONTENT)
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await processing(api, person, maker)
        seen: list[int] = []
        wire = Wire(threading.Event(), lambda done, total: seen.append(done))
        url = api.hub.url + assign.upload_url
        sent = await asyncio.to_thread(upload, url, source, "r.mp4", "video/mp4", "result", wire)
        assert sent.sha256 == hashlib.sha256(CONTENT).hexdigest() and seen[-1] == len(CONTENT)
        record = await api.hub.rooms.store.get(Media, sent.id)
        assert record is not None and (record.task_id, record.owner, record.size, record.md5) == (
            task["id"], person.user.id, len(CONTENT), None,
        )


async def test_a_workers_upload_goes_on_under_its_lease_and_under_no_other(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker, worker(api) as other:
        task, assign = await processing(api, person, maker)
        _, foreign = await processing(api, await api.user(), other)
        url = await create(api, assign.upload_url)
        fine(await patch(api, url, 0, CONTENT[:1000]), 204)
        assert await offset_of(api, url) == 1000
        assert fine(await api("GET", url))["state"] == "receiving"
        id, _, job = url.rpartition("/")[2].partition("?")
        elsewhere = f"/api/uploads/{id}?{foreign.upload_url.partition('?')[2]}"
        refused(await patch(api, elsewhere, 1000, b"x"), 404, "not_found")
        refused(await api("DELETE", elsewhere, None, TUS), 404, "not_found")
        refused(await person("PATCH", f"/api/uploads/{id}", b"x", {**BYTES, "Upload-Offset": "1000"}), 404, "not_found")
        refused(await person("GET", f"/api/uploads/{id}"), 404, "not_found")
        refused(await patch(api, f"/api/uploads/{id}?job=x.y", 1000, b"x"), 401, "job_token_invalid")
        fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
        refused(await patch(api, url, 1000, CONTENT[1000:]), 409, "lease_lost")
        assert any(id in name for name in incoming(api))
        await api.hub.rooms.receptions.expire()
        assert not any(id in name for name in incoming(api))  # nobody can go on with it any more
        assert job


async def test_what_a_worker_may_send(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        _, assign = await processing(api, person, maker)
        for purpose in ("result", "mask", "foreground", "preview"):
            assert await create(api, assign.upload_url, purpose)
        told = {**TUS, "Upload-Length": "1", "Upload-Metadata": metadata(purpose="video")}
        refused(await api("POST", assign.upload_url, b"", told), 400, "bad_metadata")
        assert (await person.get("/api/uploads/limits"))["uploads"]["used"] == 0
