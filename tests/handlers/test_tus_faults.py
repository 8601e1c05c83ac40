"""Uploads while the disk or the database says no: faults 3, 16 and 17, and P12."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import handlers.tus
from hub.errors import DiskFull, Unavailable
from hub.media import Media, Previews
from store.embedded import Embedded
from tests.handlers.running import (
    Api, Place, database_is_back, eventually, fine, metadata, one_loop, refused, small_video,
)
from tests.handlers.tus import BYTES, TUS, begun, create, delete, lives, offset_of, patch, whole
from tests.odd_media import WEBCAM

pytestmark = one_loop
VIDEO = WEBCAM.read_bytes()


async def test_fault_16_a_disk_that_fills_keeps_what_found_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 16: 507, the offset is honest, and the upload goes on once there is room."""
    person = await api.user()
    url = await create(person, len(VIDEO))
    fine(await patch(person, url, 0, VIDEO[:50_000]), 204)
    real = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "write", full)
        refused(await patch(person, url, 50_000, VIDEO[50_000:]), 507, "disk_full")
        assert await offset_of(person, url) == 50_000
    assert os.write is real
    fine(await patch(person, url, 50_000, VIDEO[50_000:]), 204)
    await whole(api, person, url)


async def test_fault_16_what_has_no_room_is_refused_before_it_comes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 71: declared lengths are held against the free disk."""
    person = await api.user()

    async def room() -> tuple[int, int]:
        return 1_000_000, 150_000

    monkeypatch.setattr(api.hub.rooms.files, "room", room)
    async with api.unchanged():
        told = {**TUS, "Upload-Length": str(len(VIDEO)), "Upload-Metadata": metadata(purpose="video")}
        answer = await person("POST", "/api/uploads", b"", told)
        refused(answer, 507, "disk_full")
        assert int(answer.headers["retry-after"]) > 0
        refused(await person.upload(VIDEO), 507, "disk_full")
        assert (await person.get("/api/uploads/limits"))["uploads"]["used"] == 0


async def test_fault_17_a_failed_sync_is_said_once_and_never_acknowledged(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1, fault 17."""
    person = await api.user()
    url = await create(person, len(VIDEO))
    fine(await patch(person, url, 0, VIDEO[:50_000]), 204)

    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as context:
        context.setattr(os, "fdatasync", fail)
        refused(await patch(person, url, 50_000, VIDEO[50_000:100_000]), 503, "unavailable")
    assert await offset_of(person, url) == 50_000
    fine(await patch(person, url, 50_000, VIDEO[50_000:]), 204)
    await whole(api, person, url)


async def test_a_poster_without_room_is_tried_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 16, at the end: the file waits in `checking` until there is room, and is not sent again."""
    monkeypatch.setattr(handlers.tus, "CHECK_S", 0.05)
    person, tries = await api.user(), 0
    real = api.hub.rooms.files.save_previews

    async def save_previews(media_id: str, previews: Previews) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DiskFull("full")
        await real(media_id, previews)

    monkeypatch.setattr(api.hub.rooms.files, "save_previews", save_previews)
    url = await create(person, len(VIDEO))
    fine(await patch(person, url, 0, VIDEO), 204)
    await whole(api, person, url)
    assert tries == 3


async def test_p12_bytes_go_on_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P12: a whole file waits for the database in `checking`; nothing is sent again."""
    monkeypatch.setattr(handlers.tus, "CHECK_S", 0.5)
    (tmp_path / "own").mkdir()
    mongod = Embedded(tmp_path / "own")
    await mongod.start()
    try:
        async with lives(Place(mongod.uri, tmp_path), tmp_path / "hub") as next_life:
            api = await next_life()
            person = await api.user()
            url = await create(person, len(VIDEO))
            async with api.connection(begun(person, url, 0, len(VIDEO))) as (reader, writer):
                writer.write(VIDEO[:1000])
                await eventually(lambda: api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]].size == 1000)
                os.kill(mongod.pid, signal.SIGSTOP)
                try:
                    writer.write(VIDEO[1000:])
                    async with asyncio.timeout(30):
                        assert b" 204 " in await reader.readline()
                finally:
                    os.kill(mongod.pid, signal.SIGCONT)
            await database_is_back(api.hub)
            await whole(api, person, url)
        caplog.clear()  # it may have said that a commit had to wait
    finally:
        await mongod.stop()


@pytest.mark.parametrize("which", [1, 2, 3])
async def test_p3_fault_3_a_commit_that_is_done_and_told_as_failed(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, which: int
) -> None:
    """P3, fault 3: no record twice, none lost, whichever of an upload's commits it is."""
    person, real, commits = await api.user(), api.hub.rooms.store.commit, 0

    async def commit(changes: Any) -> Any:
        nonlocal commits
        outcomes = await real(changes)
        commits += 1
        if commits == which:
            raise Unavailable("the answer was lost")
        return outcomes

    monkeypatch.setattr(api.hub.rooms.store, "commit", commit)
    url = await create(person, len(VIDEO))
    fine(await patch(person, url, 0, VIDEO), 204)
    await whole(api, person, url)
    other = await create(person, 1000)
    fine(await delete(person, other), 204)
    refused(await person("GET", other), 410, "upload_gone")
    assert await api.hub.rooms.store.count(Media, owner=person.user.id) == 1 and commits >= 4
    caplog.clear()  # that a commit had to be repeated


async def test_a_small_file_by_one_request_is_ready_when_it_is_answered(api: Api) -> None:
    person = await api.user()
    sent = {**BYTES, "Upload-Length": str(len(small_video())), "Upload-Metadata": metadata(purpose="video")}
    upload = fine(await person("POST", "/api/uploads", small_video(), sent), 201)
    assert (upload["state"], upload["sha256"]) == ("ready", hashlib.sha256(small_video()).hexdigest())
