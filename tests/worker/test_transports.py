"""The ways to the hub: each carries whole jobs, and a change between them loses nothing and repeats nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.messages import (
    Bye, Cancel, Decline, Hello, Progress, Reconnect, Renew, Result, ResultAck, Status, encode,
)
from tests.worker.serving import Brittle, Turns, make_worker, serving
from worker.auto import AutoTransport
from worker.errors import Lost, NoWebSocket, Refused
from worker.polling import PollConnection, PollTransport
from worker.testing import FakeHub
from worker.threads import in_thread
from worker.transports import Transport, WebSocketTransport


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        yield hub


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def open_gate(gate: Path) -> None:
    await in_thread(lambda: gate.write_text("go\n"))


def handshakes(hub: FakeHub) -> int:
    """How often a websocket was tried where none gets through."""
    return sum(line.startswith("GET /api/workers/session") for line, _ in hub.requests)


def said_once_in_order(hub: FakeHub) -> bool:
    numbers = [message.n for message in hub.said if not isinstance(message, Hello)]
    return numbers == sorted(set(numbers))


@pytest.mark.parametrize("transport", ["websocket", "poll", "auto"])
async def test_a_whole_job(hub: FakeHub, transport: str) -> None:
    async with serving(hub, transport=transport):
        for _ in range(2):
            lease = await hub.assign("copy")
            result = await hub.expect(Result, lease=lease)
            assert hub.uploads[result.artifacts[0].upload_id] == b"moving"
            await hub.send(ResultAck(lease=lease))
    last = {message.phase: message.progress for message in hub.said if isinstance(message, Progress)}
    assert last == {"fetch": 5.0, "segment": 50.0, "encode": 95.0, "upload": 100.0}
    assert isinstance(hub.said[-1], Bye) and said_once_in_order(hub)
    assert len([message for message in hub.said if isinstance(message, Hello)]) == 1
    assert handshakes(hub) == (2 if transport == "auto" else 0)


async def test_there_are_no_other_transports() -> None:
    with pytest.raises(ValueError, match="no transport 'pigeon'; there are auto, websocket, poll"):
        await make_worker().serve("http://127.0.0.1:1", "token", transport="pigeon")


# --- changing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["websocket", "poll"])
async def test_a_change_of_transport_in_mid_job_loses_nothing_and_repeats_nothing(
    hub: FakeHub, gate: Path, first: str
) -> None:
    ways: list[Transport] = [WebSocketTransport(hub.url, hub.token), PollTransport(hub.poll_url, hub.token)]
    turns = Turns(*(ways if first == "websocket" else reversed(ways)))
    async with serving(hub, transport=turns):
        hello = await hub.expect(Hello)
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        for _ in range(4):
            await hub.send(Reconnect(after_s=0.0))
            again = await hub.expect(Hello)
            assert (again.instance, again.running) == (hello.instance, [lease])
            await hub.offer("nothing-like-it")
            await hub.expect(Decline)
        await open_gate(gate)
        await hub.expect(Result, lease=lease)
        await hub.send(Reconnect(after_s=0.0))
        assert (await hub.expect(Hello)).running == [lease]
        await hub.send(ResultAck(lease=lease))
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
    assert turns.opened == 6 and said_once_in_order(hub)
    assert len(hub.uploads) == len([message for message in hub.said if isinstance(message, Result)]) == 1


async def test_what_was_said_on_a_way_that_broke_arrives_once_on_the_other(hub: FakeHub, gate: Path) -> None:
    turns = Turns(WebSocketTransport(hub.url, hub.token), PollTransport(hub.poll_url, hub.token))
    async with serving(hub, transport=turns):
        await hub.expect(Hello)
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        await hub.drop()
        await hub.send(Cancel(lease=lease))
        assert (await hub.expect(Hello)).running == [lease]
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
        await hub.send(Reconnect(after_s=0.0))
        assert (await hub.expect(Hello)).running == []
    assert said_once_in_order(hub)


# --- words that cannot be said ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Lost("no answer"), TypeError("a bug")])
async def test_a_word_that_cannot_be_said_brings_a_new_connection_on_which_all_is_said(
    gate: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeHub(renew_s=0.05, heartbeat_s=0.05) as hub:
        hub.put("video", b"moving")
        brittle = Brittle(WebSocketTransport(hub.url, hub.token))
        async with serving(hub, transport=brittle):
            await hub.expect(Hello)
            lease = await hub.assign("gate", {"gate": str(gate)})
            await hub.expect(Progress, phase="segment")
            brittle.errors.append(error)
            assert (await hub.expect(Hello)).running == [lease]
            await hub.expect(Renew, lease=lease)
            await open_gate(gate)
            await hub.expect(Result, lease=lease)
            await hub.send(ResultAck(lease=lease))
    complaints = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(complaints) == isinstance(error, TypeError) and all("TypeError: a bug" in text for text in complaints)
    caplog.clear()


async def test_a_word_that_is_refused_ends_the_worker(hub: FakeHub) -> None:
    brittle = Brittle(WebSocketTransport(hub.url, hub.token))
    service = asyncio.create_task(make_worker().serve(hub.url, hub.token, transport=brittle))
    await hub.expect(Status)
    brittle.errors.append(Refused("401"))
    await hub.offer("nothing-like-it")
    with pytest.raises(Refused, match="401"):
        await asyncio.wait_for(service, 20)


# --- polls ------------------------------------------------------------------------------------------------------


async def test_answers_of_polls_that_are_lost_come_again_and_count_once(hub: FakeHub) -> None:
    async with serving(hub, transport="poll"):
        await hub.expect(Hello)
        for _ in range(3):
            hub.poll_answers.extend([0, 0, 0])
            lease = await hub.assign("copy")
            result = await hub.expect(Result, lease=lease)
            assert hub.uploads[result.artifacts[0].upload_id] == b"moving"
            await hub.send(ResultAck(lease=lease))
    assert len(hub.uploads) == len([message for message in hub.said if isinstance(message, Result)]) == 3
    assert said_once_in_order(hub)


@pytest.mark.parametrize("status", [503, 0])
async def test_a_word_whose_answer_is_lost_does_not_make_the_worker_mute(gate: Path, status: int) -> None:
    """The poll that waits is fine meanwhile."""
    async with FakeHub(renew_s=0.05, heartbeat_s=0.05) as hub, serving(hub, transport="poll"):
        hub.put("video", b"moving")
        await hub.expect(Hello)
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        hub.word_answers.append(status)
        assert (await hub.expect(Hello)).running == [lease]
        for _ in range(3):
            await hub.expect(Renew, lease=lease)
        await open_gate(gate)
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
    assert said_once_in_order(hub)


async def test_p6_a_hub_that_restarted_is_told_again_what_was_finished(hub: FakeHub) -> None:
    async with serving(hub, transport="poll"):
        await hub.expect(Hello)
        lease = await hub.assign("copy")
        first = await hub.expect(Result, lease=lease)
        hub.forget()
        await hub.end_polls()
        assert (await hub.expect(Hello)).running == [lease]
        again = await hub.expect(Result, lease=lease)
        assert (again.artifacts, again.n) == (first.artifacts, 2)
        await hub.send(ResultAck(lease=lease))
    assert len(hub.uploads) == 1


async def test_an_unknown_token_ends_a_polling_worker(hub: FakeHub) -> None:
    with pytest.raises(Refused, match="401"):
        await asyncio.wait_for(make_worker().serve(hub.poll_url, "not the token", transport="poll"), 20)


@pytest.mark.parametrize("status", [500, 409, 422, 0])
async def test_any_other_answer_makes_it_come_back(hub: FakeHub, status: int) -> None:
    connection = await PollTransport(hub.poll_url, hub.token).open()
    hub.poll_answers.append(status)
    hello = Hello(n=1, protocol=1, worker="anna", instance="i", models=[])
    with pytest.raises(Lost):
        await connection.send(encode(hello))
    again = await PollTransport(hub.poll_url, hub.token).open()
    await again.send(encode(hello))
    assert b"welcome" in await again.receive()


async def test_who_does_not_wait_any_more_hangs_up() -> None:
    """A poll that was broken off ends at once on the hub's side too."""
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.read(64 * 1024)
        began.set()
        ended.put_nowait(head + await reader.read())
        writer.close()

    began = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    connection = await PollTransport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "t").open()
    assert isinstance(connection, PollConnection)
    receiving = asyncio.create_task(connection.receive())
    await asyncio.wait_for(began.wait(), 10)
    receiving.cancel()
    assert (await asyncio.wait_for(ended.get(), 10)).startswith(b"POST /api/workers/poll HTTP/1.1\r\n")
    server.close()
    await server.wait_closed()


