"""Rows 67 to 86 of the bad inputs: each has its status and its code, and leaves disk and database as they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.handlers.running import (
    LIMIT_MB, Answer, Api, Person, Place, eventually, fine, metadata, one_loop, refused, running_hub, small_video,
)
from tests.handlers.tus import BYTES, TUS, begun, create, delete, head, offset_of, patch
from tests.odd_media import WEBCAM

pytestmark = one_loop
MIB = 1024 * 1024
LIMIT = LIMIT_MB * MIB
VIDEO = WEBCAM.read_bytes()
ABSENT = "/api/uploads/01900000-0000-7000-8000-000000000000"


async def begin(person: Person, **headers: str | None) -> Answer:
    """A creation without bytes; a header that is None is left out, `_` stands for `-`."""
    told: dict[str, str | None] = {**TUS, "Upload-Length": "1000", "Upload-Metadata": metadata(purpose="video")}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await person("POST", "/api/uploads", b"", {k: v for k, v in told.items() if v is not None})


BAD: dict[str, tuple[dict[str, str | None], int, str]] = {
    "67-no-version": ({"Tus_Resumable": None}, 412, "tus_version"),
    "67-wrong-version": ({"Tus_Resumable": "2.0.0"}, 412, "tus_version"),
    "68-negative": ({"Upload_Length": "-1"}, 400, "bad_length"),
    "68-fraction": ({"Upload_Length": "1.5"}, 400, "bad_length"),
    "68-4500-digits": ({"Upload_Length": "9" * 4500}, 400, "bad_length"),
    "68-none": ({"Upload_Length": None}, 400, "bad_length"),
    "68-empty-file": ({"Upload_Length": "0"}, 422, "empty_file"),
    "69-both": ({"Upload_Defer_Length": "1"}, 400, "bad_length"),
    "69-defer-2": ({"Upload_Length": None, "Upload_Defer_Length": "2"}, 400, "bad_length"),
    "70-over-the-limit": ({"Upload_Length": str(LIMIT + 1)}, 413, "too_large"),
    "72-not-base64": ({"Upload_Metadata": "purpose video"}, 400, "bad_metadata"),
    "72-duplicate": ({"Upload_Metadata": "purpose dmlkZW8=,purpose dmlkZW8="}, 400, "bad_metadata"),
    "72-no-purpose": ({"Upload_Metadata": None}, 400, "bad_metadata"),
    "72-a-worker-s-purpose": ({"Upload_Metadata": metadata(purpose="result")}, 400, "bad_metadata"),
    "72-far-too-long": ({"Upload_Metadata": metadata(purpose="video", x="x" * 20_000)}, 400, "bad_metadata"),
    "concat-nonsense": ({"Upload_Concat": "middle"}, 400, "bad_metadata"),
    "not-signed-in": ({"Authorization": "Bearer x"}, 401, "unauthorized"),
}


@pytest.mark.parametrize(("headers", "status", "code"), BAD.values(), ids=BAD.keys())
async def test_row_67_to_72_creations_that_are_refused(
    api: Api, headers: dict[str, str | None], status: int, code: str
) -> None:
    person = await api.user()
    async with api.unchanged():
        answer = await begin(person, **headers)
        refused(answer, status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers.get("tus-version") == ("1.0.0" if status == 412 else None)
    assert (await person.get("/api/uploads/limits"))["uploads"]["used"] == 0


@pytest.mark.parametrize("name", ["../../x", "a\r\nSet-Cookie: b", "nul\x00", "n" * 5000, ""])
async def test_row_73_a_hostile_name_is_a_label(api: Api, name: str) -> None:
    person = await api.user()
    url = await create(person, len(small_video()), Upload_Metadata=metadata(filename=name, purpose="video"))
    assert (await head(person, url)).headers["upload-metadata"] == metadata(filename=name, purpose="video")
    fine(await patch(person, url, 0, small_video()), 204)
    video = await person.get(f"/api/videos/{url.rsplit('/', 1)[1]}")
    assert 0 < len(video["name"]) <= 200 and video["name"].isprintable() and "/" not in video["name"]


@pytest.mark.parametrize("headers", [
    {"X_Forwarded_Host": "evil.test"}, {"Forwarded": "host=evil.test;proto=https"}, {"X_Forwarded_Proto": "gopher"},
])
async def test_row_74_nobody_moves_the_location(api: Api, headers: dict[str, str]) -> None:
    answer = await begin(await api.user(), **headers)
    assert answer.headers["location"] == f"/api/uploads/{fine(answer, 201)['id']}"


BAD_PATCHES: dict[str, tuple[dict[str, str | None], int, str]] = {
    "67-no-version": ({"Tus-Resumable": None}, 412, "tus_version"),
    "75-wrong-content-type": ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
    "75-no-content-type": ({"Content-Type": None}, 415, "unsupported_media_type"),
    "76-no-offset": ({"Upload-Offset": None}, 400, "bad_offset"),
    "76-negative-offset": ({"Upload-Offset": "-1"}, 400, "bad_offset"),
    "76-hexadecimal-offset": ({"Upload-Offset": "0x0"}, 400, "bad_offset"),
    "77-behind": ({"Upload-Offset": "0"}, 409, "offset_mismatch"),
    "77-ahead": ({"Upload-Offset": "501"}, 409, "offset_mismatch"),
    "77-far-ahead": ({"Upload-Offset": "9" * 17}, 409, "offset_mismatch"),
    "not-signed-in": ({"Authorization": "Bearer x"}, 401, "unauthorized"),
    "compressed": ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
}


@pytest.mark.parametrize(("headers", "status", "code"), BAD_PATCHES.values(), ids=BAD_PATCHES.keys())
async def test_row_75_to_77_bytes_that_are_refused(
    api: Api, headers: dict[str, str | None], status: int, code: str
) -> None:
    person = await api.user()
    url = await create(person, 1000)
    fine(await patch(person, url, 0, bytes(500)), 204)
    async with api.unchanged():
        told: dict[str, str | None] = {**BYTES, "Upload-Offset": "500"} | headers
        refused(await person("PATCH", url, b"x", {k: v for k, v in told.items() if v is not None}), status, code)
        assert await offset_of(person, url) == 500


@pytest.mark.parametrize(("offset", "length", "status"), [(1, 1000, b" 409 "), (0, LIMIT + 1, b" 413 ")])
async def test_p4_a_refusal_does_not_wait_for_the_body(api: Api, offset: int, length: int, status: bytes) -> None:
    """P4, rows 77 and 78: the answer is there before a byte of the body was sent."""
    person = await api.user()
    url = await create(person, LIMIT)
    async with api.connection(begun(person, url, offset, length)) as (reader, _):
        assert status in await reader.readline()


async def test_row_78_more_than_was_declared_is_413(api: Api) -> None:
    person = await api.user()
    url = await create(person, 1000)
    fine(await patch(person, url, 0, bytes(400)), 204)
    async with api.unchanged():
        refused(await patch(person, url, 400, bytes(601)), 413, "too_large")
        assert await offset_of(person, url) == 400


@pytest.mark.parametrize("sizes", [(601,), (300, 301), (600, 1), (1000, MIB)])
async def test_row_78_nor_in_chunks(api: Api, sizes: tuple[int, ...]) -> None:
    person = await api.user()
    url = await create(person, 1000)
    fine(await patch(person, url, 0, bytes(400)), 204)
    async with api.unchanged():
        async with api.connection(begun(person, url, 400, None)) as (reader, writer):
            for size in sizes:
                writer.write(f"{size:x}\r\n".encode() + bytes(size) + b"\r\n")
            assert b" 413 " in await reader.readline()
        assert await offset_of(person, url) == 400
    fine(await patch(person, url, 400, bytes(600)), 204)


async def test_row_79_of_two_at_once_one_goes_on(api: Api) -> None:
    person = await api.user()
    for _ in range(5):
        url = await create(person, len(VIDEO))
        answers = await asyncio.gather(*(patch(person, url, 0, VIDEO) for _ in range(2)))
        assert sorted(answer.status for answer in answers) in ([204, 403], [204, 409]), answers
        assert await offset_of(person, url) == len(VIDEO)
        video = await person.get(f"/api/videos/{url.rsplit('/', 1)[1]}")
        assert (await api("GET", video["content_url"])).body == VIDEO


async def test_row_79_a_repetition_of_the_older_one_does_not_stop_it(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    async with api.connection(begun(person, url, 0, len(VIDEO))) as (reader, writer):
        writer.write(VIDEO[:100_000])
        await eventually(lambda: api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]].size == 100_000)
        refused(await patch(person, url, 0, VIDEO), 409, "offset_mismatch")
        writer.write(VIDEO[100_000:])
        assert b" 204 " in await reader.readline()


async def test_row_80_what_came_before_a_reset_is_kept(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    reception = api.hub.rooms.receptions.open[url.rsplit("/", 1)[1]]
    async with api.connection(begun(person, url, 0, len(VIDEO))) as (_, writer):
        writer.write(VIDEO[:123_457])
        await eventually(lambda: reception.size == 123_457)
    await eventually(lambda: reception.visitor is None)
    assert await offset_of(person, url) == 123_457
    fine(await patch(person, url, 123_457, VIDEO[123_457:]), 204)
    video = await person.get(f"/api/videos/{url.rsplit('/', 1)[1]}")
    assert (await api("GET", video["content_url"])).body == VIDEO


async def test_row_83_a_finished_upload_takes_nothing(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(small_video()))
    fine(await patch(person, url, 0, small_video()), 204)
    async with api.unchanged():
        for offset in (0, len(small_video())):
            refused(await patch(person, url, offset, b"x"), 403, "upload_finished")
        refused(await delete(person, url), 403, "upload_finished")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
async def test_row_61_another_users_upload_is_none(api: Api, method: str) -> None:
    url = await create(await api.user(), 1000)
    other = await api.user()
    for address in (url, ABSENT, "/api/uploads/x", "/api/uploads/%00", f"/api/uploads/{'a' * 5000}"):
        headers = {**BYTES, "Upload-Offset": "0"} if method == "PATCH" else TUS
        answer = await other(method, address, b"x" if method == "PATCH" else None, headers)
        assert answer.status == 404
        if method != "HEAD":
            refused(answer, 404, "not_found")


# --- limits -----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(place: Place, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A hub where users may have little."""
    folder = tmp_path_factory.mktemp("small")
    settings = {"USER_STORAGE_LIMIT": "1", "USER_FILES_LIMIT": "3", "USER_UPLOADS_LIMIT": "2"}
    async with running_hub(Place(place.mongo_uri, folder), **settings) as hub:
        api = Api(hub, folder)
        yield api
        api.close()


