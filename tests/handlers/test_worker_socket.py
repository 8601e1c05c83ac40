"""The workers' websocket: who may come, what holds when it is broken, and rows 119 to 127 of the bad inputs."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

import handlers.worker_socket
from handlers.wire import Wire
from handlers.worker_socket import WorkerConnection
from hub.messages import (
    Artifact, Assign, Bye, Failed, LeaseLost, Offer, Problem, Progress, Renew, Result, ResultAck, Status,
)
from tests.handlers.fake_worker import FakeWorker, worker
from tests.handlers.running import Answer, Api, Person, eventually, fine, metadata, one_loop, refused, small_video
from tests.odd_media import WEBCAM, silent

pytestmark = [one_loop, pytest.mark.usefixtures("fast")]


async def handshake(api: Api, token: str, **changes: str) -> Answer:
    headers = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "vsh.worker.v1",
        "Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return await api("GET", "/api/workers/session", headers={n: v for n, v in headers.items() if v})


async def processing(api: Api, person: Person, maker: FakeWorker) -> tuple[dict[str, Any], Assign]:
    """A task that this worker has taken."""
    task = await person.create(maker.model)
    return task, await maker.take()


async def as_it_was(person: Person, task: dict[str, Any]) -> Any:
    return await person.get(f"/api/tasks/{task['id']}")


# --- the door ---------------------------------------------------------------------------------------------------


async def test_row_119_only_registered_workers_come_in(api: Api) -> None:
    person, (_, token) = await api.user(), await api.interface()
    _, disabled = await api.interface(enabled=False)
    refused(await handshake(api, "", Authorization=""), 401, "unauthorized")
    refused(await handshake(api, "x" * 43), 401, "unauthorized")
    refused(await handshake(api, person.token), 403, "forbidden")
    refused(await handshake(api, "a.b.c"), 401, "unauthorized")
    refused(await handshake(api, disabled), 403, "forbidden")
    refused(await handshake(api, token, Sec_WebSocket_Protocol=""), 426, "upgrade_required")
    refused(await handshake(api, token, Sec_WebSocket_Protocol="vsh.worker.v2"), 426, "upgrade_required")
    refused(await handshake(api, token, Origin=api.hub.url), 403, "forbidden")
    refused(await handshake(api, token, Host="evil.test"), 421, "bad_host")


async def test_a_worker_speaks_for_itself_and_says_hello_first(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    name, token = await api.interface()
    other, _ = await api.interface()
    impostor = FakeWorker(api, other, token, "m")
    with pytest.raises(Exception, match="4403"):
        await impostor.join()
    rude = FakeWorker(api, name, token, "m")
    await rude.connect()
    await rude.say(Status())
    assert (await rude.closed())[0] == 1008
    old = FakeWorker(api, name, token, "m")
    with pytest.raises(Exception, match="4406"):
        await old.join(protocol=2)
    monkeypatch.setattr(handlers.worker_socket, "HELLO_S", 0.1)
    mute = FakeWorker(api, name, token, "m")
    await mute.connect()
    assert (await mute.closed())[0] == 1008
    with pytest.raises(InvalidStatus):
        await FakeWorker(api, name, "wrong", "m").connect()


# --- coming back ------------------------------------------------------------------------------------------------


async def test_a_worker_that_hangs_up_while_it_is_let_in_is_nobody(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()
    socket_class, identities = handlers.worker_socket.WorkerSocket, api.hub.rooms.identities
    interface, on_connection_close = identities.interface, socket_class.on_connection_close

    async def slow_interface(token: str) -> Any:
        asked.set()
        await hung_up.wait()
        return await interface(token)

    def noticed(socket: handlers.worker_socket.WorkerSocket) -> None:
        hung_up.set()
        on_connection_close(socket)

    monkeypatch.setattr(identities, "interface", slow_interface)
    monkeypatch.setattr(socket_class, "on_connection_close", noticed)
    _, token = await api.interface()
    host = api.hub.url.removeprefix("http://")
    async with api.connection(
        f"GET /api/workers/session HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: vsh.worker.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
    ):
        await asyncio.wait_for(asked.wait(), 10)
    await asyncio.wait_for(hung_up.wait(), 10)
    assert (await api("GET", "/livez")).status == 200


async def test_a_worker_that_comes_back_keeps_its_lease_and_gets_what_it_missed(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        offer = await maker.expect(Offer)
        seen = maker.seen
        maker.socket.transport.abort()
        await eventually(lambda: task["id"] not in api.hub.runner.core.dispatcher.charged)
        assert (await maker.join(last_seen=seen)).resumed
        again = await maker.take()
        assert again.task == task["id"] and offer.task == task["id"]
        maker.socket.transport.abort()
        assert (await maker.join(running=[again.lease])).resumed
        await maker.tell(again, 30)
        await maker.finish(again)
        assert (await as_it_was(person, task))["attempt"] == 1


async def test_another_instance_takes_over_and_the_first_is_told_for_good(api: Api) -> None:
    person = await api.user()
    async with worker(api) as first:
        task, assign = await processing(api, person, first)
        second = FakeWorker(api, first.name, first.token, first.model)
        assert not (await second.join()).resumed
        assert (await first.closed())[0] == 4409
        again = await second.take()
        assert (again.task, again.attempt) == (task["id"], 2)
        assert again.lease != assign.lease
        refused(await first.upload(assign, small_video()), 409, "lease_lost")
        await second.finish(again)
        await second.leave()
    assert (await as_it_was(person, task))["state"] == "completed"


async def test_the_same_instance_on_two_connections_has_the_newer_one(api: Api) -> None:
    async with worker(api) as maker:
        before = maker.socket
        assert (await maker.join()).resumed
        maker.socket, newer = before, maker.socket
        assert (await maker.closed())[0] == 4000
        maker.socket = newer
        await maker.say(Status())


# --- leases -----------------------------------------------------------------------------------------------------


async def test_p6_row_121_a_worker_with_an_old_lease_changes_nothing(api: Api) -> None:
    """P6: the task has gone on to another worker; whatever the first says is answered with lease_lost."""
    person = await api.user()
    async with worker(api) as zombie:
        task, old = await processing(api, person, zombie)
        upload = fine(await zombie.upload(old, small_video()), 201)
        zombie.socket.transport.abort()
        await eventually(lambda: not attached(zombie))
        async with worker(api, zombie.model) as heir:
            await zombie.join(running=[])  # it has forgotten its work: the lease is given up
            offered = await offer_to_either(zombie, heir)
            current = await offered.take()
            assert current.attempt == 2
            if offered is zombie:
                zombie, heir = heir, zombie  # noqa: PLW2901
            digest = hashlib.sha256(small_video()).hexdigest()
            artifact = Artifact(purpose="result", upload_id=upload["id"], sha256=digest, frames=3)
            before = await as_it_was(person, task)
            for lease in (old.lease, current.lease, "no-such-lease"):
                for report in (
                    Progress(lease=lease, phase="encode", progress=99), Renew(lease=lease),
                    Result(lease=lease, artifacts=[artifact]),
                ):
                    await zombie.say(report)
                    assert (await zombie.expect(LeaseLost)).lease == lease
            await zombie.say(Failed(lease=current.lease, code="x"))
            assert (await zombie.expect(LeaseLost)).lease == current.lease
            assert await as_it_was(person, task) == before
            refused(await zombie.upload(old, small_video()), 409, "lease_lost")
            await heir.finish(current)
    assert (await as_it_was(person, task))["worker"] == heir.name


def attached(maker: FakeWorker) -> bool:
    session = maker.api.hub.runner.core.session_of(maker.name)
    return session is not None and session.attached


async def offer_to_either(first: FakeWorker, second: FakeWorker) -> FakeWorker:
    """Whoever of the two is offered the task; the other one's slot is then free."""
    core = first.api.hub.runner.core
    for each in (first, second):
        session = core.session_of(each.name)
        if session is not None and session.offers:
            return each
    raise AssertionError("nobody was offered the task")