async def test_messages_that_come_twice_are_given_once(hub: FakeHub) -> None:
    connection = await PollTransport(hub.poll_url, hub.token, wait_s=5).open()
    await connection.send(encode(Hello(n=1, protocol=1, worker="anna", instance="i", models=[])))
    assert b"welcome" in await connection.receive()
    assert b'"ack":1' in await connection.receive()  # what nothing else carried
    await hub.send(Cancel(lease="a"))
    await connection.send(encode(Status(n=2, ack=1, slots_free=1)))
    await connection.send(encode(Status(n=3, ack=1, slots_free=1)))
    await hub.send(Cancel(lease="b"))
    received = [await connection.receive() for _ in range(4)]
    assert [b'"lease":"a"' in raw for raw in received].count(True) == 1
    await hub.send(Cancel(lease="c"))
    while b'"lease":"c"' not in (raw := await connection.receive()):
        assert b'"lease":"a"' not in raw
    assert len(hub.outbox) == 1


# --- auto -------------------------------------------------------------------------------------------------------


async def test_auto_goes_back_to_a_websocket_when_one_gets_through(hub: FakeHub, gate: Path) -> None:
    socket = WebSocketTransport(hub.poll_url, hub.token)
    auto = AutoTransport(socket, PollTransport(hub.poll_url, hub.token), again_s=0.02)
    async with serving(hub, transport=auto):
        await hub.expect(Hello)
        assert hub.connection is None and handshakes(hub) >= 2
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        socket.url = WebSocketTransport(hub.url, hub.token).url
        assert (await hub.expect(Hello)).running == [lease]
        assert hub.connection is not None
        await open_gate(gate)
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
    assert len([message for message in hub.said if isinstance(message, Hello)]) == 2
    assert said_once_in_order(hub)


