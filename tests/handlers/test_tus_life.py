"""Uploads over time: requests that hang, and a hub that starts anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import handlers.reception
import handlers.uploads
from hub.effects import Save
from hub.media import Media, Purpose
from hub.upload import Upload
from tests.handlers.running import Api, Person, Place, eventually, fine, metadata, one_loop, refused
from tests.handlers.tus import (
    TUS, begun, checksum, create, delete, head, incoming, lives, moved, offset_of, patch, whole,
)
from tests.odd_media import WEBCAM

pytestmark = one_loop
VIDEO = WEBCAM.read_bytes()
SOON_S = 2.0


async def sending(api: Api, person: Person, count: int) -> tuple[str, Any]:
    """An upload of the video whose PATCH hangs after `count` bytes: its address and the connection's context."""
    url = await create(person, len(VIDEO))

    @asynccontextmanager
    async def hanging() -> AsyncIterator[asyncio.StreamReader]:
        async with api.connection(begun(person, url, 0, len(VIDEO))) as (reader, writer):
            writer.write(VIDEO[:count])
            reception = api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]]
            await eventually(lambda: reception.size == count)
            yield reader

    return url, hanging()


# --- a request that hangs ---------------------------------------------------------------------------------------


async def test_p1_asking_makes_a_hanging_request_leave(api: Api) -> None:
    """P1, fault 13: a client whose line was cut asks where it is, and goes on: nothing is locked, nothing is lost."""
    person = await api.user()
    url, hanging = await sending(api, person, 100_001)
    async with hanging as reader:
        async with asyncio.timeout(SOON_S):
            assert await offset_of(person, url) == 100_001
        assert b" 409 " in await reader.readline()
        assert b"upload_resumed" in await reader.read()  # and it hangs up
        fine(await patch(person, url, 100_001, VIDEO[100_001:]), 204)
    await whole(api, person, url)


async def test_a_request_that_goes_on_exactly_makes_it_leave(api: Api) -> None:
    person = await api.user()
    url, hanging = await sending(api, person, 100_001)
    async with hanging as reader:
        async with asyncio.timeout(SOON_S):
            fine(await patch(person, url, 100_001, VIDEO[100_001:150_000]), 204)
        assert b" 409 " in await reader.readline()
    assert await offset_of(person, url) == 150_000
    fine(await patch(person, url, 150_000, VIDEO[150_000:]), 204)
    await whole(api, person, url)


async def test_deleting_makes_it_leave(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        url, hanging = await sending(api, person, 100_001)
        async with hanging as reader:
            async with asyncio.timeout(SOON_S):
                fine(await delete(person, url), 204)
            assert b" 409 " in await reader.readline()


async def test_deleting_at_the_last_byte_leaves_a_file_or_nothing(api: Api) -> None:
    person = await api.user()
    for _ in range(10):
        url = await create(person, len(VIDEO))
        sent, deleted = await asyncio.gather(patch(person, url, 0, VIDEO), delete(person, url))
        assert (sent.status, deleted.status) in {(204, 204), (204, 403), (409, 204), (410, 204), (204, 404)}
        if deleted.status == 204:
            refused(await person("GET", url), 410, "upload_gone")
        else:
            await whole(api, person, url)


@pytest.mark.parametrize("seed", range(3))
async def test_p2_whatever_is_asked_at_once_the_bytes_are_those_sent(api: Api, seed: int) -> None:
    """P2: six clients of one upload who know nothing of each other, some with checksums, some that hang up."""
    person, dice = await api.user(), random.Random(seed)
    url = await create(person, len(VIDEO))
    statuses: set[int] = set()

    async def meddle() -> None:
        while True:
            answer = await head(person, url)
            offset = int(answer.headers["upload-offset"])
            if offset == len(VIDEO):
                return
            end = min(len(VIDEO), offset + dice.randrange(1, 30_000))
            at = offset
            way = dice.randrange(5)
            if way == 0:
                at = max(0, at + dice.choice((-1, 1, 5000)))
            content = VIDEO[at:at + end - offset]
            if way == 1:
                async with api.connection(begun(person, url, offset, len(content) + 1).encode() + content):
                    await asyncio.sleep(dice.random() / 50)  # how long it lives
                continue
            more = {"Upload_Checksum": checksum("sha1", content if dice.random() < 0.7 else b"")} if way == 2 else {}
            statuses.add((await patch(person, url, at, content, **more)).status)

    await asyncio.gather(*(meddle() for _ in range(6)))
    await whole(api, person, url)
    assert 204 in statuses and statuses <= {204, 403, 409, 413, 460}


@pytest.mark.parametrize("way", ["asked", "hung up"])
async def test_p3_the_last_byte_counts_although_its_request_did_not_come_to_its_end(api: Api, way: str) -> None:
    """P3: all bytes are here, but the one who brought them was sent away, or went, before it was answered."""
    person = await api.user()
    url = await create(person, len(VIDEO))
    async with api.connection(begun(person, url, 0, None)) as (_, writer):
        writer.write(f"{len(VIDEO):x}\r\n".encode() + VIDEO + b"\r\n")
        await eventually(lambda: api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]].size == len(VIDEO))
        if way == "asked":
            assert await offset_of(person, url) == len(VIDEO)
            await whole(api, person, url)
    await whole(api, person, url)


async def test_looking_does_not_make_it_leave(api: Api) -> None:
    person = await api.user()
    url, hanging = await sending(api, person, 100_001)
    async with hanging:
        assert (await person.get(url))["state"] == "receiving"
        assert api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]].visitor is not None