async def test_row_71_over_the_quota_is_413(small: Api) -> None:
    person = await small.user()
    video = await person.upload_video(VIDEO)
    async with small.unchanged():
        refused(await begin(person, Upload_Length=str(MIB - len(VIDEO) + 1)), 413, "quota")
        refused(await person.upload(bytes(MIB)), 413, "quota")
        url = await create(person, MIB - len(VIDEO))
        refused(await begin(person, Upload_Length="1"), 413, "quota")
        fine(await delete(person, url), 204)
        url = await create(person, None)
        assert (await person.get("/api/uploads/limits"))["size"] == {
            "limit": MIB, "used": len(VIDEO), "reserved": MIB - len(VIDEO),
        }
        refused(await patch(person, url, 0, bytes(MIB - len(VIDEO) + 1)), 413, "too_large")
        fine(await delete(person, url), 204)
    fine(await person("DELETE", f"/api/videos/{video['id']}"), 204)
    assert await create(person, MIB)


async def test_row_71_so_are_too_many_files(small: Api) -> None:
    person = await small.user()
    for _ in range(3):
        await person.upload_video()
    async with small.unchanged():
        refused(await begin(person), 413, "quota")
        refused(await person.upload(small_video()), 413, "quota")


async def test_row_86_too_many_empty_uploads_are_429(small: Api) -> None:
    person = await small.user()
    answers = await asyncio.gather(*(begin(person, Upload_Length="1") for _ in range(400)))
    taken = [answer for answer in answers if answer.status == 201]
    assert len(taken) == 2
    for answer in answers:
        if answer.status != 201:
            refused(answer, 429, "too_many_uploads")
            assert int(answer.headers["retry-after"]) > 0
    fine(await delete(person, taken[0].headers["location"]), 204)
    fine(await begin(person), 201)