async def test_auto_gives_up_on_websockets_only_where_the_handshake_fails(hub: FakeHub) -> None:
    nowhere = AutoTransport(WebSocketTransport("http://127.0.0.1:1", "t"), PollTransport(hub.poll_url, "t"))
    for _ in range(4):
        with pytest.raises(Lost) as lost:
            await nowhere.open()
        assert not isinstance(lost.value, NoWebSocket)
    refused = AutoTransport(WebSocketTransport(hub.url, "wrong"), PollTransport(hub.poll_url, "wrong"))
    for _ in range(4):
        with pytest.raises(Refused):
            await refused.open()
    blocked = AutoTransport(WebSocketTransport(hub.poll_url, "t"), PollTransport(hub.poll_url, "t"))
    with pytest.raises(NoWebSocket):
        await blocked.open()
    interim = await blocked.open()
    await interim.close()


async def test_a_websocket_that_was_found_and_never_used_is_closed(hub: FakeHub) -> None:
    socket = WebSocketTransport(hub.url, hub.token)
    auto = AutoTransport(socket, PollTransport(hub.poll_url, hub.token), again_s=0.01)
    auto.failures = 2
    interim = await auto.open()
    await interim.send(encode(Hello(n=1, protocol=1, worker="anna", instance="i", models=[])))
    with pytest.raises(Lost, match="a websocket gets through again"):
        while True:
            await asyncio.wait_for(interim.receive(), 10)
    await interim.close()
    found = auto.found
    assert found is not None
    await auto.close()
    with pytest.raises(Lost):
        await found.receive()
