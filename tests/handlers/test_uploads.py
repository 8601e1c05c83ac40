"""Files coming in by one request: raw, as a form, by tus; rows 67 to 95 and 135 to 142 of the bad inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handlers.uploads
from tests import odd_media
from tests.handlers.running import (
    LIMIT_MB, Answer, Api, Person, Place, eventually, fine, metadata, one_loop, refused, running_hub, small_video,
)
from tests.odd_media import PAGODA, WEBCAM

pytestmark = one_loop
MIB = 1024 * 1024
LIMIT = LIMIT_MB * MIB
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


# --- multipart --------------------------------------------------------------------------------------------------


def part(content: bytes, field: str = "file", filename: str | None = "v.mp4", kind: str = "video/mp4") -> bytes:
    """One part of a form, with the boundary before it."""
    name = "" if filename is None else f'; filename="{filename}"'
    head = f'--XX\r\nContent-Disposition: form-data; name="{field}"{name}\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


async def send_form(person: Person, body: bytes, where: str = "videos", boundary: str = "; boundary=XX") -> Answer:
    return await person("POST", f"/api/{where}", body, {"Content-Type": f"multipart/form-data{boundary}"})


@pytest.mark.parametrize("field", ["file", "video"])
async def test_a_video_in_a_form(api: Api, field: str) -> None:
    person = await api.user()
    text = part(b"Holiday \xe2\x98\x80", "name", None, "text/plain")
    video = fine(await send_form(person, form(text, part(small_video(), field))), 201)
    assert (video["name"], video["frames"], video["state"]) == ("Holiday ☀", 3, "ready")
    assert await person.get(f"/api/videos/{video['id']}") == video


@pytest.mark.parametrize("field", ["file", "background"])
async def test_a_background_in_a_form(api: Api, field: str) -> None:
    person = await api.user()
    sent = form(part(PAGODA.read_bytes(), field, "pagoda.jpg", "image/jpeg"), part(b"x", "other", None))
    background = fine(await send_form(person, sent, "backgrounds"), 201)
    assert (background["name"], background["width"], background["height"]) == ("pagoda.jpg", 640, 427)
    assert (await api("GET", background["poster_url"])).headers["content-type"] == "image/jpeg"


async def test_a_form_may_arrive_byte_by_byte(api: Api) -> None:
    body = form(part(small_video()))
    pieces = [body[:1], body[1:3], body[3:100], body[100:101], body[101:-9], body[-9:-3], body[-3:]]
    head = start(await api.user(), "multipart/form-data; boundary=XX", "Transfer-Encoding: chunked")
    async with api.connection(head) as (reader, writer):
        for piece in pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")


def start(person: Person, kind: str, length: str) -> str:
    """The head of an upload that is sent by hand."""
    return (
        f"POST /api/videos HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
        f"Content-Type: {kind}\r\n{length}\r\n\r\n"
    )


RIGHT = "; boundary=XX"
BAD_FORMS: dict[str, tuple[bytes, str, int, str]] = {
    "87-no-boundary": (form(part(b"x")), "", 400, "bad_multipart"),
    "87-empty-boundary": (form(part(b"x")), "; boundary=", 400, "bad_multipart"),
    "87-long-boundary": (form(part(b"x")), f"; boundary={'b' * 71}", 400, "bad_multipart"),
    "87-other-boundary": (form(part(b"x")), "; boundary=YY", 400, "bad_multipart"),
    "88-3000-parts": (form(*[part(b"x", "f", None)] * 3000), RIGHT, 413, "too_large"),
    "88-long-field": (form(part(b"x" * 9000, "name", None)), RIGHT, 413, "too_large"),
    "89-100-kb-part-header": (form(part(b"x", filename="f" * 100_000)), RIGHT, 431, "headers_too_large"),
    "90-unclosed": (part(b"x"), RIGHT, 400, "bad_multipart"),
    "90-cut-in-header": (part(b"x")[:30], RIGHT, 400, "bad_multipart"),
    "90-empty-body": (b"", RIGHT, 400, "bad_multipart"),
    "92-no-file": (form(part(b"x", "name", None)), RIGHT, 422, "invalid"),
    "92-file-in-another-field": (form(part(b"x", "data")), RIGHT, 422, "invalid"),
    "92-text-instead-of-file": (form(part(b"x", "file", None)), RIGHT, 422, "invalid"),
    "92-two-files": (form(part(b"x"), part(b"y", "video")), RIGHT, 422, "invalid"),
    "92-empty-file": (form(part(b"")), RIGHT, 422, "empty_file"),
    "93-file-over-the-limit": (form(part(bytes(LIMIT + 1))), RIGHT, 413, "too_large"),
    "95-4-mb-of-preamble": (b"x" * MIB + form(part(b"x")), RIGHT, 400, "bad_multipart"),
    "95-1-mb-of-epilogue": (form(part(b"x")) + b"x" * MIB, RIGHT, 400, "bad_multipart"),
    "text-as-video": (form(part(b"some text")), RIGHT, 422, "not_video"),
}


@pytest.mark.parametrize(("body", "boundary", "status", "code"), BAD_FORMS.values(), ids=BAD_FORMS.keys())
async def test_row_forms_that_are_none(api: Api, body: bytes, boundary: str, status: int, code: str) -> None:
    person = await api.user()
    async with api.unchanged():
        answer = await send_form(person, body, boundary=boundary)
        refused(answer, status, code)


@pytest.mark.parametrize("filename", [
    "../../etc/passwd", "..\\\\..\\\\x.mp4", "C:\\\\Users\\\\me\\\\x.mp4", "a\tb.mp4", "x%00.mp4", "  ", "....",
    "n" * 5000, "\u202egpj.mp4", "名前.mp4", "'; drop table videos; --",
])
async def test_row_91_a_hostile_name_is_a_label_only(api: Api, filename: str) -> None:
    person = await api.user()
    outside = set(Path(api.folder).parent.iterdir())
    video = fine(await send_form(person, form(part(small_video(), filename=filename))), 201)
    assert 0 < len(video["name"]) <= 200 and video["name"].isprintable()
    assert "/" not in video["name"] and "\\" not in video["name"]
    assert set(Path(api.folder).parent.iterdir()) == outside
    assert (await api("GET", video["content_url"])).body == small_video()


# --- raw bodies -------------------------------------------------------------------------------------------------


async def test_a_whole_video_with_sound(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video(WEBCAM.read_bytes())
    assert (video["frames"], video["has_audio"], video["width"], video["height"]) == (72, True, 640, 360)
    assert (await api("GET", video["content_url"])).body == WEBCAM.read_bytes()


@pytest.mark.parametrize(("where", "kind"), [
    ("videos", "text/plain"), ("videos", "application/json"), ("videos", "image/jpeg"), ("videos", ""),
    ("backgrounds", "video/mp4"), ("backgrounds", "text/html"), ("videos", "application/x-www-form-urlencoded"),
])
async def test_a_file_of_the_wrong_content_type_is_415(api: Api, where: str, kind: str) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person.upload(small_video(), where, kind), 415, "unsupported_media_type")


async def test_a_file_over_the_limit_is_413(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person.upload(bytes(LIMIT + 1)), 413, "too_large")
        refused(await person.upload(bytes(LIMIT)), 422, "not_video")


async def test_row_93_chunks_over_the_limit_are_413_and_leave_nothing(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        async with api.connection(start(person, "video/mp4", "Transfer-Encoding: chunked")) as (reader, writer):
            for _ in range(LIMIT // MIB + 1):
                writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
            assert b" 413 " in await reader.readline()
            assert b"too_large" in await reader.readuntil(b"}")


VIDEOS: dict[str, tuple[Callable[[], Path], str]] = {
    "135-text": (odd_media.text, "not_video"),
    "135-ftyp-only": (odd_media.ftyp_only, "not_video"),
    "135-zeros": (odd_media.zeros, "not_video"),
    "truncated-moov-first": (odd_media.cut_moov_first, "truncated"),
    "truncated-moov-last": (odd_media.cut_moov_last, "truncated"),
    "sound-only": (odd_media.sound_only, "no_video_stream"),
    "rare-codec": (odd_media.rare_codec, "unsupported_format"),
    "magicyuv": (odd_media.magicyuv, "unsupported_format"),
    "137-huge": (odd_media.huge, "too_many_pixels"),
    "139-ffconcat": (odd_media.ffconcat, "not_video"),
    "140-m3u8": (odd_media.m3u8, "not_video"),
    "142-sdp": (odd_media.sdp, "not_video"),
    "picture-as-video": (lambda: PAGODA, "not_video"),
}


@pytest.mark.parametrize(("make", "code"), VIDEOS.values(), ids=VIDEOS.keys())
async def test_row_files_that_are_no_video_are_422_and_leave_nothing(
    api: Api, make: Callable[[], Path], code: str
) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person.upload(make().read_bytes(), name="holiday.mp4"), 422, code)
    assert (await person.get("/api/videos"))["items"] == []
    await person.upload_video()


PICTURES: dict[str, tuple[Callable[[], Path], str]] = {
    "138-bomb": (odd_media.png_bomb, "too_many_pixels"), "101-svg": (odd_media.svg, "svg"),
    "moving-gif": (odd_media.moving_gif, "animated"), "moving-png": (odd_media.moving_png, "animated"),
    "cut": (odd_media.cut_jpeg, "truncated"), "text": (odd_media.text, "not_picture"),
    "video-as-picture": (lambda: WEBCAM, "not_picture"),
}


@pytest.mark.parametrize(("make", "code"), PICTURES.values(), ids=PICTURES.keys())
async def test_row_files_that_are_no_still_picture_are_422_and_leave_nothing(
    api: Api, make: Callable[[], Path], code: str
) -> None:
    person = await api.user()
    async with api.unchanged():
        answer = await person.upload(make().read_bytes(), "backgrounds", "image/png", "p.png")
        refused(answer, 422, code)


async def test_an_empty_file_is_422(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person.upload(b""), 422, "empty_file")
        refused(await person.upload(b"", "backgrounds", "image/png"), 422, "empty_file")


# --- tus, the whole file in the creating request ----------------------------------------------------------------


async def send_tus(person: Person, content: bytes, **headers: str | None) -> Answer:
    """A creation with upload; a header that is None is left out, `_` stands for `-`."""
    told: dict[str, str | None] = {
        **TUS, "Upload-Length": str(len(content)), "Upload-Metadata": metadata(filename="v.mp4", purpose="video"),
    }
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await person("POST", "/api/uploads", content, {k: v for k, v in told.items() if v is not None})


async def test_tus_creation_with_upload(api: Api) -> None:
    person = await api.user()
    answer = await send_tus(person, small_video(), X_Forwarded_Host="evil.test", Forwarded="host=evil.test")
    upload = fine(answer, 201)
    assert (upload["state"], upload["offset"], upload["length"]) == ("ready", len(small_video()), len(small_video()))
    assert answer.headers["location"] == f"/api/uploads/{upload['id']}"  # row 74
    assert (answer.headers["upload-offset"], answer.headers["tus-resumable"]) == (str(len(small_video())), "1.0.0")
    assert (await person.get(f"/api/videos/{upload['id']}"))["frames"] == 3
    assert await person.get(answer.headers["location"]) == upload


BAD_TUS: dict[str, tuple[dict[str, str | None], int, str]] = {
    "67-no-version": ({"Tus-Resumable": None}, 412, "tus_version"),
    "67-wrong-version": ({"Tus-Resumable": "0.2.2"}, 412, "tus_version"),
    "68-length-negative": ({"Upload-Length": "-1"}, 400, "bad_length"),
    "68-length-fraction": ({"Upload-Length": "1.5"}, 400, "bad_length"),
    "68-length-4500-digits": ({"Upload-Length": "9" * 4500}, 400, "bad_length"),
    "68-length-missing": ({"Upload-Length": None}, 400, "bad_length"),
    "69-length-and-defer": ({"Upload-Defer-Length": "1"}, 400, "bad_length"),
    "70-over-the-limit": ({"Upload-Length": str(LIMIT + 1)}, 413, "too_large"),
    "70-far-over-the-limit": ({"Upload-Length": str(10**16)}, 413, "too_large"),
    "72-not-base64": ({"Upload-Metadata": "purpose video"}, 400, "bad_metadata"),
    "72-not-utf8": ({"Upload-Metadata": "purpose dmlkZW8=,filename //8="}, 400, "bad_metadata"),
    "72-duplicate": ({"Upload-Metadata": "purpose dmlkZW8=,purpose dmlkZW8="}, 400, "bad_metadata"),
    "72-missing": ({"Upload-Metadata": None}, 400, "bad_metadata"),
    "72-no-purpose": ({"Upload-Metadata": metadata(filename="v.mp4")}, 400, "bad_metadata"),
    "72-worker-s-purpose": ({"Upload-Metadata": metadata(purpose="result")}, 400, "bad_metadata"),
    "72-unknown-purpose": ({"Upload-Metadata": metadata(purpose="VIDEO")}, 400, "bad_metadata"),
    "75-wrong-content-type": ({"Content-Type": "video/mp4"}, 415, "unsupported_media_type"),
    "78-beyond-the-length": ({"Upload-Length": "10"}, 413, "too_large"),
    "not-signed-in": ({"Authorization": "Bearer x"}, 401, "unauthorized"),
}


@pytest.mark.parametrize(("headers", "status", "code"), BAD_TUS.values(), ids=BAD_TUS.keys())
async def test_row_uploads_that_are_refused(api: Api, headers: dict[str, str | None], status: int, code: str) -> None:
    person = await api.user()
    async with api.unchanged():
        answer = await send_tus(person, small_video(), **headers)
        refused(answer, status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers.get("tus-version") == ("1.0.0" if status == 412 else None)


@pytest.mark.parametrize("name", ["../../x", "a\r\nSet-Cookie: b", "nul\x00", "n" * 5000, ""])
async def test_row_73_hostile_names_are_labels(api: Api, name: str) -> None:
    person = await api.user()
    answer = await send_tus(person, small_video(), Upload_Metadata=metadata(filename=name, purpose="video"))
    video = await person.get(f"/api/videos/{fine(answer, 201)['id']}")
    assert 0 < len(video["name"]) <= 200 and video["name"].isprintable() and "/" not in video["name"]


async def test_row_73_an_empty_upload_is_an_empty_file(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await send_tus(person, b""), 422, "empty_file")


# --- clients that go --------------------------------------------------------------------------------------------


def incoming(api: Api) -> list[str]:
    return [name for name in api.files() if ".incoming" in name]


async def videos_of(person: Person, count: int) -> list[dict[str, Any]]:
    """The person's videos, once there are so many."""
    async with asyncio.timeout(10):
        while len(videos := (await person.get("/api/videos"))["items"]) < count:
            await asyncio.sleep(0.02)
    return list(videos)