async def test_row_120_another_s_lease_opens_no_upload(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        _, assign = await processing(api, person, maker)
        address, _, job = assign.upload_url.partition("?job=")
        for forged in (f"{assign.lease}.x", job[:-1] + ("A" if job[-1] != "A" else "B"), f"x{job}", "x", "." * 300):
            await refuse_upload(api, f"{address}?job={forged}", 401, "job_token_invalid")
        await refuse_upload(api, address, 401, "unauthorized")
        answer = await maker.upload(assign, small_video(), "video")
        refused(answer, 400, "bad_metadata")


async def refuse_upload(api: Api, url: str, status: int, code: str) -> None:
    headers = {
        "Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Length": "1",
        "Upload-Metadata": metadata(purpose="result"),
    }
    async with api.unchanged():
        refused(await api("POST", url, b"x", headers), status, code)


async def test_a_lease_that_ends_during_the_upload_leaves_nothing_of_it(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await processing(api, person, maker)
        content, files = bytes(600_000), api.files()
        begun = (
            f"POST {assign.upload_url} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nUpload-Length: {len(content)}\r\n"
            f"Upload-Metadata: {metadata(purpose='result')}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        async with api.connection(begun) as (reader, writer):
            writer.write(content[:300_000])
            await eventually(lambda: api.files() != files)
            fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
            writer.write(content[300_000:])
            assert b" 409 " in await reader.readline()
            assert b"lease_lost" in await reader.readuntil(b"}")
        await eventually(lambda: api.files() == files)


# --- reports that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":NaN,"n":100}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":101,"n":100}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":-1,"n":100}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":"50","n":100}',
    '{"type":"progress","lease":"LEASE","phase":null,"progress":50,"n":100}',
    '{"type":"progress","lease":"LEASE","phase":"segment","n":100}',
    '{"type":"progress","lease":null,"phase":"segment","progress":50,"n":100}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":50,"n":-1}',
    '{"type":"result","lease":"LEASE","artifacts":[],"n":100}',
    '{"type":"result","lease":"LEASE","artifacts":[{"purpose":"result","upload_id":"x","sha256":"y"}],"n":100}',
    '{"type":"waiting","lease":"LEASE","n":100}', '{"type":"COMPLETED"}', '{"type":null}', "null", "[]", "{", "", "x",
    "[" * 60_000, '{"type":"auth","id":1,"token":"x"}', b"\xff\xfe\x00",
])
async def test_rows_122_and_123_what_is_no_report_changes_nothing(api: Api, raw: str | bytes) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await processing(api, person, maker)
        before = await as_it_was(person, task)
        await maker.socket.send(raw.replace("LEASE", assign.lease) if isinstance(raw, str) else raw)
        assert (await maker.expect(Problem)).code == "bad_message"
        assert await as_it_was(person, task) == before
        await maker.finish(assign)


async def test_row_126_a_result_reported_twice_counts_once(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await processing(api, person, maker)
        upload = await maker.deliver(assign)
        digest = hashlib.sha256(small_video()).hexdigest()
        report = Result(lease=assign.lease, artifacts=[Artifact(purpose="result", upload_id=upload, sha256=digest)])
        await maker.say(report)
        await maker.expect(ResultAck)
        version = (await as_it_was(person, task))["version"]
        maker.number -= 1
        await maker.say(report)  # the same message again, under its old number
        await maker.say(Status())
        assert (await as_it_was(person, task))["version"] == version


RESULTS = {
    "another-video": (WEBCAM.read_bytes(), "result_frames"),
    "text": (b"this is no video", "result_not_playable"),
    "cut-off": (small_video()[:-200], "result_not_playable"),
    "without-its-sound": (silent().read_bytes(), "result_frames"),
}


@pytest.mark.parametrize(("content", "code"), RESULTS.values(), ids=RESULTS.keys())
async def test_p19_a_result_that_is_not_what_it_should_be_is_not_taken(api: Api, content: bytes, code: str) -> None:
    """P19: the hub looks itself, and the worker hears why."""
    person = await api.user()
    async with worker(api) as maker:
        task, assign = await processing(api, person, maker)
        await maker.deliver(assign, content)
        assert (await maker.expect(Problem)).code == code
        after = await as_it_was(person, task)
        assert (after["state"], after["attempt"], after["result"]) == ("waiting", 1, None)


async def test_p19_a_report_that_does_not_fit_its_upload_is_not_taken(api: Api) -> None:
    person = await api.user()
    video = await person.upload_video()
    async with worker(api) as maker:
        for upload_id, digest, code in (
            (video["id"], video["sha256"], "result_unknown"), ("x", "0" * 64, "result_unknown"),
            ("", "0" * 64, "result_differs"),
        ):
            task, assign = await processing(api, person, maker)
            sent = fine(await maker.upload(assign, small_video()), 201)["id"]
            artifact = Artifact(purpose="result", upload_id=upload_id or sent, sha256=digest)
            await maker.say(Result(lease=assign.lease, artifacts=[artifact]))
            assert (await maker.expect(Problem)).code == code
            await maker.expect(ResultAck)
            fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))


