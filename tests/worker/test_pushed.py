"""A worker that is called: what its small server takes, what it answers, and how it calls back."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from hub.messages import Ack, Cancel, Hello, Status, Welcome, encode
from hub.webhooks import signed_headers
from worker.errors import Lost
from worker.pushed import MAX_BODY, PushConnection, PushTransport
from worker.testing import FakeHub

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
HELLO = encode(Hello(n=1, protocol=1, worker="anna", instance="i", models=[]))
WELCOME = Welcome(n=1, ack=1, session="session-1", heartbeat_s=60, renew_s=30, lease_s=120)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        yield hub


@pytest.fixture
async def transport(hub: FakeHub) -> AsyncIterator[PushTransport]:
    transport = PushTransport(hub.poll_url, hub.token, SECRET)
    await transport.listen()
    yield transport
    await transport.close()


async def raw(transport: PushTransport, data: bytes) -> bytes:
    """What comes back for these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", transport.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()


async def call(
    transport: PushTransport, session: str | None, *messages: Any, id: str = "", at: float | None = None,
    secret: str = SECRET, headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Call as the hub does; status and answer."""
    body = msgspec.json.encode({"session": session, "messages": list(messages), "ack": 1})
    made = signed_headers(secret, id or f"id-{time.monotonic_ns()}", at or time.time(), body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**made, **(headers or {})}.items())
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    answer = await raw(transport, head.encode() + body)
    status, _, content = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), msgspec.json.decode(content) if content else None


async def conversing(transport: PushTransport) -> PushConnection:
    """A connection over which hello was said, and the hub has welcomed."""
    asking = asyncio.create_task(call(transport, None))
    connection = await transport.open()
    await connection.send(HELLO)
    assert (await asking) == (200, {"messages": [msgspec.json.decode(HELLO)], "ack": 0})
    receiving = asyncio.create_task(connection.receive())
    welcoming = asyncio.create_task(call(transport, "session-1", WELCOME))
    assert b"welcome" in await receiving
    assert b'"ack":1' in await connection.receive()
    assert (await welcoming) == (200, {"messages": [], "ack": 1})
    return connection


async def test_a_call_without_a_session_is_answered_with_hello_and_what_it_brings_is_acknowledged(
    transport: PushTransport,
) -> None:
    connection = await conversing(transport)
    receiving = asyncio.create_task(connection.receive())
    calling = asyncio.create_task(call(transport, "session-1", Cancel(n=2, lease="a"), Cancel(n=3, lease="b")))
    assert b'"lease":"a"' in await receiving
    assert b'"lease":"b"' in await connection.receive()
    last = asyncio.create_task(connection.receive())
    assert (await calling) == (200, {"messages": [], "ack": 3})
    assert (await call(transport, "session-1", Cancel(n=2, lease="a"), Cancel(n=3, lease="b")))[1]["ack"] == 3
    assert not last.done()
    last.cancel()


async def test_a_replayed_call_changes_nothing(transport: PushTransport) -> None:
    connection = await conversing(transport)
    receiving = asyncio.create_task(connection.receive())
    calling = asyncio.create_task(call(transport, "session-1", Cancel(n=2, lease="a"), id="one"))
    assert b'"lease":"a"' in await receiving
    receiving = asyncio.create_task(connection.receive())
    assert (await calling)[1]["ack"] == 2
    replayed = await call(transport, None, id="one")
    assert replayed == (200, {"messages": [], "ack": 2})
    assert connection.ended is None and not receiving.done()
    receiving.cancel()


async def test_a_call_that_is_not_the_hubs_is_refused(transport: PushTransport) -> None:
    await conversing(transport)
    other = "whsec_" + b64encode(b"x" * 32).decode()
    assert await call(transport, None, secret=other) == (401, None)
    assert await call(transport, None, at=time.time() - 301) == (401, None)
    assert await call(transport, None, at=time.time() + 301) == (401, None)
    assert await call(transport, None, headers={"webhook-signature": "v1,AAAA"}) == (401, None)
    assert await call(transport, None, headers={"webhook-id": ""}) == (401, None)
    assert transport.connection is not None and transport.connection.ended is None


@pytest.mark.parametrize("request_line, headers, status", [
    ("GET / HTTP/1.1", "", 405), ("POST / HTTP/1.1", "", 411), ("POST / HTTP/1.1", "Content-Length: -1\r\n", 411),
    ("POST / HTTP/1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 411),
    ("POST / HTTP/1.1", f"Content-Length: {MAX_BODY + 1}\r\n", 413), ("POST / HTTP/1.1", "Content-Length: 0\r\n", 401),
    ("POST / HTTP/1.1", "x: y\r\n" * 300, 400), ("\x16\x03\x01", "", 405),
])
async def test_what_is_no_call_is_refused(
    transport: PushTransport, request_line: str, headers: str, status: int
) -> None:
    answer = await raw(transport, f"{request_line}\r\nHost: x\r\n{headers}\r\n".encode("latin-1"))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_what_never_ends_or_breaks_off_is_dropped(
    transport: PushTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await raw(transport, b"POST / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000) == b""
    monkeypatch.setattr("worker.pushed.CALL_S", 0.05)
    assert await raw(transport, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nx") == b""


async def test_signed_nonsense_is_refused(transport: PushTransport) -> None:
    body = b'{"messages": 1}'
    headers = signed_headers(SECRET, "a", time.time(), body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = await raw(transport, f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_hub_that_knows_no_session_any_more_ends_the_connection_and_gets_a_new_hello(
    transport: PushTransport,
) -> None:
    connection = await conversing(transport)
    receiving = asyncio.create_task(connection.receive())
    asking = asyncio.create_task(call(transport, None))
    with pytest.raises(Lost, match="does not know this session"):
        await receiving
    again = await transport.open()
    await again.send(HELLO)
    assert (await asking)[1]["messages"] == [msgspec.json.decode(HELLO)]
    assert connection is not again


async def test_a_call_is_answered_with_nothing_when_nobody_says_hello(
    transport: PushTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pushed.ANSWER_S", 0.05)
    assert await call(transport, None) == (200, {"messages": [], "ack": 0})
    connection = await transport.open()
    await connection.send(HELLO)
    assert len((await call(transport, None))[1]["messages"]) == 1


async def test_what_the_worker_says_goes_to_the_hub(hub: FakeHub, transport: PushTransport) -> None:
    connection = await conversing(transport)
    hub.session, hub.instance, hub.heard = 1, "i", 1
    hub.poll_answers.extend([503, 0])
    await connection.send(encode(Status(n=2, ack=1, slots_free=1)))
    assert (await hub.expect(Status)).n == 2
    assert await connection.receive() == encode(Ack(ack=2))
    hub.forget()
    with pytest.raises(Lost, match="409"):
        await connection.send(encode(Status(n=3, ack=1, slots_free=1)))


async def test_what_the_worker_says_is_said_until_the_hub_answers(
    hub: FakeHub, transport: PushTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pushed.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("worker.pushed.LONGEST_PAUSE_S", 0.02)
    connection = await conversing(transport)
    hub.session, hub.instance, hub.heard = 1, "i", 1
    hub.poll_answers.extend([503, 0] * 10)
    await connection.send(encode(Status(n=2, ack=1, slots_free=1)))
    assert (await hub.expect(Status)).n == 2 and not hub.poll_answers


async def test_an_address_that_is_taken_is_told(transport: PushTransport) -> None:
    second = PushTransport("http://127.0.0.1:1", "token", SECRET, port=transport.port)
    with pytest.raises(Lost, match=f"cannot listen at 127.0.0.1:{transport.port}"):
        await second.open()
