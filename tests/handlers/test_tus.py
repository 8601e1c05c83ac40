"""Resumable uploads as tus 1.0.0 describes them: core and all extensions."""

from __future__ import annotations

import asyncio
import hashlib
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.handlers.running import LIMIT_MB, Api, Person, eventually, fine, metadata, one_loop, refused, small_video
from tests.handlers.tus import BYTES, TUS, begun, checksum, create, delete, head, incoming, offset_of, patch
from tests.odd_media import PAGODA, WEBCAM

pytestmark = one_loop
LIMIT = LIMIT_MB * 1024 * 1024
VIDEO = WEBCAM.read_bytes()


async def state_of(person: Person, url: str) -> dict[str, Any]:
    """What GET says, once the hub has looked into the file."""
    async with asyncio.timeout(20):
        while (upload := await person.get(url))["state"] == "checking":
            await asyncio.sleep(0.02)
    return dict(upload)


async def kept(api: Api, person: Person, url: str, content: bytes) -> None:
    """Check that an upload has become this video."""
    upload = await state_of(person, url)
    assert (upload["state"], upload["offset"], upload["length"]) == ("ready", len(content), len(content))
    assert upload["sha256"] == hashlib.sha256(content).hexdigest()
    video = await person.get(f"/api/videos/{upload['id']}")
    assert (await api("GET", video["content_url"])).body == content
    assert incoming(api) == []


# --- core -------------------------------------------------------------------------------------------------------


async def test_a_video_in_three_pieces(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    assert url.startswith("/api/uploads/") and await offset_of(person, url) == 0
    first = await patch(person, url, 0, VIDEO[:1000])
    assert (first.status, first.headers["upload-offset"], first.body) == (204, "1000", b"")
    assert first.headers["tus-resumable"] == "1.0.0"
    assert await person.get(url) == {
        "id": url.rsplit("/", 1)[1], "purpose": "video", "offset": 1000, "length": len(VIDEO), "state": "receiving",
    }
    second = await patch(person, url, 1000, VIDEO[1000:150_000])
    assert second.headers["upload-offset"] == "150000" and await offset_of(person, url) == 150_000
    last = await patch(person, url, 150_000, VIDEO[150_000:])
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(VIDEO)))
    await kept(api, person, url, VIDEO)


async def test_head_tells_length_and_metadata(api: Api) -> None:
    person = await api.user()
    url = await create(person, 5000)
    answer = await head(person, url)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["upload-length"] == "5000"
    assert answer.headers["upload-metadata"] == metadata(filename="v.mp4", purpose="video")
    finished = await create(person, len(small_video()))
    fine(await patch(person, finished, 0, small_video()), 204)
    await state_of(person, finished)
    answer = await head(person, finished)
    assert answer.headers["upload-offset"] == answer.headers["upload-length"] == str(len(small_video()))
    assert "filename" in answer.headers["upload-metadata"] and "upload-expires" not in answer.headers


@pytest.mark.parametrize("path", ["/api/uploads", "/api/uploads/01900000-0000-7000-8000-000000000000"])
async def test_options_tell_what_is_spoken(api: Api, path: str) -> None:
    answer = await api("OPTIONS", path)
    assert answer.status == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(LIMIT)
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256,md5"
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation", "creation-with-upload", "creation-defer-length", "termination", "expiration", "checksum",
        "concatenation",
    }


async def test_a_background(api: Api) -> None:
    person, content = await api.user(), PAGODA.read_bytes()
    url = await create(person, len(content), "background")
    fine(await patch(person, url, 0, content), 204)
    assert (await state_of(person, url))["state"] == "ready"
    assert (await person.get(f"/api/backgrounds/{url.rsplit('/', 1)[1]}"))["width"] == 640


async def test_a_file_that_is_refused_is_204_and_get_says_why(api: Api) -> None:
    """The bytes have come, so tus is served; what the file is worth is another question."""
    person, other, content = await api.user(), await api.user(), b"no video at all" * 100
    async with api.unchanged():
        url = await create(person, len(content))
        last = await patch(person, url, 0, content)
        assert (last.status, last.headers["upload-offset"]) == (204, str(len(content)))
        upload = await state_of(person, url)
        assert upload["state"] == "rejected" and upload["problem"]["code"] == "not_video"
        assert upload["problem"]["detail"] and upload["offset"] == upload["length"] == len(content)
        chinese = fine(await person("GET", url, None, {"Accept-Language": "zh-CN"}))
        assert chinese["problem"] == {"code": "not_video", "detail": "无法识别的视频文件"}
        assert await offset_of(person, url) == len(content)
        refused(await patch(person, url, len(content), b"x"), 403, "upload_finished")
        refused(await other("GET", url), 404, "not_found")


