"""Long polls of workers: one session core behind every transport, nothing lost, nothing twice, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import handlers.worker_poll
from handlers.worker_poll import Polling, WorkerPoll
from hub.messages import Accept, Artifact, Assign, Bye, Model, Offer, Progress, Renew, Result, ResultAck, Status
from hub.session import WorkerSession
from tests.handlers.fake_worker import FakeWorker
from tests.handlers.poll_worker import PollWorker
from tests.handlers.running import Api, eventually, fine, metadata, one_loop, refused, small_video
from tests.worker import tasks
from tests.worker.serving import Brittle, Turns
from worker.client import Worker
from worker.errors import Lost
from worker.polling import PollTransport
from worker.threads import in_thread
from worker.transports import WebSocketTransport

pytestmark = one_loop
ESTABLISHED, CLOSE_WAIT = "01", "08"  # in /proc/net/tcp


async def registered(api: Api, **options: Any) -> PollWorker:
    name, token = await api.interface()
    return PollWorker(api, name, token, options.pop("model", f"model-of-{name}"), **options)


async def joined(api: Api, **options: Any) -> PollWorker:
    worker = await registered(api, **options)
    await worker.join()
    return worker


def carrier(worker: PollWorker) -> Polling:
    """What the hub has of this worker's polls."""
    transport = worker.api.hub.runner.transports[worker.session or ""]
    assert isinstance(transport, Polling)
    return transport


def session_of(worker: PollWorker) -> WorkerSession:
    session = worker.api.hub.runner.core.session_of(worker.name)
    assert session is not None
    return session


async def held(worker: PollWorker) -> asyncio.Task[Any]:
    """A poll that the hub holds by now."""
    polling = asyncio.create_task(worker.poll(wait=60))
    before = carrier(worker).held
    await eventually(lambda: (now := carrier(worker).held) is not None and now is not before and not now.done())
    return polling


# --- the door ---------------------------------------------------------------------------------------------------


async def test_row_119_only_registered_workers_come_in(api: Api) -> None:
    person, worker = await api.user(), await registered(api)
    _, disabled = await api.interface(enabled=False)
    hello = {"messages": worker.numbered(worker.hello())}
    refused(await worker.ask(hello, token=""), 401, "unauthorized")
    refused(await worker.ask(hello, token="x" * 43), 401, "unauthorized")
    refused(await worker.ask(hello, token=person.token), 403, "forbidden")
    refused(await worker.ask(hello, token=disabled), 403, "forbidden")
    refused(await api("GET", "/api/workers/poll", token=worker.token), 405, "method_not_allowed")
    assert api.hub.runner.core.session_of(worker.name) is None


async def test_a_worker_that_is_not_welcome_is_told_for_good(api: Api) -> None:
    worker = await registered(api)
    foreign = {"messages": worker.numbered(worker.hello(worker="somebody-else"))}
    refused(await worker.ask(foreign), 403, "forbidden")
    old = {"messages": worker.numbered(worker.hello(protocol=2))}
    refused(await worker.ask(old), 403, "unsupported_protocol")


async def test_hello_comes_first(api: Api) -> None:
    worker = await registered(api)
    for messages in ([], worker.numbered(Status())):
        problem = refused(await worker.ask({"messages": messages}), 422, "invalid")
        assert [field["pointer"] for field in problem["errors"]] == ["/session"]


async def test_a_message_that_cannot_be_used_is_pointed_at_and_none_of_them_counts(api: Api) -> None:
    worker = await joined(api)
    good = worker.numbered(Status())
    for bad in ({"type": "sing"}, {"type": "progress", "lease": "x"}, {"type": "accept", "offer": 1}, {}):
        body = {"session": worker.session, "messages": [*good, bad]}
        problem = refused(await worker.ask(body), 422, "invalid")
        assert [field["pointer"] for field in problem["errors"]] == ["/messages/1"]
    assert (await worker.poll()).ack == 1


@pytest.mark.parametrize("body, status, code", [
    ('{"session": 1}', 422, "invalid"), ('{"ack": -1}', 422, "invalid"), ('{"messages": {}}', 422, "invalid"),
    ('{"messages": ["x"]}', 422, "invalid"), ('{"wait": "long"}', 422, "invalid"), ('{"wait": null}', 422, "invalid"),
    ('{"wait": NaN}', 400, "bad_json"), ('{"wait": 1e999}', 400, "bad_json"), ('{"more": 1}', 422, "invalid"),
    ("[]", 422, "invalid"), ("{", 400, "bad_json"),
])
async def test_row_116_what_is_no_poll_is_refused(api: Api, body: str, status: int, code: str) -> None:
    worker = await joined(api)
    headers = {"Content-Type": "application/json"}
    refused(await api("POST", "/api/workers/poll", body.encode(), headers, token=worker.token), status, code)