async def test_one_that_was_sent_away_cannot_write_any_more(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    async with api.connection(begun(person, url, 0, len(VIDEO))) as (reader, writer):
        writer.write(VIDEO[:100_000])
        reception = api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]]
        await eventually(lambda: reception.size == 100_000)
        assert await offset_of(person, url) == 100_000
        writer.write(bytes(50_000))
        assert b" 409 " in await reader.readline()
        assert await offset_of(person, url) == 100_000


async def test_a_silent_client_is_hung_up_on_and_can_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 13: a connection that is silent too long is closed; what it brought stays."""
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", 0.3)
    person = await api.user()
    url, hanging = await sending(api, person, 100_001)
    async with hanging as reader:
        assert await reader.read() == b""
    assert await offset_of(person, url) == 100_001
    assert incoming(api)


# --- a hub that starts anew -------------------------------------------------------------------------------------


async def test_p1_an_upload_goes_on_after_a_restart(place: Place, tmp_path: Path) -> None:
    """P1: bytes, metadata, length and expiry are what they were."""
    async with lives(place, tmp_path) as next_life:
        person = await (await next_life()).user()
        url, later = await create(person, len(VIDEO)), await create(person, None)
        fine(await patch(person, url, 0, VIDEO[:70_000]), 204)
        expires = (await head(person, url)).headers["upload-expires"]
        gone = await create(person, 1000)
        fine(await delete(person, gone), 204)
        (tmp_path / "uploads/videos/.incoming/nobodys").write_bytes(b"left by a crash")
        api = await next_life()
        person = moved(person, api)
        assert len(incoming(api)) == 2  # the bytes, and how many of them hold
        answer = await head(person, url)
        assert answer.headers["upload-offset"] == "70000" and answer.headers["upload-length"] == str(len(VIDEO))
        assert answer.headers["upload-metadata"] == metadata(filename="v.mp4", purpose="video")
        assert answer.headers["upload-expires"][:-7] == expires[:-7]
        assert (await head(person, later)).headers["upload-defer-length"] == "1"
        refused(await patch(person, gone, 0, b"x"), 410, "upload_gone")
        assert (await person.get("/api/uploads/limits"))["uploads"]["used"] == 2
        fine(await patch(person, url, 70_000, VIDEO[70_000:]), 204)
        await whole(api, person, url)


async def test_p3_a_whole_file_that_was_not_looked_into_is_looked_into_at_the_next_start(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3, fault 2: the hub ends between the last byte and the record, before and after sealing."""
    for moment in ("finish", "keep"):
        async with lives(place, tmp_path / moment) as next_life:
            api = await next_life()
            person = await api.user()
            url = await create(person, len(VIDEO))
            reception = api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]]
            stuck = asyncio.Event()

            async def hang(*_: object) -> None:
                if moment == "keep":
                    await reception.incoming.seal(Purpose.VIDEO)
                stuck.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(reception if moment == "keep" else reception.incoming, moment, hang)
            sent = asyncio.create_task(patch(person, url, 0, VIDEO))
            await asyncio.wait_for(stuck.wait(), 10)
            assert (await person.get(url))["state"] == "checking"
            assert await offset_of(person, url) == len(VIDEO)
            refused(await delete(person, url), 403, "upload_finished")
            api = await next_life()
            await asyncio.gather(sent, return_exceptions=True)
            person = moved(person, api)
            await whole(api, person, url)
            assert [video["id"] for video in (await person.get("/api/videos"))["items"]] == [url.rsplit("/", 1)[1]]
            assert incoming(api) == []


async def test_p3_a_record_is_made_once_although_the_uploads_own_was_not_deleted(place: Place, tmp_path: Path) -> None:
    """P3, fault 2: a crash between the two writes at the end."""
    async with lives(place, tmp_path) as next_life:
        api = await next_life()
        person = await api.user()
        url = await create(person, len(VIDEO))
        id = url.rsplit("/", 1)[1]
        stored = await api.hub.rooms.store.get(Upload, id)
        assert stored is not None
        fine(await patch(person, url, 0, VIDEO), 204)
        await whole(api, person, url)
        assert await api.hub.rooms.store.get(Upload, id) is None
        await api.hub.rooms.store.commit([Save(stored, 0)])
        (tmp_path / "uploads/videos/.incoming" / id).write_bytes(VIDEO)
        api = await next_life()
        person = moved(person, api)
        await whole(api, person, url)
        assert await api.hub.rooms.store.get(Upload, id) is None and incoming(api) == []
        assert await api.hub.rooms.store.count(Media, owner=person.user.id) == 1


async def test_parts_are_put_together_after_a_restart(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lives(place, tmp_path) as next_life:
        api = await next_life()
        person = await api.user()
        parts = [await create(person, length, Upload_Concat="partial") for length in (100_000, len(VIDEO) - 100_000)]
        fine(await patch(person, parts[0], 0, VIDEO[:100_000]), 204)
        fine(await patch(person, parts[1], 0, VIDEO[100_000:]), 204)
        stuck = asyncio.Event()

        async def hang(reception: Any) -> None:
            await reception.incoming.append(reception.rooms.files.receive(parts[0].rsplit("/", 1)[1]).path)
            stuck.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as context:
            context.setattr(handlers.reception.Reception, "assemble", hang)
            told = {**TUS, "Upload-Concat": f"final;{' '.join(parts)}", "Upload-Metadata": metadata(purpose="video")}
            sent = asyncio.create_task(person("POST", "/api/uploads", b"", told))
            await asyncio.wait_for(stuck.wait(), 10)
        api = await next_life()
        await asyncio.gather(sent, return_exceptions=True)
        person = moved(person, api)
        async with asyncio.timeout(10):
            while not (videos := (await person.get("/api/videos"))["items"]):
                await asyncio.sleep(0.02)
        assert (await api("GET", videos[0]["content_url"])).body == VIDEO
        await eventually(lambda: incoming(api) == [])
