"""Time in the core: leases, grace after a pause, backoff across a restart, and progress at a bearable pace."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.effects import Publish, Save
from hub.interface import OfferedModel
from hub.messages import COMPLETED, LONGEST_WAIT_S, PROGRESSED, RELEASED, Failed, LeaseLost, Offer, Renew, Status
from hub.task import Lease, State, Task

from .world import RULES, START, World, a_task, check, kinds, only, published, saved_tasks, sent


@pytest.fixture
def world() -> World:
    return World()


def reborn(world: World) -> World:
    """The hub was killed and has started again: only what is stored is left."""
    again = World()
    again.ledger, again.now = world.ledger, world.now
    records = list(world.ledger.stored.values())
    tasks = [record for record in records if isinstance(record, Task) and not record.state.ended]
    again.core.boot(tasks, [record for record in records if isinstance(record, OfferedModel)], world.now)
    return again


# --- leases


def test_a_silent_workers_lease_ends_and_the_task_waits_again(world: World) -> None:
    lease = world.running()
    assert published(world.wait(RULES.lease_s - 1)) == []
    effects = world.wait(1)
    assert published(effects) == [("task-1", RELEASED)]
    assert LeaseLost(lease=lease) in sent(effects), "the worker is told, should it live after all"
    [attempt] = world.task().attempts
    assert (attempt.code, attempt.detail) == ("worker_lost", "w1 fell silent")


def test_the_next_attempt_starts_at_once(world: World) -> None:
    world.running("task-1", "w1")
    world.core.detach(world.session().id, world.now)
    world.join("w2")
    effects = world.wait(RULES.lease_s)
    assert world.accept(effects, "w2").attempt == 2


def test_renewals_keep_a_lease_for_ever(world: World) -> None:
    lease = world.running()
    effects = world.wait(5 * RULES.lease_s, step=RULES.renew_s / 10, renewed={"w1": lease})
    assert published(effects) == []
    assert world.task().lease == Lease(lease, "w1", world.now + RULES.lease_s)


def test_progress_renews_too(world: World) -> None:
    lease = world.running()
    for percent in range(10):
        world.wait(RULES.lease_s - 1)
        world.progress(lease, percent)
    assert world.task().attempt == 1


def test_a_worker_that_only_goes_to_and_fro_between_phases_loses_its_task(world: World) -> None:
    lease, began = world.running(), world.now
    while world.task().lease is not None and world.now < began + 2 * RULES.stall_s:
        world.progress(lease, 0.0, "fetch" if world.now % 2 else "segment")
        world.wait(1)
    assert world.now <= began + RULES.stall_s + 5
    assert world.task().attempts[0].code == "stalled"


def test_heartbeats_of_the_session_do_not_renew_a_lease(world: World) -> None:
    """A worker that is there but says nothing of its task has lost it: a session never hides a dead job."""
    world.running()
    events = []
    for _ in range(int(RULES.lease_s // 10)):
        world.say(Status())
        events += published(world.wait(10))
    assert events == [("task-1", RELEASED)]


def test_p8_a_pause_of_the_hub_gives_every_lease_a_full_heartbeat(world: World) -> None:
    world.running()
    world.wait(10)
    assert published(world.pause(3600)) == []
    assert published(world.wait(RULES.heartbeat_s - 1)) == []
    assert published(world.wait(2)) == [("task-1", RELEASED)]


def test_p8_a_pause_of_the_hub_blames_no_session_and_no_offer(world: World) -> None:
    world.join("w1")
    world.wait(1)
    world.submit()
    world.join("w2")
    assert world.pause(3600) == [], "neither is a session closed nor the offer withdrawn"
    world.wait(RULES.offer_s - 1)
    assert world.session("w1").offers != {}


def test_p8_a_pause_never_shortens_a_lease(world: World) -> None:
    world.running()
    world.wait(1)
    world.pause(RULES.pause_s + 1)
    assert published(world.wait(RULES.lease_s - RULES.pause_s - 3)) == []


def test_p8_a_restart_gives_every_lease_a_full_heartbeat(world: World) -> None:
    lease = world.running()
    world.now += 10_000
    again = reborn(world)
    assert published(again.wait(RULES.heartbeat_s - 1)) == []
    again.join(running=[lease])
    assert published(again.wait(RULES.heartbeat_s - 1)) == []
    assert again.task().attempt == 1


def test_p8_a_restart_shortens_no_lease(world: World) -> None:
    """What is read may be another hub's: its worker may be silent for as long as it was told."""
    world.running()
    world.now += 10
    again = reborn(world)
    assert published(again.wait(RULES.lease_s - 11)) == []
    assert published(again.wait(1)) == [("task-1", RELEASED)]