@pytest.mark.parametrize("wait", [-1, 0, 1e9])
async def test_row_116_waits_are_clamped(api: Api, wait: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.worker_poll, "LONGEST_WAIT_S", 0.05)
    worker = await joined(api)
    async with asyncio.timeout(5):
        assert (await worker.poll(wait=wait)).messages == []


async def test_an_unknown_session_and_another_workers_are_gone(api: Api) -> None:
    worker, other = await joined(api), await joined(api)
    for session in ("no-such-session", other.session):
        refused(await worker.ask({"session": session}), 409, "session_gone")
    assert carrier(other).line.stands
    assert (await other.poll()).messages == []


# --- conversing -------------------------------------------------------------------------------------------------


async def test_a_whole_job(api: Api) -> None:
    person, worker = await api.user(), await registered(api)
    welcome = await worker.join()
    assert welcome.session == worker.session and not welcome.resumed
    polling = await held(worker)
    task = await person.create(worker.model)
    assert [type(message) for message in (await polling).messages] == [Offer]
    assign = await worker.take()
    await worker.poll(Progress(lease=assign.lease, phase="segment", progress=40), Renew(lease=assign.lease))
    assert api.hub.runner.core.tasks[task["id"]].progress == 40
    content = small_video()
    upload = fine(await api("POST", assign.upload_url, content, {
        "Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream",
        "Upload-Length": str(len(content)), "Upload-Metadata": metadata(filename="r.mp4", purpose="result"),
    }), 201)
    artifact = Artifact(
        purpose="result", upload_id=upload["id"], sha256=hashlib.sha256(content).hexdigest(), frames=3,
    )
    await worker.poll(Result(lease=assign.lease, artifacts=[artifact]))
    assert (await worker.expect(ResultAck)).lease == assign.lease
    done = await person.get(f"/api/tasks/{task['id']}")
    assert (done["state"], done["attempt"]) == ("completed", 1)


async def test_a_whole_job_by_the_sdk_which_changes_its_transport_in_the_middle(api: Api, tmp_path: Path) -> None:
    """A websocket, then polls: one attempt, one result, and goodbye."""
    person, (name, token) = await api.user(), await api.interface()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    worker = Worker([Model(name=name)], name=name)
    worker.task(name)(tasks.gate)
    socket, poll = WebSocketTransport(api.hub.url, token), PollTransport(api.hub.url, token)
    turns = Turns(socket, poll)
    serving = asyncio.create_task(worker.serve(api.hub.url, token, transport=turns))
    core, runner = api.hub.runner.core, api.hub.runner
    await eventually(lambda: core.session_of(name) is not None)
    session = core.session_of(name)
    assert session is not None
    task = await person.create(name, options={"gate": str(gate)})
    await eventually(lambda: core.tasks[task["id"]].progress > 5)
    runner.transports[session.id].close(4000, "come back another way")
    await eventually(lambda: isinstance(runner.transports.get(session.id), Polling))
    await in_thread(lambda: gate.write_text("go\n"))
    await eventually(lambda: task["id"] not in runner.shown.open)
    done = await person.get(f"/api/tasks/{task['id']}")
    assert (done["state"], done["attempt"]) == ("completed", 1)
    worker.drain()
    await asyncio.wait_for(serving, 20)
    assert core.session_of(name) is None


async def test_a_word_of_the_sdks_that_is_lost_costs_no_attempt(api: Api, tmp_path: Path) -> None:
    person, (name, token) = await api.user(), await api.interface()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    worker = Worker([Model(name=name)], name=name)
    worker.task(name)(tasks.gate)
    brittle = Brittle(PollTransport(api.hub.url, token))
    serving = asyncio.create_task(worker.serve(api.hub.url, token, transport=brittle))
    core, runner = api.hub.runner.core, api.hub.runner
    await eventually(lambda: core.session_of(name) is not None)
    task = await person.create(name, options={"gate": str(gate)})
    await eventually(lambda: core.tasks[task["id"]].progress > 5)
    brittle.errors.append(Lost("no answer"))
    await in_thread(lambda: gate.write_text("go\n"))
    await eventually(lambda: task["id"] not in runner.shown.open)
    done = await person.get(f"/api/tasks/{task['id']}")
    assert (done["state"], done["attempt"], brittle.errors) == ("completed", 1, [])
    worker.drain()
    await asyncio.wait_for(serving, 20)


