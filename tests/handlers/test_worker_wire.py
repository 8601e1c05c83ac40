"""Workers' websockets frame by frame: what comes early, in pieces, in floods or broken, and lines that are dead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from bench.wire import handshake, masked
from handlers.wire import BEATS, Wire
from handlers.worker_socket import WorkerConnection
from hub import messages
from hub.ids import new_id
from hub.messages import MAX_MESSAGE, SUBPROTOCOL, Hello, Model, Status, Welcome
from tests.handlers.fake_worker import worker
from tests.handlers.running import Api, eventually, one_loop
from tests.handlers.test_live import BROKEN_FRAMES

pytestmark = one_loop


def hello(name: str) -> bytes:
    models = [Model(name=f"model-{name}")]
    return messages.encode(Hello(n=1, protocol=1, worker=name, instance=new_id(), models=models))


def upgrade(api: Api, token: str) -> bytes:
    return handshake(
        api.hub.port, "/api/workers/session", Authorization=f"Bearer {token}", Sec_WebSocket_Protocol=SUBPROTOCOL,
    )


async def heard(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next frame from the hub."""
    size = (await reader.readexactly(2))[1]
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    return await reader.readexactly(size)


def connection_of(api: Api, name: str) -> WorkerConnection:
    found = api.hub.runner.transports[api.hub.runner.core.by_worker[name]]
    assert isinstance(found, WorkerConnection)
    return found


async def test_a_hello_may_come_with_the_handshake_and_in_pieces(api: Api) -> None:
    name, token = await api.interface()
    said = hello(name)
    parts = Frame(Opcode.TEXT, said[:9], False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, said[9:], True)
    frames = b"".join(part.serialize(mask=True, extensions=[]) for part in parts)
    async with api.connection(upgrade(api, token) + frames) as (reader, _):
        answer = await reader.readuntil(b"\r\n\r\n")
        assert f"sec-websocket-protocol: {SUBPROTOCOL}".encode() in answer.lower()
        assert await heard(reader) == b"?"
        assert isinstance(messages.decode(messages.to_worker, await heard(reader)), Welcome)
        assert isinstance(connection_of(api, name).wire, Wire)


async def test_a_worker_may_say_much_at_once(api: Api) -> None:
    """Unlike a viewer: it has many slots, and is nobody's browser."""
    name, token = await api.interface()
    flood = b"".join(masked(messages.encode(Status(n=number))) for number in range(2, 2002))
    async with api.connection(upgrade(api, token) + masked(hello(name)) + flood) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await heard(reader)
        session = api.hub.runner.core.session_of(name)
        assert session is not None
        await eventually(lambda: session.seen == 2001)
        wire = connection_of(api, name).wire
        assert isinstance(wire, Wire) and wire.level > 300 and not wire.busy


async def test_what_gathers_in_a_turn_leaves_as_one_write(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    send = Wire.send

    def noted(wire: Wire, data: bytes) -> bool:
        written.append(data)
        return send(wire, data)

    async with worker(api) as maker:
        monkeypatch.setattr(Wire, "send", noted)
        await maker.socket.send("x")
        connection = connection_of(api, maker.name)
        for number in range(3):
            connection.write(b"%d" % number)
        await eventually(lambda: len(written) == 2)
        assert written[0] == b"\x81\x010\x81\x011\x81\x012"
        monkeypatch.undo()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("name", BROKEN_FRAMES)
async def test_rows_106_and_107_broken_frames_end_a_worker_s_connection_and_not_its_session(
    api: Api, name: str,
) -> None:
    async with worker(api) as maker:
        maker.socket.transport.write(BROKEN_FRAMES[name])
        code, _ = await maker.closed()
        assert code == 1009 if name.startswith("107") else code in (1002, 1006, 1007)
        assert (await maker.join()).resumed


async def test_row_107_a_message_is_as_long_in_pieces_as_it_may_be_whole(api: Api) -> None:
    async with worker(api) as maker:
        half = bytes(MAX_MESSAGE // 2 + 1)
        for part in (Frame(Opcode.BINARY, half, False), Frame(Opcode.CONT, half, True)):
            maker.socket.transport.write(part.serialize(mask=True, extensions=[]))
        assert (await maker.closed())[0] == 1009


async def test_fault_13_a_worker_behind_a_dead_line_is_let_go_and_one_that_answers_stays(api: Api) -> None:
    name, token = await api.interface()
    async with worker(api) as lively, api.connection(upgrade(api, token) + masked(hello(name))) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await heard(reader)
        session = api.hub.runner.core.session_of(name)
        assert session is not None and session.attached
        for _ in range(2):
            for _ in range(BEATS):
                api.hub.rooms.pulse.beat()
            await lively.socket.ping()
            await (await lively.socket.ping())
        await eventually(lambda: not session.attached)
        assert (await lively.join()).resumed


@pytest.mark.usefixtures("fast")
async def test_a_mistake_of_the_hub_is_logged_and_the_worker_comes_back(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    def mistaken(*_: Any) -> None:
        raise ZeroDivisionError("a mistake")

    async with worker(api) as maker:
        with monkeypatch.context() as patched:
            patched.setattr(api.hub.runner.core, "receive", mistaken)
            await maker.say(Status())
            assert (await maker.closed())[0] in (1011, 1006)
        assert "a mistake" in caplog.text
        caplog.clear()
        assert (await maker.join()).resumed
