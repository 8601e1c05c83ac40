"""The runner: nothing leaves before it is durable, everything leaves in order, and the store has the last word."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from hub import journal, messages
from hub.effects import Delete, Outcome, Save, Send
from hub.errors import Conflict
from hub.interface import OfferedModel
from hub.messages import CREATED, DELETED, RELEASED, UPDATED, Accept, Assign, Cancel, Offer, Status
from hub.journal import Entry, gather
from hub.task import Lease, State, Task

from .stage import Stage, Transport, assigned, decided, submit
from .world import RULES, START, a_task


# --- durable first, and in order


async def test_p5_nothing_is_sent_or_shown_before_it_is_durable(stage: Stage) -> None:
    transport, watcher = await stage.join(), stage.watch()
    stage.store.hold()
    done = decided(stage)
    await stage.store.entered.wait()
    assert (transport.kinds, watcher.types, done.done()) == (["Welcome", "Offer"], [], False)  # an offer is no promise
    assert await stage.store.get(Task, "task-1") is None
    stage.store.open.set()
    await done
    assert (transport.kinds, watcher.types) == (["Welcome", "Offer"], [CREATED])
    assert await stage.store.get(Task, "task-1") == a_task()


async def test_p5_a_lease_is_stored_before_its_worker_hears_of_it(stage: Stage) -> None:
    transport = await stage.join()
    await submit(stage)
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    stage.store.hold()
    done = stage.say(Accept(offer=offer.offer))
    await stage.store.entered.wait()
    assert transport.kinds == ["Welcome", "Offer"]
    stage.store.open.set()
    await done
    stored = await stage.store.get(Task, "task-1")
    assign = transport.written[-1]
    assert isinstance(assign, Assign) and stored is not None and stored.lease is not None
    assert stored.lease.id == assign.lease


async def test_what_needs_no_store_waits_for_what_was_decided_before(stage: Stage) -> None:
    transport, session = await stage.join(), stage.core.by_worker["w1"]
    stage.store.hold()
    first = decided(stage)
    await stage.store.entered.wait()
    second = stage.runner.decide([Send(session, Cancel(lease="later"))])
    assert not second.done()
    stage.store.open.set()
    await second
    assert first.done()
    assert transport.kinds == ["Welcome", "Offer", "Cancel"]


async def test_the_next_batch_is_on_its_way_before_the_last_is_carried_out_and_order_is_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, session = await stage.join(), stage.core.by_worker["w1"]
    commit, carried_out, later = stage.store.commit, list[bool](), list[asyncio.Future[None]]()

    async def watched(changes: list[Save | Delete]) -> list[Outcome]:
        carried_out.append(first.done())
        if len(carried_out) == 2:
            later.append(stage.runner.decide([Send(session, Cancel(lease="later"))]))
        return list(await commit(changes))

    monkeypatch.setattr(stage.store, "commit", watched)
    stage.store.hold()
    first = stage.runner.decide([Save(OfferedModel("one", "", "", 1), 0), Send(session, Cancel(lease="first"))])
    await stage.store.entered.wait()
    second = stage.runner.decide([Save(OfferedModel("two", "", "", 1), 0), Send(session, Cancel(lease="second"))])
    stage.store.open.set()
    await second
    await later[0]
    assert carried_out == [False, False] and first.done()
    said = [message.lease for message in transport.written if isinstance(message, Cancel)]
    assert said == ["first", "second", "later"]


async def test_an_offer_does_not_overtake_what_its_worker_is_still_to_hear(stage: Stage) -> None:
    transport, session = await stage.join(slots=2), stage.core.by_worker["w1"]
    stage.store.hold()
    first = stage.runner.decide([Save(OfferedModel("other", "", "", 1), 0), Send(session, Cancel(lease="over"))])
    await stage.store.entered.wait()
    second = decided(stage)
    assert transport.kinds == ["Welcome"]
    stage.store.open.set()
    await asyncio.gather(first, second)
    assert transport.kinds == ["Welcome", "Cancel", "Offer"]


async def test_p5_what_is_accepted_while_the_task_is_on_its_way_is_stored_with_it(stage: Stage) -> None:
    """One write for both where the answer to the offer is faster than the store; the lease is told after that."""
    transport = await stage.join(slots=2)
    before = len(stage.store.commits)
    stage.store.hold()
    first = decided(stage, "task-1")
    await stage.store.entered.wait()
    second = decided(stage, "task-2")
    offer = transport.written[-1]
    assert isinstance(offer, Offer) and offer.task == "task-2"
    third = stage.say(Accept(offer=offer.offer))
    assert "Assign" not in transport.kinds
    stage.store.open.set()
    await asyncio.gather(first, second, third)
    stored = await stage.store.get(Task, "task-2")
    assert stored is not None and (stored.state, stored.version) == (State.PROCESSING, 2)
    assert [len(changes) for changes in stage.store.commits[before:]] == [1, 1]
    assert transport.kinds == ["Welcome", "Offer", "Offer", "Assign"]


async def test_p5_a_task_that_is_refused_is_never_assigned(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its offer is out, and accepted before the store says no: the worker hears of no lease, and its slot is free."""
    transport = await stage.join()
    await stage.store.elsewhere().commit([Save(replace(a_task("task-1"), state=State.CANCELLED, version=7), 0)])
    stage.store.hold()
    first = decided(stage, "task-1")
    await stage.store.entered.wait()
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    second = stage.say(Accept(offer=offer.offer))
    stage.store.open.set()
    with pytest.raises(Conflict):
        await first
    with pytest.raises(Conflict):
        await second
    await submit(stage, "task-2")
    assert transport.kinds == ["Welcome", "Offer", "Offer"]
    assert [message.task for message in transport.written if isinstance(message, Offer)] == ["task-1", "task-2"]
    assert "task_moved_elsewhere" in caplog.text
    caplog.clear()


