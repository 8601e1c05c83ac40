"""HTTP as strangers may speak it: rows 1 to 21 of the bad inputs, over raw sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

import handlers.app
import handlers.base
from tests.handlers.running import Api, Place, eventually, fine, one_loop, refused, running_hub

pytestmark = one_loop
HOST = "Host: localhost\r\n"
POST = "POST /api/auth/login HTTP/1.1\r\n" + HOST + "Content-Type: application/json\r\n"
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Reply:
    """An answer taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


def read(raw: bytes) -> Reply:
    """The first answer in these bytes."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(first.split()[1]), headers, body)


UNREADABLE = {
    "01-no-host": "GET /livez HTTP/1.1\r\n\r\n",
    "02-two-hosts": f"GET /livez HTTP/1.1\r\n{HOST}Host: other\r\n\r\n",
    "03-host-with-space": "GET /livez HTTP/1.1\r\nHost: a b/c\r\n\r\n",
    "05-length-and-chunked": POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "06-xchunked": POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "06-chunked-twice": POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "07-two-lengths": POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "08-length-plus": POST + "Content-Length: +2\r\n\r\n{}",
    "08-length-negative": POST + "Content-Length: -1\r\n\r\n{}",
    "08-length-hex": POST + "Content-Length: 0x2\r\n\r\n{}",
    "08-length-underscore": POST + "Content-Length: 1_0\r\n\r\n{}",
    "08-length-5000-digits": POST + f"Content-Length: {'9' * 5000}\r\n\r\n{{}}",
    "09-chunk-negative": CHUNKED + "-1\r\n{}\r\n0\r\n\r\n",
    "09-chunk-hex-prefix": CHUNKED + "0x2\r\n{}\r\n0\r\n\r\n",
    "09-chunk-without-end": CHUNKED + "2\r\n{}XX0\r\n\r\n",
    "09-chunk-extension": CHUNKED + "2;a=b\r\n{}\r\n0\r\n\r\n",
    "09-trailer": CHUNKED + "2\r\n{}\r\n0\r\nA: b\r\n\r\n",
    "10-folded-header": f"GET /livez HTTP/1.1\r\n{HOST}A: b\r\n c\r\n\r\n",
    "10-bare-cr": f"GET /livez HTTP/1.1\r\n{HOST}A: b\rc\r\n\r\n",
    "10-nul-in-header": f"GET /livez HTTP/1.1\r\n{HOST}A: b\x00c\r\n\r\n",
    "10-space-before-colon": f"GET /livez HTTP/1.1\r\n{HOST}A : b\r\n\r\n",
    "12-http-0.9": "GET /livez\r\n\r\n",
    "12-http-2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "14-nul-in-target": f"GET /livez\x00 HTTP/1.1\r\n{HOST}\r\n",
    "16-1500-arguments": f"GET /livez?{'&'.join(f'a{n}=1' for n in range(1500))} HTTP/1.1\r\n{HOST}\r\n",
}


@pytest.mark.parametrize("request_text", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_row_unreadable_requests_get_400_and_the_connection_ends(api: Api, request_text: str) -> None:
    raw = await api.raw(request_text)
    assert b" 400 " in raw.split(b"\r\n")[0], raw[:200]
    assert raw.count(b"HTTP/1.1 ") == 1


async def test_row_12_a_tls_hello_gets_no_more_than_400(api: Api) -> None:
    raw = await api.raw(bytes.fromhex("16030100a5010000a10303") + bytes(20) + b"\r\n\r\n")
    assert raw == b"" or b" 400 " in raw.split(b"\r\n")[0]


async def test_row_04_a_foreign_host_is_refused_even_with_a_good_token(api: Api) -> None:
    person = await api.user()
    for host in ("evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "[::1", "[evil]"):
        answer = await person("GET", "/api/tasks", headers={"Host": host})
        if answer.body:
            refused(answer, 421, "bad_host")
        else:
            assert answer.status == 400
    for host in ("localhost:1", f"127.0.0.1:{api.hub.port}", "10.1.2.3", "[::1]", "videos.test", "LOCALHOST"):
        assert (await person("GET", "/api/tasks", headers={"Host": host})).status == 200, host


async def test_row_11_headers_of_70_kb_are_431(api: Api) -> None:
    long = f"GET /livez HTTP/1.1\r\n{HOST}A: {'a' * 70_000}\r\nConnection: close\r\n\r\n"
    answer = read(await api.raw(long))
    assert answer.status == 431
    assert json.loads(answer.body)["code"] == "headers_too_large"


async def test_row_11_endless_headers_are_cut_off(api: Api) -> None:
    raw = await api.raw(f"GET /livez HTTP/1.1\r\n{HOST}".encode() + b"A: " + b"a" * 1_000_000)
    assert raw == b""


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "X" * 5000])
async def test_row_13_unknown_methods_are_405(api: Api, method: str) -> None:
    answer = read(await api.raw(f"{method} /api/tasks HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()))
    assert answer.status == 405
    assert json.loads(answer.body)["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


async def test_row_13_a_method_that_an_endpoint_lacks_is_405_before_its_body(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        answer = await person("PUT", "/api/videos", b"x" * 100_000, {"Content-Type": "video/mp4"})
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"
        refused(await person("POST", "/api/videos/x", b"x", {"Content-Type": "video/mp4"}), 405, "method_not_allowed")
        refused(await person("PATCH", "/", b"x"), 405, "method_not_allowed")


async def test_row_15_a_query_that_is_not_utf8_is_400(api: Api) -> None:
    for path in ("/api/models?q=%ff", "/livez?x=%c3%28", "/api/tasks?state=%ff"):
        refused(await (await api.user())("GET", path), 400, "bad_query")


async def test_a_path_that_is_not_utf8_is_400(api: Api) -> None:
    refused(await (await api.user())("GET", "/api/tasks/%ff"), 400, "bad_request")
    refused(await api("GET", "/js/%ff.js"), 400, "bad_request")


async def test_row_17_headers_that_drip_are_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.app, "QUIET_S", 0.3)
    async with running_hub(place) as hub:
        assert await Api(hub, place.folder).raw(b"GET /livez HTTP/1.1\r\nHost: ") == b""


async def test_row_18_a_body_that_drips_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.base, "BODY_S", 0.3)
    assert await api.raw(POST + "Content-Length: 100\r\n\r\n{") == b""


async def test_row_19_a_body_over_the_limit_is_413_before_it_is_read(api: Api) -> None:
    for length in (300_000, 900_000):
        answer = await api("POST", "/api/auth/login", b" " * length, {"Content-Type": "application/json"})
        refused(answer, 413, "too_large")


async def test_row_19_a_chunked_body_over_the_limit_is_413(api: Api) -> None:
    body = b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    head = CHUNKED.replace("chunked", "chunked\r\nConnection: close").encode()
    answer = read(await api.raw(head + body))
    assert answer.status == 413
    assert json.loads(answer.body)["code"] == "too_large"


async def test_p4_a_refusal_is_told_before_the_body_has_come(api: Api) -> None:
    """P4: 401 arrives although not one byte of the ten megabytes was sent, and can be read after some were."""
    head = f"POST /api/videos HTTP/1.1\r\n{HOST}Content-Length: 10000000\r\n\r\n"
    async with api.connection(head) as (reader, writer):
        assert b" 401 " in await reader.readline()
        writer.write(b"x" * 900_000)
        await writer.drain()
        writer.write(b"x" * 9_100_000)  # not all of this is taken
        assert b"unauthorized" in await reader.readuntil(b"}")


async def test_p4_a_client_that_asks_first_is_told_to_send_nothing(api: Api) -> None:
    raw = await api.raw(
        f"POST /api/videos HTTP/1.1\r\n{HOST}Content-Length: 10000000\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert b"100 (Continue)" not in raw
    assert read(raw).status == 401


async def test_p4_a_connection_serves_on_after_a_refused_body(api: Api) -> None:
    refusal = f"POST /api/videos HTTP/1.1\r\n{HOST}Content-Length: 500000\r\n\r\n".encode() + b"x" * 500_000
    raw = await api.raw(refusal + f"GET /livez HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())
    assert raw.count(b"HTTP/1.1 401 ") == raw.count(b"HTTP/1.1 200 ") == 1


async def test_row_20_a_compressed_body_is_415_and_never_inflated(api: Api) -> None:
    bomb = gzip.compress(b"[" * 10_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(await api("POST", "/api/auth/login", bomb, headers), 415, "unsupported_media_type")


async def test_row_21_300_idle_sockets_hold_up_nobody(api: Api) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(300):
            await stack.enter_async_context(api.connection())
        async with asyncio.timeout(5):
            assert fine(await api("GET", "/livez"))["status"] == "ok"


async def test_a_large_body_for_the_page_is_not_taken(api: Api) -> None:
    assert b" 400 " in await api.raw(f"POST / HTTP/1.1\r\n{HOST}Content-Length: 9000000\r\n\r\n".encode())


async def test_row_130_a_foreign_page_gets_no_permission(api: Api) -> None:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin in ("https://evil.test", "null", "https://videos.test.evil.test", "http://videos.test"):
        answer = await api("OPTIONS", "/api/tasks", headers={**asking, "Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-methods" not in answer.headers
    for origin in ("https://videos.test", "https://friend.test"):
        answer = await api("OPTIONS", "/api/tasks", headers={**asking, "Origin": origin})
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        told = refused(await api("GET", "/api/tasks", headers={"Origin": origin}), 401, "unauthorized")
        assert told["detail"]


async def test_an_error_can_be_read_by_a_page_that_may_call(api: Api) -> None:
    answer = await api("GET", "/api/tasks", headers={"Origin": "https://friend.test"})
    assert answer.headers["access-control-allow-origin"] == "https://friend.test"
    assert answer.headers["vary"] == "Origin"


async def test_row_131_a_form_of_another_site_is_415(api: Api) -> None:
    login = json.dumps({"email": "a@b.test", "password": "12345678"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await api("POST", "/api/auth/login", login, {"Content-Type": kind, "Origin": "https://evil.test"})
        refused(answer, 415, "unsupported_media_type")


async def test_row_132_nothing_redirects(api: Api) -> None:
    for path in ("/?next=//evil.test", "//evil.test", "/js", "/js/", "/api/auth/login?next=//evil.test"):
        answer = await api("GET", path)
        assert answer.status in (200, 404, 405), path
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", [
    "/js/../../setup.cfg", "/js/%2e%2e/%2e%2e/setup.cfg", "/js/..%2f..%2fsetup.cfg", "/js/....//setup.cfg",
    "/js/..%5c..%5csetup.cfg", "/js/%252e%252e/setup.cfg", "/../setup.cfg", "/js//etc/passwd", "/js/%2fetc/passwd",
    "/videos/../../etc/passwd/x", "/videos/%2e%2e/x", "/output/..%2f../x", "/posters/..", "/posters/%2e%2e%2fx",
    "/js/.", "/js/..", "/css/../js/../../hub/core.py", "/videos/..;/x", "/js/..%c0%af../setup.cfg",
])
async def test_row_99_no_spelling_of_dots_leads_out(api: Api, path: str) -> None:
    answer = read(await api.raw(f"GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()))
    assert answer.status in (400, 401, 404)
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"[metadata]" not in answer.body and b"root:" not in answer.body


async def test_row_99_nul_in_a_path_is_400_or_404(api: Api) -> None:
    refused(await api("GET", "/js/%00"), 400, "bad_request")
    refused(await (await api.user())("GET", "/videos/%00/x"), 404, "not_found")


async def test_the_page_is_served_with_its_policy(api: Api) -> None:
    answer = await api("GET", "/")
    assert answer.status == 200 and b"<html" in answer.body
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    again = await api("GET", "/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_words_follow_the_reader_and_codes_do_not(api: Api) -> None:
    english = refused(await api("GET", "/api/tasks"), 401, "unauthorized")
    header = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
    chinese = refused(await api("GET", "/api/tasks", headers=header), 401, "unauthorized")
    assert (english["title"], chinese["title"]) == ("Please sign in", "请先登录")


async def test_row_134_no_secret_reaches_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    person = await api.user()
    await person("GET", f"/api/tasks?limit=1&token={person.token}", headers={"Referer": f"http://x/?t={person.token}"})
    video = await person.upload_video()
    await api("GET", video["content_url"])
    await api("GET", f"/livez?token={person.token}")
    await eventually(lambda: "/livez" in caplog.text)
    signature = video["content_url"].partition("signature=")[2]
    assert signature and signature not in caplog.text
    assert person.token not in caplog.text
