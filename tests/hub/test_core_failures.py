"""The core where tasks fail: which worker is suspected of it, who tries next, and who may refuse how often."""

from __future__ import annotations

import pytest

from hub.dispatcher import AVOID_S
from hub.effects import Effect
from hub.interface import Interface, changed, register
from hub.messages import Decline, Drain, Failed, Model, Status
from hub.suspicion import MILD
from hub.task import Problem
from hub.workload import LONGEST_REFUSAL_S, REFUSALS

from .world import RULES, START, World, published

MANY = RULES.suspect_after


@pytest.fixture
def world() -> World:
    return World()


def registered(world: World, *names: str, **changes: object) -> None:
    """Workers that admins know join."""
    for name in names:
        record = world.ledger.stored[Interface, name] = register(name, f"token of {name}", START)
        world.take(world.core.know(record, START))
        world.join(name, **changes)


def interface(world: World, name: str = "w1") -> Interface:
    return world.core.roster.interfaces[name]


def fail(world: World, number: int, owner: str | None = None, **report: object) -> list[Effect]:
    """A task, of a user of its own where nothing else is said, fails on w1."""
    world.now += 1
    lease = world.running(f"task-{number}", owner=owner or f"user-{number}")
    return world.say(Failed(lease=lease, **{"code": "oom", **report}))  # type: ignore[arg-type]


# --- who is suspected


def test_a_worker_on_which_everything_fails_is_paused_with_a_note(world: World) -> None:
    registered(world, "w1")
    for number in range(MANY):
        assert not world.session().paused
        fail(world, number)
    assert world.session().paused
    assert interface(world).note == "paused by the hub: one task after the other failed here, the last with oom"
    assert world.ledger.stored[Interface, "w1"] == interface(world)


def test_after_an_admin_has_lifted_the_pause_it_is_counted_from_zero(world: World) -> None:
    registered(world, "w1")
    for number in range(MANY):
        fail(world, number, retryable=False)
        fail(world, MANY + number)
    resumed = world.ledger.stored[Interface, "w1"] = changed(interface(world), paused=False)
    world.take(world.core.know(resumed, world.now))
    for number in range(MANY - 1):
        fail(world, 100 + number, retryable=False)
    assert not world.session().paused


def test_an_admin_can_lift_a_pause_whatever_the_worker_called_its_failures(world: World) -> None:
    registered(world, "w1")
    for number in range(MANY):
        fail(world, number, code="out of\nmemory")
    assert interface(world).note.endswith("the last with out of_memory")
    assert not changed(interface(world), paused=False).paused


def test_a_worker_that_blames_every_input_is_paused(world: World) -> None:
    registered(world, "w1")
    for number in range(MILD * MANY):
        assert not world.session().paused
        assert published(fail(world, number, code="bad_input", retryable=False))[0] == (f"task-{number}", "failed")
    assert world.session().paused


def test_one_users_broken_videos_pause_nobody(world: World) -> None:
    registered(world, "w1")
    for number in range(10 * MANY):
        fail(world, number, "eve", code="worker_crashed", retryable=number % 2)
    assert not world.session().paused


def test_one_lost_connection_does_not_pause_a_worker_with_many_slots(world: World) -> None:
    """Its leases were renewed at different times, so they end one after the other."""
    registered(world, "w1", slots=8)
    for number in range(8):
        lease = world.running(f"task-{number}", owner=f"user-{number}")
        world.now += 1
        world.progress(lease, 10.0)
    world.take(world.core.detach(world.session().id, world.now))
    world.wait(RULES.lease_s + 10, 0.25)
    world.join(slots=8)
    assert not world.session().paused


def test_a_worker_that_is_paused_already_is_not_paused_again(world: World) -> None:
    registered(world, "w1", slots=2 * MANY)
    leases = [world.running(f"task-{number}", owner=f"user-{number}") for number in range(2 * MANY)]
    paused = world.ledger.stored[Interface, "w1"] = changed(interface(world), paused=True)
    world.take(world.core.know(paused, world.now))
    for lease in leases:
        world.say(Failed(lease=lease, code="oom"))
    assert interface(world) == paused


def test_a_worker_without_a_registration_is_not_counted(world: World) -> None:
    world.join()
    for number in range(2 * MANY):
        fail(world, number)
    assert world.core.presence.suspicions.records == {}


@pytest.mark.parametrize("code", ["worker_lost", "stalled", "quarantined"])
def test_what_the_hub_finds_itself_is_not_a_workers_to_say(world: World, code: str) -> None:
    lease = world.running()
    world.say(Failed(lease=lease, code=code, retryable=False))
    problem = world.stored().problem
    assert problem is not None and problem.code == "worker_error"


# --- who tries next


def failed_on(world: World, worker: str, effects: list[Effect]) -> None:
    """The worker takes what it was offered, and it fails there at once."""
    world.say(Failed(lease=world.accept(effects, worker).lease, code="crashed"), worker)


def offered_to(world: World, id: str = "task-1") -> str | None:
    """Who is offered this task now."""
    session_id, _ = world.core.offers.of.get(id, ("", ""))
    return world.core.sessions[session_id].worker if session_id else None