async def test_the_limits_are_told_before_anything_is_sent(small: Api) -> None:
    person = await small.user()
    assert await person.get("/api/uploads/limits") == {
        "file_size": LIMIT, "size": {"limit": MIB, "used": 0, "reserved": 0}, "files": {"limit": 3, "used": 0},
        "uploads": {"limit": 2, "used": 0}, "expires_in": 24 * 3600,
    }
    refused(await small("GET", "/api/uploads/limits"), 401, "unauthorized")


async def test_equal_files_of_a_user_are_kept_once_and_as_long_as_one_is_needed(api: Api) -> None:
    """Two records, one content; it goes with the last of them."""
    person = await api.user()
    before = api.files()
    content = VIDEO + bytes(8)  # nobody else has this
    videos = []
    for _ in range(2):
        url = await create(person, len(content))
        fine(await patch(person, url, 0, content), 204)
        videos.append(await person.get(f"/api/videos/{url.rsplit('/', 1)[1]}"))

    def contents() -> list[Path]:
        return [Path(name) for name in api.files() - before if Path(name).name == videos[0]["sha256"]]

    assert videos[0]["sha256"] == videos[1]["sha256"] and len(contents()) == 1
    fine(await person("DELETE", f"/api/videos/{videos[0]['id']}"), 204)
    assert (await api("GET", videos[1]["content_url"])).body == content
    fine(await person("DELETE", f"/api/videos/{videos[1]['id']}"), 204)
    await eventually(lambda: contents() == [])