async def test_a_worker_that_says_goodbye_leaves_its_task_to_others(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task, _ = await processing(api, person, maker)
        await maker.say(Bye())
        assert (await maker.closed())[0] == 1001
        after = await as_it_was(person, task)
        assert (after["state"], after["blocked_by"]) == ("waiting", "no_worker_for_model")


async def test_p11_a_worker_that_does_not_listen_is_not_listened_to(api: Api, fast: bool) -> None:
    """P11: a flood of nonsense whose answers nobody reads does not pile up in the hub."""
    async with worker(api) as maker:
        maker.socket.transport.pause_reading()
        connection = api.hub.runner.transports[api.hub.runner.core.by_worker[maker.name]]
        assert isinstance(connection, WorkerConnection)
        wire = connection.wire
        assert isinstance(wire, Wire) == fast

        async def flood() -> None:
            while True:
                await maker.send('{"type":"' + "x" * 2000 + '"}')

        def waiting() -> int:
            return len((wire.unsent or b"") if isinstance(wire, Wire) else wire.protocol.stream._write_buffer)

        flooding = asyncio.create_task(flood())
        await eventually(lambda: waiting() > 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flooding, 0.5)
        assert waiting() < 1024 * 1024
        maker.socket.transport.abort()
        await eventually(lambda: connection not in api.hub.runner.transports.values())
