"""The runner's life: start from the store, time, a store that goes away and comes back, and a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hub import runner as running
from hub.effects import Save
from hub.errors import Conflict, Invalid, Unavailable
from hub.interface import OfferedModel
from hub.messages import ASSIGNED, CREATED, RELEASED, Accept, Offer, Progress, Renew
from hub.task import Lease, State, Task

from .stage import Stage, assigned, decided
from .world import RULES, START, a_task


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A runner that is not started; time passes only when the test says so."""
    monkeypatch.setattr(running, "TICK_S", 3600)
    stage = Stage()
    yield stage
    stage.store.open.set()
    stage.store.away = False
    await stage.runner.stop()


# --- start


async def test_p15_open_tasks_and_models_are_taken_up_in_order(stage: Stage) -> None:
    lease = Lease("lease-1", "w1", START - 1000)
    records: list[Task] = [a_task(f"waiting-{number:04}") for number in range(1500)]
    records += [
        a_task("processing", state=State.PROCESSING, lease=lease, worker="w1", attempt=1, version=2),
        a_task("ended", state=State.COMPLETED, version=3),
    ]
    await stage.store.commit([*(Save(record, 0) for record in records), Save(OfferedModel("m", "", ""), 0)])
    await stage.runner.start()
    assert len(stage.core.tasks) == 1501 and "ended" not in stage.core.tasks
    assert stage.core.lease_of("lease-1").id == "processing"
    assert stage.runner.view(records[0])["state"] == "waiting"
    assert stage.runner.view(records[-2])["version"] == stage.core.tasks["processing"].version > 2
    transport = await stage.join(slots=3, running=["lease-1"])
    offers = [message.task for message in transport.written if isinstance(message, Offer)]
    assert offers == ["waiting-0000", "waiting-0001"]


async def test_nothing_can_start_without_the_store(stage: Stage) -> None:
    stage.store.away = True
    with pytest.raises(Unavailable):
        await stage.runner.start()
    assert not stage.runner.healthy


# --- time


async def test_time_passes_by_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TICK_S", 0.001)
    await stage.runner.start()
    transport = await stage.join()
    await decided(stage)
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    watcher = stage.watch()
    session = stage.core.session_of("w1")
    assert session is not None
    await stage.runner.decide(stage.core.receive(session.id, Accept(n=2, offer=offer.offer), stage.clock.now()))
    stage.core.ticked_at = None  # the jump below stands for time that has passed, not for a pause
    stage.clock.time += RULES.lease_s
    await watcher.see(ASSIGNED, RELEASED)


# --- the store goes away


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PATIENCE_S", 0.05)