def test_p8_a_lease_stored_by_a_clock_far_ahead_is_not_immortal(world: World) -> None:
    world.running()
    task = world.stored()
    assert task.lease is not None
    world.ledger.stored[Task, task.id] = replace(task, lease=replace(task.lease, expires_at=START + 10**9))
    again = reborn(world)
    assert published(again.wait(RULES.lease_s + 1)) == [("task-1", RELEASED)]


def test_p8_a_backoff_stored_by_a_clock_far_ahead_is_not_endless(world: World) -> None:
    world.join()
    task = a_task(not_before=START + 10**9)
    world.ledger.stored[Task, task.id] = task
    assert only(reborn(world).join(), Offer).task == "task-1"


def test_p8_no_more_is_left_of_a_backoff_than_all_of_it_after_the_clock_went_back(world: World) -> None:
    world.say(Failed(lease=world.running(), code="crashed"))
    world.now -= 3600
    assert reborn(world).task().not_before == world.now + RULES.backoff_s[0]


def test_p5_a_wait_that_a_worker_asked_for_outlives_a_restart(world: World) -> None:
    world.say(Failed(lease=world.running(), code="gpu_busy", retry_after=LONGEST_WAIT_S))
    until = world.task().not_before
    world.now += 1
    assert reborn(world).task().not_before == until


def test_p8_a_backoff_that_is_over_does_not_come_back_when_the_clock_goes_back(world: World) -> None:
    world.now += 3600
    world.say(Failed(lease=world.running(), code="crashed"))
    world.accept(world.wait(RULES.backoff_s[0]))
    world.now -= 3600
    again = reborn(world)
    again.join("w2")
    assert only(again.take(again.core.requeue(again.stored(), again.now)), Offer).task == "task-1"


def test_p5_a_restart_in_mid_task_and_the_same_worker_goes_on(world: World) -> None:
    lease = world.running()
    world.wait(2)
    world.progress(lease, 60)
    again = reborn(world)
    effects = again.join(running=[lease])
    assert published(effects) == [] and not any(isinstance(message, LeaseLost) for message in sent(effects))
    assert again.session().free == 0
    assert published(again.complete(lease)) == [("task-1", COMPLETED)]
    assert again.stored().attempt == 1


def test_p5_a_lease_stored_but_never_delivered_is_given_up_when_the_worker_returns(world: World) -> None:
    world.running()
    again = reborn(world)
    assert published(again.join(running=[])) == [("task-1", RELEASED)]


def test_p5_waiting_tasks_survive_a_restart_in_their_order(world: World) -> None:
    world.join()
    world.core.detach(world.session().id, world.now)
    for number in range(3):
        world.submit(f"task-{number}", created_at=START + number)
    again = reborn(world)
    offers = [message.task for message in sent(again.join(slots=3)) if isinstance(message, Offer)]
    assert offers == ["task-0", "task-1", "task-2"]


def test_ended_tasks_of_the_store_are_not_taken_up(world: World) -> None:
    world.core.boot([replace(a_task(), state=State.COMPLETED)], [], world.now)
    assert world.core.tasks == {}


def test_what_another_process_moved_is_believed(world: World) -> None:
    lease = world.running()
    elsewhere = replace(world.stored(), lease=Lease("other", "w9", world.now), worker="w9", version=9)
    world.core.adopt(elsewhere, world.now)
    world.ledger.stored[Task, elsewhere.id] = elsewhere
    assert sent(world.say(Renew(lease=lease))) == [LeaseLost(lease=lease)]
    assert (world.session().free, world.core.lease_of("other").worker) == (1, "w9")