async def test_what_needs_no_store_leaves_at_once_when_nothing_waits(stage: Stage) -> None:
    transport, session = await stage.join(), stage.core.by_worker["w1"]
    done = stage.runner.decide([Send(session, Cancel(lease="now"))])
    assert done.done()
    assert transport.kinds == ["Welcome", "Cancel"]


async def test_messages_are_numbered_in_the_order_in_which_they_leave(stage: Stage) -> None:
    transport = await stage.join(slots=64)
    await asyncio.gather(*(decided(stage, f"task-{number}") for number in range(20)))
    assert [message.n for message in transport.written] == list(range(1, 22))
    offers = [message.task for message in transport.written if isinstance(message, Offer)]
    assert offers == [f"task-{number}" for number in range(20)]


async def test_many_decisions_make_few_commits(stage: Stage) -> None:
    await stage.join()
    before = len(stage.store.commits)
    stage.store.hold()
    decisions = [decided(stage, "first")]
    await stage.store.entered.wait()
    decisions += [decided(stage, f"task-{number}") for number in range(200)]
    stage.store.open.set()
    await asyncio.gather(*decisions)
    assert [len(changes) for changes in stage.store.commits[before:]] == [1, 200]


async def test_a_batch_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BATCH", 50)
    await stage.join()
    before = len(stage.store.commits)
    await asyncio.gather(*(decided(stage, f"task-{number}") for number in range(120)))
    assert [len(changes) for changes in stage.store.commits[before:]] == [50, 50, 20]


async def test_a_worker_without_a_connection_finds_its_messages_in_the_outbox(stage: Stage) -> None:
    await stage.join()
    session = stage.core.session_of("w1")
    assert session is not None
    del stage.runner.transports[session.id]
    await submit(stage)
    missed = [messages.decode(messages.to_worker, data) for data in session.missed(1)]
    assert [type(message) for message in missed] == [Offer]