def test_a_task_that_failed_is_tried_on_another_worker(world: World) -> None:
    """The broken one is free at once, and freer than the other."""
    world.join("w1", slots=2)
    failed_on(world, "w1", world.submit())
    world.join("w2")
    world.wait(RULES.backoff_s[0])
    assert offered_to(world) == "w2"


def test_a_task_waits_for_another_worker_that_is_busy_but_not_for_ever(world: World) -> None:
    world.join("w1")
    failed_on(world, "w1", world.submit())
    world.join("w2", models=["m", "n"])
    lease, until = world.running("other", "w2", model="n"), world.now + RULES.backoff_s[0] + AVOID_S
    while world.now < until:
        assert offered_to(world) is None
        world.say(Status(), "w1")
        world.wait(5.0, renewed={"w2": lease})
    assert offered_to(world) == "w1"


@pytest.mark.parametrize("model", [Model(name="n"), Model(name="m", max_pixels=1)])
def test_a_task_is_tried_again_where_it_failed_if_nobody_else_may_take_it(world: World, model: Model) -> None:
    world.join("w1")
    failed_on(world, "w1", world.submit())
    world.join("w2", models=[model])
    world.wait(RULES.backoff_s[0])
    assert offered_to(world) == "w1"


def test_a_task_that_failed_everywhere_is_tried_anywhere(world: World) -> None:
    world.join("w1")
    failed_on(world, "w1", world.submit())
    world.join("w2")
    failed_on(world, "w2", world.wait(RULES.backoff_s[0]))
    world.wait(RULES.backoff_s[1])
    assert offered_to(world) in {"w1", "w2"}


def test_a_task_does_not_wait_for_another_worker_that_leaves(world: World) -> None:
    world.join("w1")
    failed_on(world, "w1", world.submit())
    world.join("w2", models=["m", "n"])
    world.running("other", "w2", model="n")
    world.wait(RULES.backoff_s[0])
    assert offered_to(world) is None
    world.say(Drain(), "w2")
    assert offered_to(world) == "w1"


def test_where_a_task_failed_is_known_after_a_restart(world: World) -> None:
    world.join("w1")
    failed_on(world, "w1", world.submit())
    again = World()
    again.now, again.ledger.stored = world.now, world.ledger.stored
    again.core.boot([world.stored()], world.core.models.values(), again.now)
    again.join("w1", slots=2)
    again.join("w2")
    again.wait(RULES.backoff_s[0])
    assert offered_to(again) == "w2"


# --- refusals


def refuse(world: World, effects: list[Effect], worker: str = "w1", **report: object) -> list[Effect]:
    lease = world.accept(effects, worker).lease
    return world.say(Failed(lease=lease, code="refused", **report), worker)  # type: ignore[arg-type]


def next_offer(world: World, most: float = 3600.0) -> tuple[float, list[Effect]]:
    """After how many seconds, of at most so many, the worker is offered something again."""
    began = world.now
    while world.now < began + most:
        world.say(Status())
        effects = world.wait(1.0)
        if world.session().offers:
            return world.now - began, effects
    return most, []


def test_a_refused_task_goes_to_another_worker_at_once(world: World) -> None:
    world.join("w1")
    effects = world.submit()
    world.join("w2")
    refuse(world, effects)
    assert (offered_to(world), world.task().attempt) == ("w2", 0)


def test_a_worker_that_refuses_is_asked_again_after_longer_and_longer_pauses(world: World) -> None:
    world.join()
    effects, pauses = world.submit(), []
    for _ in range(7):
        refuse(world, effects)
        pause, effects = next_offer(world)
        pauses.append(pause)
    assert pauses == [30, 60, 120, 240, 480, LONGEST_REFUSAL_S, LONGEST_REFUSAL_S]
    refuse(world, effects, retry_after=1000.0)
    assert next_offer(world)[0] == 1000
    assert world.task().attempt == 0


def test_a_worker_that_always_refuses_fails_the_task_in_the_end(world: World) -> None:
    world.join()
    effects, refusals = world.submit(), 0
    while "task-1" in world.core.tasks:
        refuse(world, effects, detail="busy")
        refusals += 1
        _, effects = next_offer(world)
    assert refusals == REFUSALS + RULES.max_attempts
    assert world.stored().problem == Problem("refused", "busy")


def test_what_one_worker_refuses_takes_nothing_from_the_patience_with_another(world: World) -> None:
    world.join()
    effects = world.submit()
    for _ in range(REFUSALS):
        refuse(world, effects)
        _, effects = next_offer(world)
    world.say(Decline(offer=next(iter(world.session().offers))))
    refuse(world, world.join("w2"), "w2")
    assert world.task().attempt == 0


@pytest.mark.parametrize(("phase", "percent"), [("fetch", 0.1), ("segment", 0.0)])
def test_a_refusal_after_the_first_progress_is_an_attempt(world: World, phase: str, percent: float) -> None:
    lease = world.running()
    world.progress(lease, percent, phase)
    world.say(Failed(lease=lease, code="refused"))
    assert (world.task().attempt, world.task().not_before) == (1, world.now + RULES.backoff_s[0])


def test_a_worker_that_takes_every_task_and_refuses_it_is_paused(world: World) -> None:
    registered(world, "w1")
    for number in range(MILD * MANY):
        assert not world.session().paused
        fail(world, number, code="refused")
    assert world.session().paused
