"""Bytes going out: ranges, names, links and posters; rows 96 to 103 of the bad inputs."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from urllib.parse import quote

import pytest

from hub.links import Links
from tests.handlers.fake_worker import worker
from tests.handlers.running import SECRET, Api, fine, one_loop, refused, small_video
from tests.odd_media import PAGODA, WEBCAM

pytestmark = one_loop


@pytest.mark.parametrize(("asked", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=0-", 0, None), ("bytes=10-19", 10, 20), ("bytes=-5", -5, None),
    ("bytes=100-99999999999", 100, None), ("bytes = 1-2", 1, 3), ("bytes=1-1", 1, 2),
])
async def test_one_range_is_206(api: Api, asked: str, start: int, end: int | None) -> None:
    content = small_video()
    video = await (await api.user()).upload_video()
    answer = await api("GET", video["content_url"], headers={"Range": asked})
    assert (answer.status, answer.body) == (206, content[start:end])
    first = start % len(content)
    last = (len(content) if end is None else end) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("asked", [
    "bytes=1-0", "bytes=x-y", "bytes=--5", "bytes=-", "bytes=", "lines=1-2", "bytes=0x1-2", "bytes=1-2,4-5",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(2000)), "bytes=" + "9" * 5000 + "-",
])
async def test_row_98_what_is_not_one_range_gets_one_whole_body_or_416(api: Api, asked: str) -> None:
    video = await (await api.user()).upload_video()
    answer = await api("GET", video["content_url"], headers={"Range": asked})
    if asked == "bytes=1-0":
        refused(answer, 416, "unsatisfiable_range")
    else:
        assert (answer.status, answer.body) == (200, small_video())


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", "bytes=99999999-999999999"])
async def test_row_96_an_unsatisfiable_range_is_416_and_says_the_size(api: Api, asked: str) -> None:
    video = await (await api.user()).upload_video()
    answer = await api("GET", video["content_url"], headers={"Range": asked})
    refused(answer, 416, "unsatisfiable_range")
    assert answer.headers["content-range"] == f"bytes */{len(small_video())}"


async def test_what_is_cached_is_not_sent_again_and_an_old_range_is_not_mixed_in(api: Api) -> None:
    video = await (await api.user()).upload_video()
    whole = await api("GET", video["content_url"])
    tag = whole.headers["etag"]
    again = await api("GET", video["content_url"], headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    part = {"Range": "bytes=0-9", "If-Range": tag}
    assert (await api("GET", video["content_url"], headers=part)).status == 206
    assert (await api("GET", video["content_url"], headers={**part, "If-Range": '"old"'})).body == whole.body
    head = await api("HEAD", video["content_url"])
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "etag", "content-type", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]


async def test_row_101_what_users_sent_never_runs_in_a_browser(api: Api) -> None:
    """P16: the type is the probe's, whatever the uploader said, and nothing may run in it."""
    person = await api.user()
    sent = await person.upload(small_video(), "videos", "video/html", "x.html")
    answer = await api("GET", fine(sent, 201)["content_url"])
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["content-disposition"].startswith("inline;")
    octets = await person.upload(PAGODA.read_bytes(), "backgrounds", "application/octet-stream", "x.svg")
    assert (await api("GET", fine(octets, 201)["content_url"])).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("name", [
    'x"; filename="evil.html', "x\r\nSet-Cookie: a=b", "名前 ☀.mp4", "a;b=c,d.mp4", "%22%0d%0a.mp4", "../x.mp4",
])
async def test_row_102_a_hostile_name_stays_inside_its_header(api: Api, name: str) -> None:
    person = await api.user()
    video = fine(await person.upload(small_video(), name=quote(name, safe="")), 201)
    answer = await api("GET", video["content_url"])
    assert answer.body == small_video()
    disposition = answer.headers["content-disposition"]
    assert disposition == f"inline; filename*=UTF-8''{quote(video['name'], safe='')}"
    assert "set-cookie" not in answer.headers
    assert (await api("GET", video["content_url"] + "&download=1")).headers["content-disposition"].startswith("attach")


async def test_a_link_opens_one_file_until_it_expires(api: Api) -> None:
    person = await api.user()
    video, other = await person.upload_video(), await person.upload_background()
    path, query = video["content_url"].split("?")
    assert (await api("GET", f"{path.rpartition('/')[0]}/another-name?{query}")).status == 200
    swapped = other["content_url"].split("?")[0]
    for bad in (
        f"{swapped}?{query}", f"/posters/{video['id']}?{query}", f"{path}?{query}x", f"{path}?{query}%ed%a0%80",
    ):
        answer = await api("GET", bad)
        assert answer.status in (400, 403), bad
        refused(answer, answer.status, "bad_query" if answer.status == 400 else "link_invalid")
    for query in ("signature=x", "signature=x&expires=", "signature=x&expires=-1", "signature=&expires=99999999999"):
        assert (await api("GET", f"{path}?{query}")).status in (401, 403), query
    old = Links(SECRET.encode(), "").sign(path.rpartition("/")[0], int(time.time()) - 1).split("?")[1]
    refused(await api("GET", f"{path}?{old}"), 403, "link_expired")
    refused(await api("GET", path), 401, "unauthorized")


async def test_p16_a_lease_opens_its_inputs_and_nothing_else(api: Api) -> None:
    person = await api.user()
    secret = await person.upload_video(WEBCAM.read_bytes())
    async with worker(api) as maker:
        task = await person.create(maker.model)
        assign = await maker.take()
        job = assign.upload_url.partition("?")[2]
        assert (await api("GET", assign.inputs[0].url)).status == 200
        for path in (
            f"/videos/{secret['id']}/x", f"/posters/{task['video']['id']}", f"/output/{task['id']}/v-result.mp4",
            f"/backgrounds/{task['video']['id']}/x",
        ):
            refused(await api("GET", f"{path}?{job}"), 404, "not_found")
            refused(await api("GET", f"{path}?{job}x"), 401, "job_token_invalid")
        refused(await api("GET", "/api/tasks", token=job.partition("=")[2]), 401, "unauthorized")
        await maker.finish(assign)
    refused(await api("GET", assign.inputs[0].url), 409, "lease_lost")


async def test_an_admin_may_look(api: Api) -> None:
    video = await (await api.user()).upload_video()
    admin = await api.user("admin")
    assert (await admin("GET", f"/videos/{video['id']}/v.mp4")).body == small_video()
    refused(await admin("GET", f"/api/videos/{video['id']}"), 404, "not_found")


async def test_row_103_stalled_readers_hold_up_nobody(api: Api) -> None:
    """P13: forty clients ask for a file and do not read it."""
    filler = 0x2c0000
    content = WEBCAM.read_bytes() + filler.to_bytes(4) + b"free" + bytes(filler - 8)
    video = await (await api.user()).upload_video(content)
    async with AsyncExitStack() as stack:
        for _ in range(40):
            asking = f"GET {video['content_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            _, writer = await stack.enter_async_context(api.connection(asking))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            assert (await api("GET", "/livez")).status == 200
            assert (await api("GET", video["content_url"])).body == content


async def test_a_file_that_is_gone_is_not_found(api: Api) -> None:
    video = await (await api.user()).upload_video(WEBCAM.read_bytes() + b"\0\0\0\x08free")
    [path] = [api.folder / name for name in api.files() if name.endswith(video["sha256"])]
    path.unlink()
    refused(await api("GET", video["content_url"]), 404, "not_found")
