"""The bodies that are taken from the socket: everything holds as on the plain way, which the same tests take too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import handlers.uploads
from handlers import raw_body
from hub.errors import DiskFull
from store.incoming import Incoming
from tests.handlers.running import Api, Person, Place, eventually, fine, metadata, one_loop, refused, running_hub
from tests.odd_media import WEBCAM

pytestmark = one_loop
MIB = 1024 * 1024
FILLER = 2 * MIB
WAYS = ["drawn", "plain", "unknown"]


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways, and the plain one because this is another Tornado than the known one."""
    monkeypatch.setattr(raw_body, "ENABLED", request.param != "plain")
    if request.param == "unknown":
        monkeypatch.setattr(raw_body, "IOStream", object)
    return str(request.param)


@pytest.fixture(autouse=True)
def drawn(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes were drawn by each call; none on the plain way."""
    counts: list[int] = []
    draw = Incoming.draw

    async def counted(self: Incoming, source: int, most: int) -> int:
        counts.append(await draw(self, source, most))
        return counts[-1]

    monkeypatch.setattr(Incoming, "draw", counted)
    yield counts
    if way != "drawn":
        assert not counts


def large(tail: str) -> bytes:
    """A valid video of some megabytes, different from all others."""
    return WEBCAM.read_bytes() + FILLER.to_bytes(4) + b"free" + tail.encode().ljust(FILLER - 8, b".")


def head(person: Person, length: int, *more: str, path: str = "/api/videos?name=v.mp4") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {person.token}",
        *([] if any(line.startswith("Content-Type") for line in more) else ["Content-Type: video/mp4"]),
        *([f"Content-Length: {length}"] if length >= 0 else []), *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the next answer on a connection that stays open."""
    told = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in told.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return int(told[9:12]), json.loads(await reader.readexactly(length))


async def hung_up(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends without an answer; what the hub has not read makes the end a reset."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_large_bodies_are_drawn(api: Api, way: str, drawn: list[int]) -> None:
    person, content = await api.user(), large("whole")
    video = await person.upload_video(content)
    assert (await api("GET", video["content_url"])).body == content
    assert sum(drawn) > (len(content) // 2 if way == "drawn" else -1)


async def test_a_tus_creation_with_its_bytes(api: Api) -> None:
    person, content = await api.user(), large("tus")
    upload = fine(await person("POST", "/api/uploads", content, {
        "Tus-Resumable": "1.0.0", "Upload-Length": str(len(content)), "Content-Type": "application/offset+octet-stream",
        "Upload-Metadata": metadata(filename="v.mp4", purpose="video"),
    }), 201)
    video = await person.get(f"/api/videos/{upload['id']}")
    assert (await api("GET", video["content_url"])).body == content


async def test_a_form_and_a_chunked_body_go_the_plain_way(api: Api, drawn: list[int]) -> None:
    person, content = await api.user(), large("other ways")
    part = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\n\r\n'
    form = part + content + b"\r\n--XX--\r\n"
    video = fine(await person("POST", "/api/videos", form, {"Content-Type": "multipart/form-data; boundary=XX"}), 201)
    assert (await api("GET", video["content_url"])).body == content
    async with api.connection(head(person, -1, "Transfer-Encoding: chunked")) as (reader, writer):
        writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n")
        assert (await answer_of(reader))[1]["sha256"] == video["sha256"]
    assert not drawn


async def test_the_connection_goes_on_with_its_next_request(api: Api) -> None:
    """Bytes that follow the body are the next request's, also when they came along with it."""
    person = await api.user()
    first, second = large("first"), large("second")
    asking = f"GET /api/videos HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n\r\n".encode()
    async with api.connection() as (reader, writer):
        writer.write(head(person, len(first)) + first + head(person, len(second)) + second + asking)
        ids = []
        for content in (first, second):
            status, video = await answer_of(reader)
            assert (status, video["size"]) == (201, len(content))
            assert (await api("GET", video["content_url"])).body == content
            ids.append(video["id"])
        status, videos = await answer_of(reader)
        assert status == 200 and [video["id"] for video in videos["items"]] == ids[::-1]


@pytest.mark.parametrize("cuts", [(1, 2, 3), (100_000, 100_001), (300_000, 1_000_000, 1_700_000)])
async def test_a_body_may_come_in_any_pieces(api: Api, cuts: tuple[int, ...]) -> None:
    person, content = await api.user(), large(f"pieces {cuts}")
    async with api.connection(head(person, len(content))) as (reader, writer):
        for begin, end in zip((0, *cuts), (*cuts, len(content)), strict=True):
            writer.write(content[begin:end])
            await writer.drain()
            await api("GET", "/livez")  # the hub has had a turn
        status, video = await answer_of(reader)
    assert status == 201
    assert (await api("GET", video["content_url"])).body == content


async def test_who_waits_for_a_word_gets_it_once(api: Api) -> None:
    person, content = await api.user(), large("expect")
    async with api.connection(head(person, len(content), "Expect: 100-continue")) as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(content)
        assert (await answer_of(reader))[0] == 201


async def test_what_is_refused_by_its_head_is_not_taken(api: Api, drawn: list[int]) -> None:
    person = await api.user()
    async with api.unchanged():
        async with api.connection(head(person, 1 << 40, "Expect: 100-continue")) as (reader, _):
            status, problem = await answer_of(reader)
            assert (status, problem["code"]) == (413, "too_large")
    assert not drawn


async def test_what_is_no_video_leaves_nothing(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person.upload(b"no video " * 200_000), 422, "not_video")


def incoming(api: Api) -> bool:
    return any(".incoming" in name for name in api.files())


@pytest.mark.parametrize("sent", [0, 1, MIB])
async def test_a_client_that_hangs_up_leaves_nothing(api: Api, sent: int) -> None:
    person = await api.user()
    async with api.unchanged():
        async with api.connection(head(person, 2 * MIB)) as (_, writer):
            writer.write(bytes(sent))
            await eventually(lambda: incoming(api) or sent < MIB)
    await person.upload_video()


async def test_half_a_body_and_an_end_leave_nothing(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        async with api.connection(head(person, 2 * MIB) + bytes(MIB)) as (reader, writer):
            writer.write_eof()
            assert await hung_up(reader)


async def test_a_silent_client_is_hung_up_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", 0.3)
    person = await api.user()
    async with api.unchanged():
        async with api.connection(head(person, 2 * MIB) + bytes(MIB)) as (reader, _):
            assert await hung_up(reader)


async def test_a_slow_client_is_not_silent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", 0.6)
    person, content = await api.user(), large("slow")
    async with api.connection(head(person, len(content))) as (reader, writer):
        for at in range(6):
            writer.write(content[at:at + 1])
            await asyncio.sleep(0.13)  # all in all longer than a silence may be
        writer.write(content[6:])
        assert (await answer_of(reader))[0] == 201


async def test_a_whole_file_is_kept_although_its_sender_went(api: Api) -> None:
    person, content = await api.user(), large("gone")
    async with api.connection(head(person, len(content))) as (_, writer):
        writer.write(content)
        await writer.drain()
        await eventually(lambda: any(
            path.stat().st_size == len(content) for path in api.folder.rglob("*") if path.parent.name == ".incoming"
        ))
    videos: list[Any] = []
    async with asyncio.timeout(10):
        while not videos:
            videos = (await person.get("/api/videos"))["items"]
    assert (await api("GET", videos[0]["content_url"])).body == content


async def test_fault_17_a_disk_that_fills_up_refuses_and_the_hub_lives_on(
    api: Api, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise DiskFull("there is no room left for uploads")

    person, content = await api.user(), large("full")
    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "_append", full)
        patch.setattr(Incoming, "_draw", full)
        async with api.unchanged():
            refused(await person.upload(content), 507, "disk_full")
    video = await person.upload_video(content)
    assert (await api("GET", video["content_url"])).body == content


async def test_many_at_once_are_all_whole(api: Api) -> None:
    person = await api.user()
    contents = [large(f"one of many: {number}") for number in range(12)]
    videos = await asyncio.gather(*(person.upload_video(content) for content in contents))
    for video, content in zip(videos, contents, strict=True):
        assert (await api("GET", video["content_url"])).body == content


async def test_a_hub_that_stops_does_not_wait_for_who_is_silent(place: Place) -> None:
    async with running_hub(place) as hub:
        other = Api(hub, place.folder)
        async with other.connection(head(await other.user(), 2 * MIB) + bytes(MIB)) as (reader, _):
            await eventually(lambda: incoming(other))
            began = asyncio.get_running_loop().time()
            await hub.stop()
            assert await hung_up(reader)
            assert asyncio.get_running_loop().time() - began < 2.5  # less than the hub would wait for those who stay
        other.close()