async def test_an_answer_that_was_lost_is_given_again_until_it_is_acknowledged(api: Api) -> None:
    person, worker = await api.user(), await joined(api)
    await person.create(worker.model)
    body = {"session": worker.session, "ack": worker.seen, "wait": 10}
    first, second = fine(await worker.ask(body)), fine(await worker.ask(body))
    assert [message["type"] for message in first["messages"]] == ["offer"]
    assert second["messages"] == first["messages"]
    body |= {"ack": first["messages"][-1]["n"], "wait": 0}
    assert fine(await worker.ask(body))["messages"] == []


async def test_p6_a_request_that_was_sent_twice_counts_once(api: Api) -> None:
    person, worker = await api.user(), await joined(api)
    task = await person.create(worker.model)
    offer = await worker.expect(Offer)
    body = {"session": worker.session, "messages": worker.numbered(Accept(offer=offer.offer)), "ack": worker.seen}
    answers = await asyncio.gather(worker.ask(body), worker.ask(body))
    assert {fine(answer)["ack"] for answer in answers} == {2}
    await worker.poll(wait=10)
    assert [type(message).__name__ for message in worker.got] == ["Assign"]
    assert (await person.get(f"/api/tasks/{task['id']}"))["attempt"] == 1


async def test_a_newer_poll_takes_the_place_of_the_one_that_waits(api: Api) -> None:
    person, worker = await api.user(), await joined(api)
    first = await held(worker)
    second = await held(worker)
    assert (await first).messages == []
    fine(await worker.ask({"session": worker.session, "ack": worker.seen, "wait": 0}))
    assert not second.done()
    await person.create(worker.model)
    assert [type(message) for message in (await second).messages] == [Offer]


async def test_goodbye_ends_the_session(api: Api) -> None:
    worker = await joined(api)
    polling = await held(worker)
    said = await worker.poll(Status(), Bye())
    assert (said.messages, said.ack) == ([], 3)
    assert (await polling).messages == []
    refused(await worker.ask({"session": worker.session}), 409, "session_gone")
    assert not (await worker.join()).resumed


# --- the baton --------------------------------------------------------------------------------------------------


async def test_a_websocket_takes_over_and_gets_what_the_polls_did_not_acknowledge(api: Api) -> None:
    person, worker = await api.user(), await joined(api)
    polling = await held(worker)
    socket = FakeWorker(api, worker.name, worker.token, worker.model)
    socket.instance, socket.seen = worker.instance, worker.seen
    assert (await socket.join()).resumed
    assert (await polling).messages == []
    refused(await worker.ask({"session": worker.session}), 409, "session_gone")
    task = await person.create(worker.model)
    assert (await socket.take()).task == task["id"]
    await socket.leave()


async def test_a_poll_takes_over_and_gets_what_the_websocket_did_not_acknowledge(api: Api) -> None:
    """A renewal sent over the old, draining socket counts once, on whichever transport holds the baton."""
    person, worker = await api.user(), await registered(api)
    socket = FakeWorker(api, worker.name, worker.token, worker.model)
    worker.before = (await socket.join()).session
    task = await person.create(worker.model)
    assign = await socket.take()
    worker.instance, worker.seen, worker.number = socket.instance, assign.n - 1, socket.number
    renewal = worker.numbered(Renew(lease=assign.lease))
    await socket.send(json.dumps(renewal[0]))
    await worker.poll(worker.hello(), wait=10)
    assert (await socket.closed())[0] == 4000
    assert [type(message) for message in worker.got[:1]] == [Assign]
    again = {"session": worker.session, "messages": renewal, "ack": worker.seen, "wait": 0}
    assert fine(await worker.ask(again))["ack"] == renewal[0]["n"]
    assert session_of(worker).leases == {assign.lease: task["id"]}
    assert (await person.get(f"/api/tasks/{task['id']}"))["attempt"] == 1


async def test_another_instance_takes_over_and_the_one_that_waits_is_told_for_good(api: Api) -> None:
    worker = await joined(api)
    polling = asyncio.create_task(worker.ask({"session": worker.session, "ack": worker.seen, "wait": 60}))
    await eventually(lambda: carrier(worker).held is not None and not carrier(worker).held.done())  # type: ignore
    second = PollWorker(api, worker.name, worker.token, worker.model)
    await second.join()
    assert "another instance" in refused(await polling, 403, "forbidden")["detail"]
    assert second.session != worker.session