async def test_row_84_the_method_may_be_in_a_header(api: Api) -> None:
    person, other = await api.user(), await api.user()
    url = await create(person, len(VIDEO))
    sent = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert fine(await person("POST", url, VIDEO[:5000], sent), 204) is None
    refused(await other("POST", url, b"x", {**sent, "Upload-Offset": "5000"}), 404, "not_found")
    refused(await other("POST", url, b"", {**TUS, "X-HTTP-Method-Override": "DELETE"}), 404, "not_found")
    assert await offset_of(person, url) == 5000
    fine(await person("POST", url, b"", {**TUS, "X-HTTP-Method-Override": "DELETE"}), 204)
    refused(await person("POST", url, b"", TUS), 405, "method_not_allowed")


# --- extensions -------------------------------------------------------------------------------------------------


async def test_the_first_bytes_may_come_with_the_creation(api: Api) -> None:
    person = await api.user()
    sent = {**BYTES, "Upload-Length": str(len(VIDEO)), "Upload-Metadata": metadata(purpose="video")}
    answer = await person("POST", "/api/uploads", VIDEO[:7000], sent)
    assert fine(answer, 201)["state"] == "receiving" and answer.headers["upload-offset"] == "7000"
    url = answer.headers["location"]
    fine(await patch(person, url, 7000, VIDEO[7000:]), 204)
    await kept(api, person, url, VIDEO)


async def test_the_length_may_be_said_later(api: Api) -> None:
    person = await api.user()
    url = await create(person, None)
    answer = await head(person, url)
    assert answer.headers["upload-defer-length"] == "1" and "upload-length" not in answer.headers
    fine(await patch(person, url, 0, VIDEO[:2000]), 204)
    fine(await patch(person, url, 2000, VIDEO[2000:4000], Upload_Length=str(len(VIDEO))), 204)
    assert (await head(person, url)).headers["upload-length"] == str(len(VIDEO))
    refused(await patch(person, url, 4000, b"x", Upload_Length="5000"), 400, "bad_length")
    fine(await patch(person, url, 4000, VIDEO[4000:]), 204)
    await kept(api, person, url, VIDEO)


async def test_the_length_may_be_said_last(api: Api) -> None:
    person = await api.user()
    url = await create(person, None)
    fine(await patch(person, url, 0, small_video()), 204)
    refused(await patch(person, url, len(small_video()), b"", Upload_Length="10"), 400, "bad_length")
    refused(await patch(person, url, len(small_video()), b"", Upload_Length=str(LIMIT + 1)), 413, "too_large")
    fine(await patch(person, url, len(small_video()), b"", Upload_Length=str(len(small_video()))), 204)
    await kept(api, person, url, small_video())