def test_a_lease_that_was_taken_for_lost_and_is_believed_after_all_fills_one_slot(world: World) -> None:
    """A write of the process before this one arrives late: the lease is in the store only now."""
    lease = world.running()
    late = world.stored()
    again = World()
    again.join(running=[lease], slots=2)
    assert list(again.session().stopping) == [lease]
    again.core.adopt(late, again.now)
    again.ledger.stored[Task, late.id] = late
    check(again.core)
    assert (again.session().free, list(again.session().stopping)) == (1, [])


def test_p9_after_a_crash_viewers_see_only_newer_versions(world: World) -> None:
    """Progress is shown before it is stored; what follows the crash must not look older than what was seen."""
    lease = world.running()
    world.now += 2
    for percent in range(0, 100, 10):
        world.now += 0.3
        world.progress(lease, percent)
    seen, stored = world.ledger.shown["task-1"], world.stored()
    assert seen.version > stored.version, "the scene: viewers are ahead of the store"
    again = reborn(world)
    again.join(running=[lease])
    [_, save, publish, _] = again.complete(lease)
    assert isinstance(save, Save) and isinstance(publish, Publish)
    assert (save.previous, publish.type) == (stored.version, COMPLETED)
    assert publish.task.version > seen.version


# --- the pace of progress


def count(effects: list[object], kind: type) -> int:
    return sum(isinstance(effect, kind) for effect in effects)


@pytest.mark.parametrize("phases", [("segment",), ("fetch", "segment"), ("fetch", "segment", "composite")])
def test_progress_is_saved_at_most_once_a_second_and_shown_at_most_four_times(world: World, phases: tuple[str]) -> None:
    lease, effects, seconds = world.running(), [], 5
    for number in range(100 * seconds):
        world.now += 0.01
        effects += world.progress(lease, number / 10, phases[number % len(phases)])
        if number % 25 == 0:
            effects += world.take(world.core.tick(world.now))
    assert seconds - 1 <= count(effects, Save) <= seconds
    assert 4 * seconds - 2 <= count(effects, Publish) <= 4 * seconds


def test_renewals_are_saved_at_most_once_a_second_too(world: World) -> None:
    lease, effects = world.running(), []
    for _ in range(300):
        world.now += 0.01
        effects += world.say(Renew(lease=lease))
    assert 2 <= count(effects, Save) <= 3


def test_a_renewal_is_nothing_for_viewers(world: World) -> None:
    lease = world.running()
    world.wait(5)
    effects = [*world.say(Renew(lease=lease)), *world.wait(5)]
    assert (count(effects, Save), count(effects, Publish)) == (1, 0)


def test_a_renewal_does_not_hide_progress_that_was_held_back(world: World) -> None:
    lease = world.running()
    assert world.progress(lease, 30) == []
    world.say(Renew(lease=lease))
    [event] = [effect for effect in world.wait(1) if isinstance(effect, Publish)]
    assert (event.type, event.task.progress) == (PROGRESSED, 30)


def test_the_last_progress_is_shown_and_saved_although_nothing_follows(world: World) -> None:
    lease = world.running()
    world.now += 2
    world.progress(lease, 10)
    assert world.progress(lease, 20) == []
    effects = world.wait(1.5, step=0.25)
    assert published(effects) == [("task-1", PROGRESSED)]
    assert [task.progress for task in saved_tasks(effects)] == [20]
    assert world.wait(5) == [], "and only once"


def test_an_end_is_saved_from_the_version_that_is_stored(world: World) -> None:
    lease = world.running()
    for percent in (10, 20, 30):
        world.progress(lease, percent)
    assert world.stored().version == 2
    [save] = [effect for effect in world.cancel() if isinstance(effect, Save)]
    assert (save.previous, save.record.progress) == (2, 30)


def test_p9_progress_never_goes_back_within_an_attempt(world: World) -> None:
    lease = world.running()
    for percent in (50, 20, 60, 10):
        world.wait(2)
        world.progress(lease, percent)
    assert world.task().progress == 60
    assert world.stored().progress == 60


def test_p9_a_new_attempt_begins_at_zero(world: World) -> None:
    lease = world.running()
    world.wait(2)
    world.progress(lease, 80)
    effects = world.join(instance="i2")
    assert world.accept(effects).attempt == 2
    assert world.task().progress == 0.0


def test_nothing_happens_when_nothing_is_due(world: World) -> None:
    world.running()
    assert kinds(world.wait(30, step=0.25)) == []
