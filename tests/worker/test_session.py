"""The conversation with a hub, with real sockets, real processes and a hub that does what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.messages import (
    Accept, Assign, Bye, Cancel, Decline, Drain, Failed, FailedAck, Hello, LeaseLost, Problem, Progress, Reconnect,
    Renew, Result, ResultAck, Status, Welcome, encode,
)
from tests.worker.serving import make_worker, serving
from worker.errors import Refused
from worker.testing import FakeHub
from worker.threads import in_thread


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        hub.put("background", b"still")
        yield hub


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def open_gate(gate: Path) -> None:
    await in_thread(lambda: gate.write_text("go\n"))


async def test_a_whole_job(hub: FakeHub) -> None:
    async with serving(hub):
        hello = await hub.expect(Hello)
        assert (hello.n, hello.worker, hello.slots, hello.running, hello.last_seen) == (1, "anna", 1, [], 0)
        lease = await hub.assign("copy", {"color": "#ffffff"})
        result = await hub.expect(Result, lease=lease)
        (artifact,) = result.artifacts
        assert hub.uploads[artifact.upload_id] == b"still|moving"
        assert (artifact.purpose, artifact.frames, result.stats) == ("result", 2, {"frames": 2.0, "seconds": 0.5})
        await hub.send(ResultAck(lease=lease))
    said = [message for message in hub.said if isinstance(message, Progress)]
    assert [message.progress for message in said] == sorted(message.progress for message in said)
    last = {message.phase: message.progress for message in said}
    assert last == {"fetch": 5.0, "segment": 50.0, "encode": 95.0, "upload": 100.0}
    numbers = [message.n for message in hub.said]
    assert numbers == sorted(set(numbers)) and isinstance(hub.said[-1], Bye)


@pytest.mark.parametrize("more", [["mask", "foreground"], ["mask"]])
async def test_a_mask_and_a_foreground_are_delivered_where_they_were_made(hub: FakeHub, more: list[str]) -> None:
    async with serving(hub):
        lease = await hub.assign("layers", {"more": more})
        result = await hub.expect(Result, lease=lease)
        delivered = {artifact.purpose: hub.uploads[artifact.upload_id].decode() for artifact in result.artifacts}
        assert delivered == {"result": "all of it", **{name: name for name in more}}
        assert {artifact.frames for artifact in result.artifacts} == {3}
        await hub.send(ResultAck(lease=lease))
    said = [message.progress for message in hub.said if isinstance(message, Progress)]
    assert said == sorted(said) and said[-1] == 100.0


@pytest.mark.parametrize("model, code, retryable", [
    ("refuse", "not_video", False), ("break_down", "worker_error", True), ("crash", "worker_crashed", True),
    ("refuse_with_objects", "bad_input", False),
    ("forget", "no_result", True),
])
async def test_a_failure_is_told_and_the_next_job_works(
    hub: FakeHub, model: str, code: str, retryable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(hub):
        lease = await hub.assign(model)
        failed = await hub.expect(Failed, lease=lease)
        assert (failed.code, failed.retryable) == (code, retryable)
        await hub.send(FailedAck(lease=lease))
        lease = await hub.assign("copy")
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))


async def test_a_corrupted_input_is_not_worked_on(hub: FakeHub) -> None:
    hub.put("video", b"moving", sha256="0" * 64)
    async with serving(hub):
        lease = await hub.assign("copy")
        failed = await hub.expect(Failed, lease=lease)
        assert (failed.code, failed.retryable) == ("input_corrupt", True)
        await hub.send(FailedAck(lease=lease))


async def test_links_may_be_relative_to_the_hub(hub: FakeHub) -> None:
    hub.put("video", b"moving", url="/files/video?job=secret")
    async with serving(hub):
        lease = await hub.assign("copy")
        failed = await hub.expect(Failed, lease=lease)  # the fake hub keeps its files on another port
        assert (failed.code, failed.detail) == ("input_unavailable", "the hub answered 404")
        await hub.send(FailedAck(lease=lease))


@pytest.mark.parametrize("word", [Cancel, LeaseLost])
async def test_work_that_is_not_wanted_any_more_stops_and_its_slot_is_free(
    hub: FakeHub, tmp_path: Path, word: type[Cancel] | type[LeaseLost]
) -> None:
    async with serving(hub):
        lease = await hub.assign("spin", {"mark": str(tmp_path / "mark")})
        await hub.expect(Progress, phase="segment")
        await hub.send(word(lease=lease))
        while isinstance(await offer_answer(hub), Decline):
            pass
        assert (tmp_path / "mark").read_text() == "stopped"
    assert not [message for message in hub.said if isinstance(message, Result | Failed)]


async def offer_answer(hub: FakeHub) -> Accept | Decline:
    """What the worker says to one more offer."""
    offer = await hub.offer("copy")
    async with hub.news:
        while True:
            for message in hub.said:
                if isinstance(message, Accept | Decline) and message.offer == offer.offer:
                    return message
            await hub.news.wait()


async def test_an_upload_for_a_lease_that_is_gone_is_dropped_without_a_word(hub: FakeHub) -> None:
    hub.answers.extend([None, None, 409])
    async with serving(hub):
        await hub.assign("copy")
        while isinstance(await offer_answer(hub), Decline):
            pass
    assert not [message for message in hub.said if isinstance(message, Result | Failed)]


async def test_offers_beyond_the_slots_are_declined(hub: FakeHub, gate: Path) -> None:
    async with serving(hub):
        lease = await hub.assign("gate", {"gate": str(gate)})
        offer = await hub.offer("copy")
        assert (await hub.expect(Decline, offer=offer.offer)).reason == "no free slot"
        await open_gate(gate)
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
        offer = await hub.offer("nothing-like-it")
        assert (await hub.expect(Decline, offer=offer.offer)).reason == "no model nothing-like-it"


async def test_a_slot_that_was_promised_too_late_is_free_again(hub: FakeHub) -> None:
    async with serving(hub):
        offer = await hub.offer("copy")
        await hub.expect(Accept, offer=offer.offer)
        await hub.send(Problem(code="offer_gone", offer=offer.offer))
        again = await hub.offer("copy")
        await hub.expect(Accept, offer=again.offer)


async def test_repeated_messages_change_nothing(hub: FakeHub) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        offer = await hub.offer("copy")
        await hub.expect(Accept, offer=offer.offer)
        assign = await hub.send(Assign(
            lease="l1", task=offer.task, attempt=1, model="copy", options={}, inputs=list(hub.inputs.values()),
            upload_url=f"{hub.files.url}/api/uploads",
        ))
        await hub.send_again(assign)
        await hub.expect(Result, lease="l1")
        ack = await hub.send(ResultAck(lease="l1"))
        await hub.send_again(assign)
        await hub.send_again(ack)
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
    assert len(hub.uploads) == 1
    assert len([message for message in hub.said if isinstance(message, Accept | Result)]) == 2


async def test_happened_the_receiver_is_down_and_the_result_follows_when_it_is_back(hub: FakeHub, gate: Path) -> None:
    async with serving(hub):
        first = await hub.expect(Hello)
        lease = await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        await hub.leave()
        await open_gate(gate)
        await hub.next_upload()
        await hub.listen()
        hello = await hub.expect(Hello)
        assert (hello.instance, hello.running) == (first.instance, [lease])
        assert hello.last_seen == 3  # welcome, offer, assign
        result = await hub.expect(Result, lease=lease)
        assert hub.uploads[result.artifacts[0].upload_id] == b"still|moving"
        await hub.send(ResultAck(lease=lease))
    numbers = [message.n for message in hub.said if not isinstance(message, Hello)]
    assert numbers == sorted(numbers)


async def test_p6_a_result_is_sent_until_it_is_acknowledged_also_to_a_hub_that_restarted(hub: FakeHub) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        lease = await hub.assign("copy")
        first = await hub.expect(Result, lease=lease)
        hub.forget()
        await hub.drop()
        assert (await hub.expect(Hello)).running == [lease]
        again = await hub.expect(Result, lease=lease)
        assert (again.artifacts, again.stats) == (first.artifacts, first.stats) and again.n == 2
        await hub.send(ResultAck(lease=lease))
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
        await hub.drop()
        assert (await hub.expect(Hello)).running == []
    assert len(hub.uploads) == 1


async def test_what_the_hub_said_meanwhile_arrives_once(hub: FakeHub, tmp_path: Path) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        lease = await hub.assign("spin", {"mark": str(tmp_path / "mark")})
        await hub.expect(Progress, phase="segment")
        await hub.drop()
        await hub.send(Cancel(lease=lease))
        assert (await hub.expect(Hello)).running == [lease]
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
        await hub.drop()
        assert (await hub.expect(Hello)).running == []


async def test_a_session_by_another_name_is_a_new_one_whatever_the_hub_calls_it(hub: FakeHub, gate: Path) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        await hub.assign("gate", {"gate": str(gate)})
        await hub.expect(Progress, phase="segment")
        # A session that began and ended before the worker heard of it: its numbers mean nothing to the worker.
        hub.session, hub.number, hub.heard = 7, 1, 1
        hub.outbox.clear()
        await hub.drop()
        await hub.expect(Hello)
        await open_gate(gate)
        await hub.expect(Result, lease="lease-1")
        await hub.send(ResultAck(lease="lease-1"))
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
        await hub.drop()
        assert (await hub.expect(Hello)).running == []


async def test_a_hub_that_is_away_at_start_is_waited_for() -> None:
    tried = asyncio.Event()

    async def slam_the_door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tried.set()

    server = await asyncio.start_server(slam_the_door, "127.0.0.1", 0)
    hub = FakeHub(port=server.sockets[0].getsockname()[1])
    async with serving(hub):
        await asyncio.wait_for(tried.wait(), 20)
        server.close()
        await server.wait_closed()
        async with hub:
            await hub.expect(Hello)
            lease = await hub.assign("copy")
            await hub.expect(Result, lease=lease)
            await hub.send(ResultAck(lease=lease))


async def test_a_hub_that_asks_to_come_back_later_is_obeyed(hub: FakeHub) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await hub.send(Reconnect(after_s=0.5))
        await hub.expect(Hello)
        assert loop.time() - asked >= 0.5


async def test_a_restarting_hub_is_come_back_to(hub: FakeHub) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        await hub.close(1012, "restarting")
        assert (await hub.expect(Hello)).running == []


@pytest.mark.parametrize("code", [4400, 4403, 4499])
async def test_a_final_close_ends_the_worker(hub: FakeHub, code: int) -> None:
    service = asyncio.create_task(make_worker().serve(hub.url, hub.token))
    await hub.expect(Hello)
    await hub.close(code, "this token belongs to another worker")
    with pytest.raises(Refused, match=f"{code} this token belongs to another worker"):
        await asyncio.wait_for(service, 20)


async def test_an_unknown_token_ends_the_worker(hub: FakeHub) -> None:
    with pytest.raises(Refused, match="401"):
        await asyncio.wait_for(make_worker().serve(hub.url, "not the token"), 20)


async def test_happened_a_gpu_job_starves_the_renewal() -> None:
    """Models that use every processor to the full, and never listen, do not keep the worker from renewing."""
    async with FakeHub(renew_s=0.05, heartbeat_s=0.05) as hub, serving(hub, slots=2):
        leases = [await hub.assign("deaf"), await hub.assign("deaf")]
        for _ in leases:
            await hub.expect(Progress, phase="segment")
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(20):
            for lease in leases:
                await hub.expect(Renew, lease=lease)
            assert (await hub.expect(Status)).slots_free in (0, 1, 2)
        assert loop.time() - began < 10.0
        for lease in leases:
            await hub.send(Cancel(lease=lease))


async def test_progress_is_at_most_four_messages_a_second_and_a_phase(hub: FakeHub) -> None:
    async with serving(hub):
        lease = await hub.assign("chatter")
        await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
    progress = [message for message in hub.said if isinstance(message, Progress)]
    assert len(progress) < 20
    assert progress[-1].progress == 100.0


async def test_messages_that_make_no_sense_are_skipped(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(hub):
        await hub.expect(Hello)
        assert hub.connection is not None
        for raw in ("{", '{"type":"sing"}', '{"type":"cancel"}'):
            await hub.connection.send(raw)
        await hub.send(Drain(reason="maintenance"))
        await hub.connection.send(encode(Problem(code="bad_message", detail="unnumbered")).decode())
        await hub.send(Welcome(session="again", heartbeat_s=60, renew_s=30, lease_s=120))
        await hub.offer("nothing-like-it")
        await hub.expect(Decline)
    assert [record.levelname for record in caplog.records].count("WARNING") == 3
    caplog.clear()


async def test_stopping_lets_the_hub_take_what_is_finished_before_the_goodbye(hub: FakeHub) -> None:
    async with serving(hub) as worker:
        lease = await hub.assign("copy")
        await hub.expect(Result, lease=lease)
        worker.stop()
        offer = await hub.offer("copy")
        await hub.expect(Decline, offer=offer.offer)
        assert not [message for message in hub.said if isinstance(message, Bye)]
        await hub.send(ResultAck(lease=lease))
        await hub.expect(Bye)


async def test_stopping_ends_running_work(hub: FakeHub) -> None:
    async with serving(hub) as worker:
        await hub.assign("deaf")
        pid = int((await hub.expect(Progress, phase="segment")).message)
        worker.stop()
        await hub.expect(Bye)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_ctrl_c_stops_the_worker(hub: FakeHub) -> None:
    service = asyncio.create_task(make_worker().serve(hub.url, hub.token, signals=True))
    await hub.expect(Hello)
    os.kill(os.getpid(), signal.SIGINT)
    await hub.expect(Bye)
    await asyncio.wait_for(service, 20)