async def test_a_client_that_hangs_up_leaves_nothing(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        async with api.connection(start(person, "video/mp4", f"Content-Length: {LIMIT}")) as (_, writer):
            writer.write(bytes(MIB))
            await eventually(lambda: len(incoming(api)) == 1)


async def test_a_silent_client_is_hung_up_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", 0.3)
    person = await api.user()
    async with api.unchanged():
        async with api.connection(start(person, "video/mp4", "Content-Length: 2000000")) as (reader, writer):
            writer.write(bytes(MIB))
            await eventually(lambda: len(incoming(api)) == 1)
            assert await reader.read() == b""


async def test_a_slow_client_is_not_silent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", 0.6)
    content = small_video()
    head = start(await api.user(), "video/mp4", f"Content-Length: {len(content)}")
    async with api.connection(head) as (reader, writer):
        for at in range(6):
            writer.write(content[at:at + 1])
            await asyncio.sleep(0.13)  # all in all longer than a silence may be
        writer.write(content[6:])
        assert b" 201 " in await reader.readline()


async def test_a_whole_file_is_kept_although_its_sender_went(api: Api) -> None:
    """The client hangs up while the hub still looks into the file: that is no error, and no loss."""
    person, content = await api.user(), WEBCAM.read_bytes()
    async with api.connection(start(person, "video/mp4", f"Content-Length: {len(content)}")) as (_, writer):
        writer.write(content)
        await eventually(lambda: len(incoming(api)) == 1)
    [video] = await videos_of(person, 1)
    assert (await api("GET", video["content_url"])).body == content
    assert incoming(api) == []


# --- much at once -----------------------------------------------------------------------------------------------


async def test_p13_p14_a_large_form_holds_neither_the_loop_nor_the_memory(place: Place) -> None:
    """P13, P14, row 94: 96 MB in a form of the worst kind: all line breaks, as the boundary begins."""
    total, piece = 96 * MIB, b"\r\n" * (64 * 1024)
    head, tail = part(b"")[:-2], b"\r\n--XX--\r\n"
    async with running_hub(place, UPLOAD_FILE_SIZE_LIMIT="200") as hub:
        large, loop = Api(hub, place.folder), asyncio.get_running_loop()
        length = f"Content-Length: {len(head) + total + len(tail)}"
        begun = start(await large.user(), "multipart/form-data; boundary=XX", length).encode() + head
        async with large.unchanged(), large.connection(begun) as (reader, writer):
            resident, longest = resident_bytes(), 0.0
            for _ in range(total // len(piece)):
                writer.write(piece)
                since = loop.time()
                await writer.drain()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - since)
            assert resident_bytes() - resident < 32 * MIB
            assert longest < 0.3
            writer.write(tail)
            assert b" 422 " in await reader.readline()
        large.close()


def resident_bytes() -> int:
    """How much memory this process, the hub, uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