async def test_row_82_a_deleted_upload_is_410(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        url = await create(person, 5000)
        fine(await patch(person, url, 0, bytes(1000)), 204)
        assert len(incoming(api)) == 2  # the bytes, and how many of them hold
        fine(await delete(person, url), 204)
        assert incoming(api) == []
        refused(await patch(person, url, 1000, b"x"), 410, "upload_gone")
        refused(await delete(person, url), 410, "upload_gone")
        refused(await person("GET", url), 410, "upload_gone")
        assert (await head(person, url)).status == 410


async def test_an_upload_that_waits_too_long_is_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person, receptions = await api.user(), api.hub.rooms.receptions
    clock = api.hub.rooms.clock
    url, other = await create(person, 5000), await create(person, 5000)
    answer = await patch(person, url, 0, bytes(1000))
    left = parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() - clock.wall()
    assert 24 * 3600 - 30 < left <= 24 * 3600
    now = clock.now() + 24 * 3600 - 30
    monkeypatch.setattr(clock, "now", lambda: now)
    assert await offset_of(person, url) == 1000
    fine(await patch(person, url, 1000, bytes(1000)), 204)
    now += 60
    await receptions.expire()
    assert await offset_of(person, url) == 2000  # it had news
    refused(await patch(person, other, 0, b"x"), 410, "upload_gone")
    now += 24 * 3600
    refused(await patch(person, url, 2000, b"x"), 410, "upload_gone")
    await receptions.expire()
    assert incoming(api) == []


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
async def test_row_81_a_chunk_with_another_checksum_is_gone(api: Api, algorithm: str) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    fine(await patch(person, url, 0, VIDEO[:1000], Upload_Checksum=checksum(algorithm, VIDEO[:1000])), 204)
    damaged = bytes([VIDEO[1000] ^ 1]) + VIDEO[1001:180_000]
    answer = await patch(person, url, 1000, damaged, Upload_Checksum=checksum(algorithm, VIDEO[1000:180_000]))
    refused(answer, 460, "checksum_mismatch")
    assert await offset_of(person, url) == 1000
    answer = await patch(person, url, 1000, VIDEO[1000:], Upload_Checksum=checksum(algorithm, VIDEO[1000:]))
    fine(answer, 204)
    await kept(api, person, url, VIDEO)
    assert not [name for name in api.files() if name.endswith(".hold")]


@pytest.mark.parametrize("header", ["crc32 AAAA", "sha1", "sha1 AAAA", "sha1 !", "md5 \u00e9"])
async def test_a_checksum_that_is_none_is_400(api: Api, header: str) -> None:
    person = await api.user()
    url = await create(person, 5000)
    refused(await patch(person, url, 0, b"x", Upload_Checksum=header), 400, "bad_checksum")
    assert await offset_of(person, url) == 0


async def test_a_checked_chunk_that_is_cut_off_is_gone(api: Api) -> None:
    person = await api.user()
    url = await create(person, len(VIDEO))
    said = begun(person, url, 0, len(VIDEO)).removesuffix("\r\n")
    said += f"Upload-Checksum: {checksum('sha1', VIDEO)}\r\n\r\n"
    async with api.connection(said.encode() + VIDEO[:150_000]):
        await eventually(lambda: any(name.endswith(".hold") for name in incoming(api)))
    assert await offset_of(person, url) == 0
    fine(await patch(person, url, 0, VIDEO), 204)
    await kept(api, person, url, VIDEO)


async def test_parts_that_came_side_by_side_are_put_together(api: Api) -> None:
    person = await api.user()
    cuts = [0, 100_000, 170_000, len(VIDEO)]

    async def part(start: int, end: int) -> str:
        answer = await person("POST", "/api/uploads", b"", {
            **TUS, "Upload-Length": str(end - start), "Upload-Concat": "partial",
        })
        url: str = answer.headers["location"]
        fine(await patch(person, url, 0, VIDEO[start:end]), 204)
        return url

    parts = await asyncio.gather(*(part(start, end) for start, end in zip(cuts, cuts[1:], strict=False)))
    assert (await head(person, parts[0])).headers["upload-concat"] == "partial"
    whole = await person("POST", "/api/uploads", b"", {
        **TUS, "Upload-Concat": f"final;{parts[0]} https://hub.test{parts[1]} {parts[2]}",
        "Upload-Metadata": metadata(filename="w.mp4", purpose="video"),
    })
    fine(whole, 201)
    await kept(api, person, whole.headers["location"], VIDEO)
    assert (await person.get(f"/api/videos/check/{hashlib.md5(VIDEO).hexdigest()}"))["exists"]
    refused(await person("GET", parts[0]), 410, "upload_gone")
    refused(await patch(person, whole.headers["location"], len(VIDEO), b"x"), 403, "upload_finished")


async def test_what_cannot_be_put_together(api: Api) -> None:
    person, other = await api.user(), await api.user()
    size = LIMIT // 4
    part = await create(person, size, Upload_Concat="partial")
    plain = await create(person, 1000)
    foreign = await create(other, 1000, Upload_Concat="partial")
    absent = "/api/uploads/01900000-0000-7000-8000-000000000000"

    async def final(*urls: str, **more: str) -> Any:
        return await person("POST", "/api/uploads", b"", {
            **TUS, "Upload-Concat": f"final;{' '.join(urls)}", "Upload-Metadata": metadata(purpose="video"),
        } | {name.replace("_", "-"): value for name, value in more.items()})

    before = api.files()
    refused(await final(part), 409, "parts_unfinished")
    fine(await patch(person, part, 0, bytes(size)), 204)
    refused(await final(part, plain), 400, "bad_metadata")
    refused(await final(part, foreign), 404, "not_found")
    refused(await final(part, absent), 404, "not_found")
    refused(await final("nonsense"), 400, "bad_metadata")
    refused(await final(), 400, "bad_metadata")
    refused(await final(part, Upload_Length="1000"), 400, "bad_length")
    refused(await final(*[part] * 5), 413, "too_large")
    left, id = api.files() - before, part.rsplit("/", 1)[1]
    assert {name.rsplit("/", 1)[1] for name in left} == {id, f"{id}.hold"}
