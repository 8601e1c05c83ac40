"""Bytes going out: ranges, names, links and posters; rows 96 to 103 of the bad inputs."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AsyncExitStack
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest

import handlers.content
from handlers import sendfile
from handlers.content import Content
from hub.links import Links
from tests.handlers.fake_worker import worker
from tests.handlers.running import PATIENCE_S, SECRET, Api, fine, one_loop, refused, small_video
from tests.odd_media import PAGODA, WEBCAM

pytestmark = one_loop


@pytest.fixture(params=["sendfile", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways for bytes to go out; where it should be the fast one, it has to be."""
    handed: list[int | None] = []

    def counted(*arguments: Any) -> int | None:
        handed.append(hand_over(*arguments))
        return handed[-1]

    hand_over = sendfile.hand_over
    monkeypatch.setattr(sendfile, "hand_over", counted)
    monkeypatch.setattr(sendfile, "ENABLED", request.param == "sendfile")
    yield request.param
    if request.param == "plain":
        assert not handed


@pytest.mark.parametrize(("asked", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=0-", 0, None), ("bytes=10-19", 10, 20), ("bytes=-5", -5, None),
    ("bytes=100-99999999999", 100, None), ("bytes = 1-2", 1, 3), ("bytes=1-1", 1, 2), ("BYTES=1-1", 1, 2),
    ("bytes=-99999999", 0, None), ("bytes=99999999-,3-4", 3, 5),
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
    "bytes=x-y", "bytes=--5", "bytes=-", "bytes=", "lines=1-2", "bytes=0x1-2", "bytes=1-2,,4-5", "bytes=1-5,3-9",
    "bytes=0-,0-", "bytes=1-2;4-5", "bytes=\xb2-2", "bytes=" + "9" * 5000 + "-",
    "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(2000)), "bytes=" + ",".join(["0-"] * 2000),
])
async def test_row_98_what_cannot_be_answered_in_parts_gets_one_whole_body(api: Api, asked: str) -> None:
    video = await (await api.user()).upload_video()
    answer = await api("GET", video["content_url"], headers={"Range": asked})
    assert (answer.status, answer.body) == (200, small_video())
    assert "content-range" not in answer.headers