async def test_p12_requests_are_told_to_come_back_while_the_store_is_away(
    stage: Stage, patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    transport, watcher = await stage.join(slots=2), stage.watch()
    stage.runner.check_ready()
    stage.store.away = True
    with pytest.raises(Unavailable) as refusal:
        await stage.runner.carry_out(stage.core.submit(a_task(), stage.clock.now()))
    assert refusal.value.retry_after == 5.0
    with pytest.raises(Unavailable):
        stage.runner.check_ready()
    assert (transport.kinds, watcher.types) == (["Welcome", "Offer"], []), "nothing is promised or shown meanwhile"
    stage.runner.decide(stage.core.submit(a_task("task-2"), stage.clock.now()))
    assert transport.kinds == ["Welcome", "Offer"], "nor offered, once it is known"
    assert [record.message.split()[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "event='commit_failed'",
    ], "said once, however often it is tried"
    caplog.clear()


async def test_p12_everything_decided_meanwhile_is_committed_in_order_when_the_store_is_back(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    transport, watcher = await stage.join(slots=9), stage.watch()
    stage.store.away = True
    decisions = [decided(stage, f"task-{number}") for number in range(5)]
    while stage.runner.healthy:
        await asyncio.sleep(0)
    decisions += [decided(stage, f"task-{number}") for number in range(5, 9)]
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(*decisions)
    stage.runner.check_ready()
    events = await watcher.see(*[CREATED] * 9)
    assert [event.data["id"] for event in events] == [f"task-{number}" for number in range(9)]
    assert [message.task for message in transport.written if isinstance(message, Offer)] == [
        f"task-{number}" for number in range(9)
    ]
    caplog.clear()


async def test_p12_progress_is_not_kept_for_later_while_the_store_is_away(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    transport = await stage.join()
    await decided(stage)
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    await stage.say(Accept(offer=offer.offer))
    lease = stage.core.tasks["task-1"].lease
    assert lease is not None
    watcher = stage.watch()
    stage.store.away = True
    decision = decided(stage, "task-2")
    while stage.runner.healthy:
        await asyncio.sleep(0)
    for percent in range(100):
        stage.clock.time += 1
        last = stage.say(Progress(lease=lease.id, phase="segment", progress=percent))
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(decision, last)
    assert watcher.types == [CREATED]
    await stage.runner.decide(stage.core.tick(stage.clock.now()))
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None and stored.progress == 99, "the last of it is stored with the next tick"
    caplog.clear()


async def test_p14_the_journal_does_not_grow_with_the_time_for_which_the_store_is_away(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour in which a worker reports, asks, and says again what it must hear is over, and slots are free."""
    await stage.runner.start()
    transport = await stage.join(slots=8)
    assign = await assigned(stage, transport)
    stage.store.away = True
    waiting, ended = decided(stage, "task-2"), stage.runner.decide([])
    while stage.runner.healthy:
        await asyncio.sleep(0)
    later = decided(stage, "task-3")
    sizes = []
    for second in range(3600):
        stage.clock.time += 1
        stage.say(Progress(lease=assign.lease, phase="segment", progress=second / 36))
        stage.say(Renew(lease=assign.lease))
        stage.say(Renew(lease="long over"))
        stage.runner.decide(stage.core.tick(stage.clock.time))
        sizes.append(sum(1 + len(entry.changes) + len(entry.others) for entry in stage.runner.journal))
    assert sizes[-1] == sizes[60] < 10 and len(stage.runner.offers) == 1
    assert not ended.done(), "nor is anything told as carried out"
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(waiting, later)
        await stage.runner.decide([])
    assert transport.kinds.count("LeaseLost") == 1
    offers = [message.task for message in transport.written if isinstance(message, Offer)]
    assert offers == ["task-1", "task-2", "task-3"], "the last one stands, though nobody could take it for an hour"
    assert not stage.core.roster.session_of("w1").rests_until, "and nobody is to blame for that"
    caplog.clear()


async def test_p12_what_was_offered_and_not_sent_is_offered_anew_when_the_store_is_back(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    transport = await stage.join()
    stage.store.away = True
    lost = stage.runner.decide([Save(OfferedModel("other", "", "", 1), 0)])
    while stage.runner.healthy:
        await asyncio.sleep(0)
    first = decided(stage, "task-1")
    urgent = decided(stage, "task-2", priority=9)
    assert len(stage.runner.offers) == 1 and transport.kinds == ["Welcome"]
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(lost, first, urgent)
        await stage.runner.decide([])
    assert [message.task for message in transport.written if isinstance(message, Offer)] == ["task-2"]
    caplog.clear()


async def test_p12_who_waits_for_others_is_not_told_of_their_conflicts(stage: Stage) -> None:
    await stage.runner.start()
    await stage.join()
    stage.store.hold()
    first = stage.runner.decide([Save(OfferedModel("other", "", "", 9), 8)])
    await stage.store.entered.wait()
    waiting = [stage.runner.decide([]) for _ in range(3)]
    assert not any(each.done() for each in waiting)
    stage.store.open.set()
    with pytest.raises(Conflict):
        await first
    await asyncio.gather(*waiting)


async def test_p12_who_gives_up_waiting_leaves_the_others_waiting(
    stage: Stage, patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    await stage.join()
    stage.store.away = True
    decision, waiting = decided(stage), stage.runner.decide([])
    with pytest.raises(Unavailable):
        await stage.runner.carry_out([])
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(decision, waiting)
    caplog.clear()


async def test_p12_a_request_that_gave_up_does_not_undo_the_decision(
    stage: Stage, patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    await stage.join()
    watcher = stage.watch()
    stage.store.away = True
    with pytest.raises(Unavailable):
        await stage.runner.carry_out(stage.core.submit(a_task(), stage.clock.now()))
    stage.store.away = False
    await watcher.see(CREATED)
    assert await stage.store.get(Task, "task-1") == a_task()
    caplog.clear()


async def test_a_commit_that_breaks_is_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a driver raises, the journal goes on; otherwise the hub would take tasks and store none."""
    await stage.runner.start()
    await stage.join()
    stage.store.failures = [ValueError("a surprise"), Unavailable("and away")]
    async with asyncio.timeout(5):
        await decided(stage)
    assert stage.runner.healthy
    assert "commit_failed" in caplog.text and "a surprise" in caplog.text
    caplog.clear()


async def test_a_commit_whose_answer_was_lost_is_not_a_conflict(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The write went through, the answer did not: trying again must find its own work."""
    await stage.runner.start()
    await stage.join()
    stage.store.failures = [Unavailable("the answer is lost")]
    stage.store.hold()
    decision = decided(stage)
    await stage.store.entered.wait()
    stage.store.apply(Save(a_task(), 0))
    stage.store.open.set()
    async with asyncio.timeout(5):
        await decision
    caplog.clear()


# --- what can never be stored


async def test_a_change_that_can_never_be_stored_keeps_no_other_from_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.start()
    transport, watcher = await stage.join(slots=64), stage.watch()
    stage.store.hold()
    decisions = [decided(stage, "first")]
    await stage.store.entered.wait()
    decisions += [decided(stage, f"task-{number:02}") for number in range(20)]
    bad = decided(stage, "task-bad", message="half a character: \ud800")
    decisions += [decided(stage, f"task-{number:02}") for number in range(20, 40)]
    stage.store.open.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*decisions)
        with pytest.raises(Invalid):
            await bad
    stage.runner.check_ready()
    await stage.settled()
    assert [event.data["id"] for event in await watcher.see(*[CREATED] * 41)] == [
        "first", *(f"task-{number:02}" for number in range(40)),
    ]
    assert "task-bad" not in stage.core.tasks and len(stage.core.tasks) == 41
    offer = next(each for each in transport.written if isinstance(each, Offer) and each.task == "task-bad")
    await stage.say(Accept(offer=offer.offer))
    assert "Assign" not in transport.kinds, "what was offered of it is over"
    assert "change_left_out" in caplog.text and "id='task-bad'" in caplog.text
    caplog.clear()


async def test_a_task_is_as_it_is_stored_after_a_change_of_it_that_can_never_be(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.start()
    transport = await stage.join()
    assign = await assigned(stage, transport)
    stage.clock.time += RULES.save_every_s
    with pytest.raises(Invalid):
        await stage.say(Progress(lease=assign.lease, phase="segment", progress=50.0, message="\udfff"))
    await stage.settled()
    assert stage.core.tasks["task-1"].progress == 0.0
    stage.clock.time += RULES.save_every_s
    await stage.say(Progress(lease=assign.lease, phase="segment", progress=60.0))
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None and stored.progress == 60.0
    caplog.clear()


# --- the end


async def test_a_stop_waits_for_what_was_decided(stage: Stage) -> None:
    await stage.runner.start()
    transport = await stage.join()
    stage.store.hold()
    decision = decided(stage)
    await stage.store.entered.wait()
    stopping = asyncio.create_task(stage.runner.stop())
    stage.store.open.set()
    await stopping
    assert decision.done() and await stage.store.get(Task, "task-1") is not None
    assert transport.kinds == ["Welcome", "Offer"]


async def test_a_stopped_runner_leaves_no_duty_behind(stage: Stage) -> None:
    before = asyncio.all_tasks()
    await stage.runner.start()
    await stage.join()
    await decided(stage)
    await stage.runner.stop()
    assert stage.runner.duties == set()
    assert asyncio.all_tasks() == before


async def test_p15_a_stop_does_not_wait_for_a_store_that_is_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running, "FAREWELL_S", 0.05)
    await stage.runner.start()
    await stage.join()
    stage.store.away = True
    decision = decided(stage)
    async with asyncio.timeout(2):
        await stage.runner.stop()
    assert not decision.done() and stage.runner.duties == set()
    caplog.clear()


async def test_a_duty_that_breaks_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise RuntimeError("a bug")

    stage.runner.own(broken())
    while stage.runner.duties:
        await asyncio.sleep(0)
    assert "duty_failed" in caplog.text
    caplog.clear()