async def test_an_older_instance_that_comes_late_does_not_throw_out_the_newer_one(api: Api) -> None:
    worker = await joined(api)
    second = PollWorker(api, worker.name, worker.token, worker.model)
    await second.join()
    again = {"session": worker.session, "ack": worker.seen, "wait": 0}
    refused(await worker.ask(again), 409, "session_gone")
    late = await worker.ask({"messages": worker.numbered(worker.hello()), "wait": 0})
    assert "another instance" in refused(late, 403, "forbidden")["detail"]
    assert fine(await second.ask({"session": second.session, "ack": second.seen, "wait": 0}))


async def test_p15_a_poll_that_waits_is_sent_away_when_the_hub_stops(api: Api) -> None:
    worker = await joined(api)
    polling = asyncio.create_task(worker.ask({"session": worker.session, "ack": worker.seen, "wait": 60}))
    await eventually(lambda: carrier(worker).held is not None and not carrier(worker).held.done())  # type: ignore
    api.hub.runner.close_sockets()
    answer = await polling
    refused(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


# --- silence ----------------------------------------------------------------------------------------------------


async def test_a_worker_that_does_not_ask_any_more_is_offered_nothing_until_it_asks_again(api: Api) -> None:
    person, worker = await api.user(), await joined(api)
    carrier(worker).gap = 0.01
    await worker.poll()
    await eventually(lambda: not session_of(worker).attached)
    task = await person.create(worker.model)
    assert (await person.get(f"/api/tasks/{task['id']}"))["blocked_by"] == "no_worker_for_model"
    assert (await worker.take()).task == task["id"]
    assert session_of(worker).attached


async def test_a_worker_that_waits_is_not_silent(api: Api) -> None:
    worker = await joined(api)
    carrier(worker).gap = 0.01
    polling = await held(worker)
    short = fine(await worker.ask({"session": worker.session, "ack": worker.seen, "wait": 0.05}))
    assert short["messages"] == [] and (await polling).messages == []
    assert carrier(worker).line.stands and session_of(worker).attached
    await eventually(lambda: not session_of(worker).attached)


def alive(kind: type[Any]) -> int:
    """How many objects of a class there are in this whole process."""
    gc.collect()
    return sum(1 for each in gc.get_objects() if type(each) is kind)


def connections(api: Api) -> int:
    """How many connections the hub's side has not closed."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    here = f":{api.hub.port:04X}"
    return sum(1 for _, local, _, state, *_ in lines if local.endswith(here) and state in (ESTABLISHED, CLOSE_WAIT))


async def test_p11_row_118_dropped_polls_leave_nothing_behind(api: Api) -> None:
    workers = [await joined(api) for _ in range(20)]
    for worker in workers:
        carrier(worker).gap = 60
    await eventually(lambda: connections(api) == 0)
    polls, lines = alive(WorkerPoll), alive(Polling)
    for _ in range(10):
        await drop_polls(workers)
    await eventually(lambda: connections(api) == 0)
    assert alive(WorkerPoll) <= polls and alive(Polling) <= lines
    for worker in workers:
        carrier(worker).gap = 0.01
        assert (await worker.poll()).messages == []
    await eventually(lambda: not any(worker.session in api.hub.runner.transports for worker in workers))
    await eventually(lambda: alive(Polling) <= lines - len(workers))


async def drop_polls(workers: list[PollWorker]) -> None:
    """Have one poll of each worker wait, then hang up on all of them."""
    carriers, writers = [carrier(worker) for worker in workers], []
    for worker in workers:
        body = json.dumps({"session": worker.session, "ack": worker.seen, "wait": 60})
        _, writer = await asyncio.open_connection("127.0.0.1", worker.api.hub.port)
        writer.write((
            f"POST /api/workers/poll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {worker.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode())
        writers.append(writer)
    await eventually(lambda: all(each.asking == 1 for each in carriers))
    for writer in writers:
        writer.transport.abort()
    await eventually(lambda: not any(each.asking for each in carriers))


async def test_the_welcome_comes_with_the_answer_to_hello_even_without_waiting(api: Api) -> None:
    worker = await registered(api)
    answer = fine(await worker.ask({"messages": worker.numbered(worker.hello()), "wait": 0}))
    assert [message["type"] for message in answer["messages"]] == ["welcome"]
    assert (answer["ack"], answer["session"]) == (1, answer["messages"][0]["session"])
    again = fine(await worker.ask({"messages": worker.numbered(worker.hello(last_seen=1)), "wait": 0}))
    assert [message["resumed"] for message in again["messages"]] == [True]