async def test_one_effect_that_fails_does_not_keep_the_others_from_the_world(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError("a broken transport")

    await stage.join()
    stage.runner.transports[stage.core.by_worker["w1"]] = Broken()
    watcher = stage.watch()
    await submit(stage)
    await submit(stage, "task-2")
    assert watcher.types == [CREATED, CREATED]
    assert "effect_failed" in caplog.text
    caplog.clear()


# --- the store says no


async def test_p6_a_task_moved_by_another_hub_is_adopted(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.join()
    await submit(stage)
    moved = replace(a_task(), lease=Lease("other", "w9", START + 50), worker="w9", state=State.PROCESSING, version=2)
    await stage.store.elsewhere().commit([Save(moved, 1)])
    watcher = stage.watch()
    with pytest.raises(Conflict) as refusal:
        await stage.runner.carry_out(stage.core.cancel(a_task(), stage.clock.now()))
    assert refusal.value.code == "conflict"
    [event] = await watcher.see(UPDATED)
    assert (event.data["state"], event.data["worker"]) == ("processing", "w9")
    assert stage.core.lease_of("other").id == "task-1"
    assert await stage.store.get(Task, "task-1") == moved, "the cancel changed nothing"
    assert "task_moved_elsewhere" in caplog.text
    caplog.clear()


async def test_a_task_deleted_by_another_hub_is_forgotten(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.join()
    await submit(stage)
    watcher = stage.watch()
    await stage.store.elsewhere().commit([Delete(Task, "task-1")])
    with pytest.raises(Conflict):
        await stage.runner.carry_out(stage.core.cancel(a_task(), stage.clock.now()))
    await stage.settled()
    await watcher.see(DELETED)
    assert (stage.core.tasks, stage.runner.shown.open) == ({}, {})
    caplog.clear()


async def test_a_refused_task_does_not_hide_what_happened_to_the_others(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One tick ends two leases; another hub has moved one of the tasks."""
    transport = await stage.join(slots=2)
    await assigned(stage, transport, "task-1")
    await assigned(stage, transport, "task-2")
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None
    await stage.store.elsewhere().commit([Save(replace(stored, version=9), 2)])
    watcher = stage.watch()
    stage.core.tick(stage.clock.now())
    for _ in range(int(RULES.lease_s)):
        stage.clock.time += 1
        effects = stage.core.tick(stage.clock.now())
        if effects:
            break
    with pytest.raises(Conflict):
        await stage.runner.carry_out(effects)
    events = await watcher.see(RELEASED, UPDATED)
    assert [event.data["id"] for event in events] == ["task-2", "task-1"]
    await stage.say(Status(slots_free=2))
    assert "task-2" in [message.task for message in transport.written if isinstance(message, Offer)][2:]
    caplog.clear()


async def test_a_refused_task_does_not_hide_from_others_that_their_leases_are_over(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One tick ends the leases of two workers; another hub has cancelled the task of one."""
    one, two = await stage.join("w1"), await stage.join("w2")
    await assigned(stage, one, "task-1", "w1")
    session = stage.core.session_of("w2")
    assert session is not None
    session.warm = "m"
    await assigned(stage, two, "task-2", "w2")
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None
    cancelled = replace(stored, state=State.CANCELLED, lease=None, version=stored.version + 1)
    await stage.store.elsewhere().commit([Save(cancelled, stored.version)])
    while stage.core.tasks["task-2"].lease is not None:
        stage.clock.time += 1
        done = stage.runner.decide(stage.core.tick(stage.clock.now()))
    with pytest.raises(Conflict):
        await done
    await stage.settled()
    assert ("LeaseLost" in one.kinds, "LeaseLost" in two.kinds) == (False, True)
    caplog.clear()


async def test_a_unique_value_that_is_taken_is_a_conflict_of_its_own(stage: Stage) -> None:
    """Two requests with one Idempotency-Key at once: one task; nothing is logged, since nothing is wrong."""
    transport, watcher = await stage.join(slots=4), stage.watch()
    first, second = decided(stage, "a", request_key="k"), decided(stage, "b", request_key="k")
    await first
    with pytest.raises(Conflict) as refusal:
        await second
    assert refusal.value.code == "taken"
    await stage.settled()
    assert (list(stage.core.tasks), watcher.types) == (["a"], [CREATED])
    gone = [message.offer for message in transport.written if isinstance(message, Offer) and message.task == "b"]
    await asyncio.gather(*(stage.say(Accept(offer=offer)) for offer in gone))
    assert "Assign" not in transport.kinds
    assert stage.core.session_of("w1").free == 3  # type: ignore[union-attr]


async def test_a_model_known_elsewhere_keeps_no_worker_from_its_welcome(stage: Stage) -> None:
    theirs = OfferedModel("m", "Theirs", "", 4)
    await stage.store.elsewhere().commit([Save(theirs, 0)])
    with pytest.raises(Conflict):
        await stage.join()
    transport = stage.runner.transports[stage.core.by_worker["w1"]]
    assert isinstance(transport, Transport) and transport.kinds == ["Welcome"]
    await stage.settled()
    assert stage.core.models["m"] == theirs


async def test_one_batch_has_each_record_once_with_the_first_guard_and_the_last_content() -> None:
    v1, v2, v3 = (a_task(version=version) for version in (1, 2, 3))
    entries = [entry(Save(v1, 0)), entry(Save(v2, 1), Save(v3, 2))]
    assert gather(entries) == (2, [Save(v3, 0)])


async def test_p7_a_decision_that_does_not_follow_from_the_batch_is_judged_by_the_store() -> None:
    """Completed, and cancelled by somebody who did not know: the second must not ride on the first one's guard."""
    completed, cancelled = a_task(version=2, state=State.COMPLETED), a_task(version=2, state=State.CANCELLED)
    other = a_task("task-2")
    entries = [entry(Save(completed, 1)), entry(Save(other, 0)), entry(Save(cancelled, 1))]
    assert gather(entries) == (2, [Save(completed, 1), Save(other, 0)])
    assert gather(entries[2:]) == (1, [Save(cancelled, 1)])


async def test_what_was_deleted_is_not_saved_again_by_a_decision_that_did_not_know() -> None:
    entries = [entry(Delete(Task, "task-1")), entry(Save(a_task(version=6), 5))]
    assert gather(entries) == (1, [Delete(Task, "task-1")])


async def test_a_delete_after_a_save_is_a_delete() -> None:
    entries = [entry(Save(a_task(version=6), 5)), entry(Delete(Task, "task-1"))]
    assert gather(entries) == (2, [Delete(Task, "task-1")])


async def test_a_delete_after_a_save_has_the_first_guard() -> None:
    entries = [entry(Save(a_task(version=6), 5)), entry(Delete(Task, "task-1", 6))]
    assert gather(entries) == (2, [Delete(Task, "task-1", 5)])


async def test_p7_a_delete_that_does_not_follow_from_the_batch_is_judged_by_the_store() -> None:
    entries = [entry(Save(a_task(version=7), 6)), entry(Delete(Task, "task-1", 6))]
    assert gather(entries) == (1, [Save(a_task(version=7), 6)])


async def test_p7_a_retry_that_races_with_a_delete_leaves_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.join()
    await submit(stage)
    await stage.runner.carry_out(stage.core.cancel(a_task(), stage.clock.now()))
    ended = await stage.store.get(Task, "task-1")
    assert ended is not None
    deleted = stage.runner.decide(stage.core.delete(ended))
    retried = stage.runner.decide(stage.core.retry(ended, stage.clock.now()))
    await deleted
    with pytest.raises(Conflict):
        await retried
    await stage.settled()
    assert await stage.store.get(Task, "task-1") is None
    assert stage.core.tasks == {}
    caplog.clear()


def entry(*changes: Save | Delete) -> Entry:
    return Entry(list(changes), [], asyncio.get_running_loop().create_future())