async def test_several_ranges_come_in_one_body_of_parts(api: Api) -> None:
    content = small_video()
    video = await (await api.user()).upload_video()
    answer = await api("GET", video["content_url"], headers={"Range": "bytes=-3, 0-1,99999999-,10-19"})
    assert answer.status == 206 and int(answer.headers["content-length"]) == len(answer.body)
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges" and boundary
    assert "content-range" not in answer.headers
    first, *parts, last = answer.body.split(b"\r\n--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    size = len(content)
    for part, (start, end) in zip(parts, [(size - 3, size), (0, 2), (10, 20)], strict=True):
        head = f"\r\nContent-Type: video/mp4\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n"
        assert part == head.encode() + content[start:end]


@pytest.mark.parametrize("asked", [
    "bytes=99999999-", "bytes=-0", "bytes=99999999-999999999", "bytes=1-0", "bytes=-0,99999999-",
])
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
    for other in ('"old"', f"W/{tag}", "yesterday", formatdate(0, usegmt=True)):
        assert (await api("GET", video["content_url"], headers={**part, "If-Range": other})).body == whole.body
    dated = {**part, "If-Range": whole.headers["last-modified"]}
    assert (await api("GET", video["content_url"], headers=dated)).status == 206


async def test_head_says_what_get_would(api: Api) -> None:
    video = await (await api.user()).upload_video()
    whole = await api("GET", video["content_url"])
    for headers in ({}, {"Range": "bytes=0-9"}):  # a range is GET's (RFC 9110 section 14.2)
        head = await api("HEAD", video["content_url"], headers=headers)
        assert (head.status, head.body) == (200, b"")
        told = dict(whole.headers)
        assert {**head.headers, "date": ""} == {**told, "date": ""}


async def test_the_version_is_the_content_s_hash(api: Api) -> None:
    video = await (await api.user()).upload_video()
    for headers in ({}, {"Range": "bytes=3-4"}):
        answer = await api("GET", video["content_url"], headers=headers)
        assert answer.headers["etag"] == f'"{video["sha256"]}"'
        digest = b64encode(bytes.fromhex(video["sha256"])).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"  # of the whole file, whatever part this is
        created = parsedate_to_datetime(answer.headers["last-modified"]).timestamp()
        assert abs(created - time.time()) < 60


CONDITIONS: dict[str, tuple[dict[str, str], int]] = {
    "if-none-match": ({"If-None-Match": "{tag}"}, 304), "weak": ({"If-None-Match": '"x", W/{tag}'}, 304),
    "any": ({"If-None-Match": "*"}, 304), "another": ({"If-None-Match": '"x"', "If-Modified-Since": "{later}"}, 200),
    "since": ({"If-Modified-Since": "{at}"}, 304), "since-later": ({"If-Modified-Since": "{later}"}, 304),
    "since-long": ({"If-Modified-Since": "{before}"}, 200), "since-nonsense": ({"If-Modified-Since": "x"}, 200),
    "since-range": ({"If-Modified-Since": "{at}", "Range": "bytes=99999999-"}, 304),
    "if-match": ({"If-Match": '"x", {tag}'}, 200), "if-match-any": ({"If-Match": "*"}, 200),
    "if-match-another": ({"If-Match": '"x"'}, 412), "if-match-weak": ({"If-Match": 'W/"x"'}, 412),
    "unmodified": ({"If-Unmodified-Since": "{at}"}, 200), "modified": ({"If-Unmodified-Since": "{before}"}, 412),
    "match-first": ({"If-Match": "{tag}", "If-Unmodified-Since": "{before}"}, 200),
    "no-date": ({"If-Modified-Since": "Thu, 99 Jan 9999999 00:00:00 GMT"}, 200),
}


@pytest.mark.parametrize(("headers", "status"), CONDITIONS.values(), ids=CONDITIONS.keys())
async def test_conditions_are_met_or_not(api: Api, headers: dict[str, str], status: int) -> None:
    video = await (await api.user()).upload_video()
    told = (await api("HEAD", video["content_url"])).headers
    at = parsedate_to_datetime(told["last-modified"]).timestamp()
    values = {
        "tag": told["etag"], "at": told["last-modified"], "later": formatdate(at + 60, usegmt=True),
        "before": formatdate(at - 1, usegmt=True),
    }
    answer = await api("GET", video["content_url"], headers={k: v.format(**values) for k, v in headers.items()})
    if status == 412:
        refused(answer, 412, "precondition_failed")
    else:
        assert (answer.status, answer.body) == (status, small_video() if status == 200 else b"")
        assert answer.headers["etag"] == told["etag"]


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
    head, plain, rest = disposition.split('"')  # RFC 6266: exactly one quoted name, in ASCII, for those who need it
    assert (head, rest) == ("inline; filename=", f"; filename*=UTF-8''{quote(video['name'], safe='')}")
    assert plain.isascii() and plain.isprintable() and not set(plain) & set("\\%/")
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


async def test_a_link_ends_with_what_it_opens(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    fine(await person("DELETE", f"/api/videos/{video['id']}"), 204)
    refused(await api("GET", video["content_url"]), 404, "not_found")
    refused(await api("GET", video["poster_url"]), 404, "not_found")


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


async def test_a_reader_that_stalls_for_long_is_hung_up_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.content, "IDLE_S", 0.2)
    ended, send = asyncio.Event(), Content.send

    async def watched(*arguments: Any) -> None:
        await send(*arguments)
        ended.set()

    monkeypatch.setattr(Content, "send", watched)
    video = await (await api.user()).upload_video(WEBCAM.read_bytes() + b"\0\0\0\x0cfreeface")
    [path] = [api.folder / name for name in api.files() if name.endswith(video["sha256"])]
    os.truncate(path, 64 * 1024 * 1024)  # more than two sockets hold
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or its system goes on taking for a while
        line.connect(("127.0.0.1", api.hub.port))
        line.setblocking(False)
        line.send(f"GET {video['content_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
            taken = b""
            while piece := await asyncio.get_running_loop().sock_recv(line, 1 << 20):
                taken += piece
        assert b" 200 " in taken[:20] and len(taken) < 64 * 1024 * 1024


async def test_a_connection_goes_on_after_a_file(api: Api) -> None:
    video = await (await api.user()).upload_video()
    async with api.connection() as (reader, writer):
        for _ in range(3):
            writer.write(f"GET {video['content_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert f"Content-Length: {len(small_video())}\r\n".encode() in head
            assert await reader.readexactly(len(small_video())) == small_video()


async def test_whole_files_go_out_by_sendfile(api: Api, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way is really taken, and another Tornado than the known one does no harm."""
    sent: list[int] = []
    send = sendfile.send

    async def counted(*arguments: Any) -> int:
        sent.append(await send(*arguments))
        return sent[-1]

    monkeypatch.setattr(sendfile, "send", counted)
    video = await (await api.user()).upload_video()
    assert (await api("GET", video["content_url"])).body == small_video()
    assert sent == [len(small_video()) if way == "sendfile" else 0]
    monkeypatch.setattr(sendfile, "IOStream", object)
    assert (await api("GET", video["content_url"])).body == small_video()
    assert sent[1:] == [0]


async def test_a_file_that_is_gone_is_not_found(api: Api) -> None:
    video = await (await api.user()).upload_video(WEBCAM.read_bytes() + b"\0\0\0\x08free")
    [path] = [api.folder / name for name in api.files() if name.endswith(video["sha256"])]
    path.unlink()
    refused(await api("GET", video["content_url"]), 404, "not_found")
