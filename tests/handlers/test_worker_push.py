"""Services that the hub calls: signed, bounded, tried again, and never anywhere but where an admin said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from handlers.worker_push import LONGEST_ANSWER, Pauses
from hub.__main__ import Hub
from hub.effects import Send
from hub.ids import new_id
from hub.interface import hash_token, new_token
from hub.messages import Accept, Assign, Cancel, Model, Offer, Progress, Welcome
from hub.session import WorkerSession
from hub.webhooks import push_secret
from tests.handlers.push_service import Answer, Call, PushService, push_service
from tests.handlers.running import Api, Place, eventually, one_loop, refused, running_hub
from tests.worker import tasks
from worker.client import Worker
from worker.pushed import PushTransport

pytestmark = one_loop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(place: Place) -> AsyncIterator[Hub]:
    """A hub that tries again quickly."""
    async with running_hub(place) as running:
        running.pushers.pauses = Pauses(0.01, 0.05)
        yield running


def session_of(service: PushService) -> WorkerSession | None:
    return service.api.hub.runner.core.session_of(service.record.id)


def attached(service: PushService) -> bool:
    session = session_of(service)
    return session is not None and session.attached


async def present(service: PushService) -> None:
    """Wait until the service has said hello, was welcomed, and the hub knows that."""
    await service.expect(Welcome)
    await eventually(lambda: attached(service) and (session := session_of(service)) is not None and not session.outbox)


def numbers(messages: list[Any]) -> list[int]:
    return [message.n for message in messages]


# --- conversing -------------------------------------------------------------------------------------------------


async def test_the_hub_asks_who_is_there_and_the_service_says_hello(api: Api) -> None:
    async with push_service(api) as service:
        asked = await service.next_call()
        assert (asked.session, asked.messages, asked.ack, asked.new) == (None, [], 0, True)
        told = await service.next_call()
        session = session_of(service)
        assert session is not None
        assert (told.session, told.ack, [type(message) for message in told.messages]) == (session.id, 1, [Welcome])


async def test_a_service_that_says_hello_too_late_is_asked_again(api: Api) -> None:
    async def silent(call: Call) -> Answer:
        return 200, b"{}"

    async with push_service(api, answer=silent) as service:
        for _ in range(3):
            assert (await service.next_call()).session is None
        service.answer = service.behave
        await present(service)


async def test_a_task_is_offered_and_assigned_and_the_service_calls_back(api: Api) -> None:
    person = await api.user()
    async with push_service(api) as service:
        await present(service)
        task = await person.create(service.model)
        offer = await service.expect(Offer)
        await service.say(Accept(offer=offer.offer))
        assign = await service.expect(Assign)
        await service.say(Progress(lease=assign.lease, phase="segment", progress=40))
        assert api.hub.runner.core.tasks[task["id"]].progress == 40
        assert (await person("POST", f"/api/tasks/{task['id']}/cancel")).status == 200
        assert (await service.expect(Cancel)).lease == assign.lease


async def test_a_service_may_say_things_in_its_answers(api: Api) -> None:
    person = await api.user()

    async def accepting(call: Call) -> Answer:
        status, body = await service.behave(call)
        offers = [message for message in call.messages if isinstance(message, Offer)]
        return service.said(*(Accept(n=2, offer=each.offer) for each in offers)) if offers else (status, body)

    async with push_service(api) as service:
        await present(service)
        service.answer = accepting
        task = await person.create(service.model)
        assert (await service.expect(Assign)).task == task["id"]


async def test_a_whole_job_by_the_sdk(api: Api) -> None:
    """Registered, called, answered, called back; then the worker leaves."""
    person = await api.user()
    [listening] = bind_sockets(0, "127.0.0.1")
    port = listening.getsockname()[1]
    listening.close()
    async with push_service(api, answer=nobody) as service:
        await service.change(address=f"http://127.0.0.1:{port}")
        secret = push_secret(api.hub.settings.jwt_secret.encode(), service.record)
        worker = Worker([Model(name="copy")], name=service.record.id)
        worker.task("copy")(tasks.copy)
        transport = PushTransport(api.hub.url, service.token, secret, port=port)
        serving = asyncio.create_task(worker.serve(api.hub.url, service.token, transport=transport))
        await eventually(lambda: attached(service))
        for _ in range(2):
            task = await person.create("copy")
            await eventually(lambda: task["id"] not in api.hub.runner.shown.open)
            assert (await person.get(f"/api/tasks/{task['id']}"))["state"] == "completed"
        worker.drain()
        await asyncio.wait_for(serving, 20)
        assert session_of(service) is None


async def nobody(call: Call) -> Answer:
    return 500, b""


# --- trying again -----------------------------------------------------------------------------------------------


async def test_what_was_not_answered_is_sent_again_under_the_same_id(api: Api) -> None:
    person = await api.user()
    async with push_service(api) as service:
        await present(service)
        service.answer = nobody
        await person.create(service.model)
        calls = [await service.next_call(lambda call: bool(call.messages)) for _ in range(3)]
        assert len({call.id for call in calls}) == 1 and [call.new for call in calls] == [True, False, False]
        assert not attached(service), "nothing is offered to whom the hub cannot reach"
        service.answer = service.behave
        await eventually(lambda: attached(service))


async def test_what_was_not_acknowledged_is_sent_again_under_another_id(api: Api) -> None:
    person = await api.user()

    async def forgetful(call: Call) -> Answer:
        return service.said()

    async with push_service(api) as service:
        await present(service)
        service.answer = forgetful
        await person.create(service.model)
        first = await service.next_call(lambda call: bool(call.messages))
        second = await service.next_call(lambda call: bool(call.messages))
        assert first.messages[0] == second.messages[0] and first.id != second.id and second.new
        service.answer = service.behave
        await service.expect(Offer)
        await eventually(lambda: (session := session_of(service)) is not None and not session.outbox)


@pytest.mark.parametrize("answer", [
    (200, b""), (200, b"{"), (200, b"[]"), (200, b'{"messages": [{"type": "sing"}]}'), (200, b'{"ack": "x"}'),
    (200, b'{"messages": [{"type": "drain", "reason": "\\ud800"}]}'),
    (200, b"[" * 100_000), (200, b" " * (LONGEST_ANSWER + 1)), (201, b"{}"), (500, b"{}"),
])
async def test_answers_that_make_no_sense_change_nothing(api: Api, answer: Answer) -> None:
    async def nonsense(call: Call) -> Answer:
        return answer

    async with push_service(api, answer=nonsense) as service:
        await service.next_call()
        await service.next_call()
        assert session_of(service) is None
        service.answer = service.behave
        await present(service)


async def test_a_service_cannot_speak_for_another(api: Api) -> None:
    async def impostor(call: Call) -> Answer:
        return service.hello(worker="somebody-else")

    async with push_service(api, answer=impostor) as service:
        await service.next_call()
        assert (await service.next_call()).session is None
        assert api.hub.runner.core.session_of("somebody-else") is None


async def test_a_service_that_starts_anew_says_hello_to_what_it_does_not_know(api: Api) -> None:
    person = await api.user()

    async def anew(call: Call) -> Answer:
        service.instance, service.seen, service.answer = new_id(), 0, service.behave
        return service.hello()

    async with push_service(api) as service:
        await present(service)
        before = session_of(service)
        service.answer = anew
        task = await person.create(service.model)
        await present(service)
        assert before is not None and session_of(service) is not before
        assert (await service.expect(Offer)).task == task["id"]


async def test_calling_back_to_a_session_that_is_gone_is_refused(api: Api) -> None:
    async with push_service(api) as service:
        await present(service)
        before = session_of(service)
        assert before is not None
        runner = api.hub.runner
        runner.decide(runner.core.presence.remove(before, "silent for too long", 1001, runner.clock.now()))
        answer = await api("POST", "/api/workers/poll", token=service.token, json_body={"session": before.id})
        refused(answer, 409, "session_gone")


# --- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3])
async def test_never_more_calls_than_slots_at_once_and_each_carries_everything(api: Api, slots: int) -> None:
    gate = asyncio.Event()

    async def slow(call: Call) -> Answer:
        await gate.wait()
        return await service.behave(call)

    async with push_service(api, slots) as service:
        await present(service)
        session, service.answer = session_of(service), slow
        assert session is not None
        service.calls.clear()
        for number in range(6):
            api.hub.runner.decide([Send(session.id, Cancel(lease=f"lease-{number}"))])
            await eventually(lambda: service.at_once == min(slots, number + 1))
        assert service.most_at_once == slots
        assert [len(call.messages) for call in service.calls] == list(range(1, slots + 1))
        gate.set()
        await eventually(lambda: not session.outbox)
        assert numbers(service.heard) == list(range(2, 8))
        assert service.most_at_once == slots


async def test_row_129_a_redirect_is_not_followed(api: Api) -> None:
    async with push_service(api) as inward:
        await present(inward)
        inward.calls.clear()

        async def elsewhere(call: Call) -> Answer:
            return status, f"{inward.record.address}{inward.record.path}".encode()

        for status in (301, 302, 307, 308):
            async with push_service(api, answer=elsewhere) as service:
                await service.next_call()
                await service.next_call()
                assert session_of(service) is None
        assert inward.calls == []


async def test_p16_fault_33_a_name_that_leads_inwards_now_is_not_called(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads_to, asked = "127.0.0.2", asyncio.Event()
    look_up = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "box.test" and leads_to != "127.0.0.2":
            loop.call_soon_threadsafe(asked.set)
        return look_up(leads_to if host == "box.test" else host, *rest, **options)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with running_hub(place, INTERFACE_NETWORKS="127.0.0.2", HEARTBEAT_SECONDS="0.1") as hub:
        api = Api(hub, place.folder)
        hub.pushers.pauses = Pauses(0.01, 0.05)
        async with push_service(api, host="127.0.0.2", name="box.test") as service:
            await present(service)
            victims: list[Any] = []
            server = HTTPServer(victims.append)
            server.listen(int(str(service.record.address).rpartition(":")[2]), "127.0.0.1")
            for inwards in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"):
                leads_to = inwards
                asked.clear()
                await asyncio.wait_for(asked.wait(), 10)
                await eventually(lambda: not attached(service))
                leads_to = "127.0.0.2"
                await eventually(lambda: attached(service))
            assert victims == []
            server.stop()
        api.close()


# --- registrations ----------------------------------------------------------------------------------------------


async def test_a_service_with_a_new_token_is_called_with_a_new_secret_and_a_disabled_one_not_at_all(api: Api) -> None:
    async with push_service(api) as service:
        await present(service)
        before = session_of(service)
        service.token = new_token()
        trusted = service.verifier
        await service.change(token_hash=hash_token(service.token))
        service.trust()
        assert trusted.key != service.verifier.key
        await present(service)
        assert session_of(service) is before
        await service.change(enabled=False)
        assert not attached(service)
        service.calls.clear()
        await service.change(note="moved to the cellar")
        assert service.calls == [] and service.record.id not in {each.id for each in api.hub.pushers.running}


async def test_a_change_that_makes_no_difference_to_calls_interrupts_nothing(api: Api) -> None:
    async with push_service(api) as service:
        await present(service)
        running = dict(api.hub.pushers.running)
        await service.change(note="a note", paused=True)
        assert dict(api.hub.pushers.running) == running


async def test_pauses_grow_to_their_end_and_are_never_the_same() -> None:
    pauses = Pauses(1.0, 8.0)
    for failures, longest in ((0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (400, 8)):
        drawn = {pauses.after(failures) for _ in range(50)}
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
