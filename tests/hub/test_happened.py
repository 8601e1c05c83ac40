"""What has happened to others who built such a hub, and must not happen here."""

from __future__ import annotations

import asyncio

import pytest

from hub.effects import Close
from hub.messages import (
    ASSIGNED, CANCELLED, COMPLETED, CREATED, FAILED, PROGRESSED, RELEASED, Accept, Drain, Failed, LeaseLost, Offer,
    Renew, Status,
)
from hub.presence import CLOSE_GONE
from hub.task import State

from .stage import Stage, Transport, decided
from .test_core_time import reborn
from .world import RULES, World, only, published, sent


@pytest.fixture
def world() -> World:
    return World()


# --- messages that do not arrive


async def test_happened_a_write_that_fails_after_the_server_said_delivered(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            raise ConnectionResetError("the socket is gone")

    await stage.join("w1")
    stage.runner.transports[stage.core.by_worker["w1"]] = Broken()
    await decided(stage)
    second = await stage.join("w2")
    stage.core.tick(stage.clock.now())
    for _ in range(10):
        stage.clock.time += 1
        await stage.runner.decide(stage.core.tick(stage.clock.now()))
    assert [message.task for message in second.written if isinstance(message, Offer)][:1] == ["task-1"]
    assert "effect_failed" in caplog.text
    caplog.clear()


async def test_happened_a_database_hiccup_during_a_heartbeat(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    transport = await stage.join()
    stage.store.away = True
    waiting = decided(stage)
    said = [stage.say(Status(slots_free=1)) for _ in range(3)]
    stage.clock.time += RULES.heartbeat_s
    said.append(stage.say(Status(slots_free=1)))
    assert transport.closed == [] and not waiting.done()
    stage.store.away = False
    async with asyncio.timeout(5):
        await asyncio.gather(waiting, *said)
    assert transport.closed == [] and transport.kinds == ["Welcome", "Offer"]
    caplog.clear()


def test_happened_three_missed_heartbeats_in_a_row_end_the_session(world: World) -> None:
    world.join()
    session = world.session()
    assert not [effect for effect in world.wait(3 * RULES.heartbeat_s) if isinstance(effect, Close)]
    [close] = [effect for effect in world.wait(1) if isinstance(effect, Close)]
    assert (close.session, close.code) == (session.id, CLOSE_GONE)


# --- workers that stop, slow down, or never were


def test_happened_a_worker_drains_and_its_heartbeats_stop(world: World) -> None:
    """Its task lives on for as long as the lease is renewed; it gets no new one."""
    lease = world.running()
    world.say(Drain())
    assert published(world.wait(4 * RULES.heartbeat_s, 4, renewed={"w1": lease})) == []
    assert not any(isinstance(message, Offer) for message in sent(world.submit("task-2")))
    assert published(world.complete(lease)) == [("task-1", COMPLETED)]


def test_happened_a_job_shows_as_active_for_ever(world: World) -> None:
    """Its worker is gone: the lease ends, the next attempt starts, and the task says why."""
    world.running()
    world.core.detach(world.session().id, world.now)
    world.join("w2")
    effects = world.wait(RULES.lease_s)
    assert published(effects) == [("task-1", RELEASED)]
    assert [attempt.detail for attempt in world.task().attempts] == ["w1 fell silent"]
    assert world.accept(effects, "w2").attempt == 2


def test_happened_a_task_stays_assigned_after_heartbeats_were_lost(world: World) -> None:
    """Nothing of a session outlives it: neither its lease nor its slot."""
    world.running()
    effects = world.wait(max(RULES.lease_s, 3 * RULES.heartbeat_s) + 1)
    assert published(effects) == [("task-1", RELEASED)]
    assert (world.core.leases, world.core.sessions, world.task().worker) == ({}, {}, None)
    world.join(instance="i2")
    assert world.session().free == 0, "it is offered again"


def test_happened_no_worker_at_create_time(world: World) -> None:
    world.join()
    world.core.detach(world.session().id, world.now)
    world.submit()
    assert world.core.outlook(world.task()).blocked_by == "no_worker_for_model"
    assert only(world.join("w2"), Offer).task == "task-1"
    assert world.core.outlook(world.task()).blocked_by is None


def test_happened_a_model_and_a_worker_that_never_meet(world: World) -> None:
    world.join("w1", models=("m",))
    world.join("w2", models=("n",))
    world.core.detach(world.session("w2").id, world.now)
    world.submit(model="n")
    assert published(world.wait(RULES.heartbeat_s)) == []
    assert world.core.outlook(world.task()).blocked_by == "no_worker_for_model"


def test_happened_an_input_that_ends_every_worker(world: World) -> None:
    """After two different ones it is kept from the others, who stay."""
    world.running()
    world.join("w2")
    world.join("w3")
    effects = world.join("w1", instance="i2")
    offered = [session for session in ("w2", "w3") if world.session(session).offers]
    world.accept(effects, offered[0])
    assert published(world.join(offered[0], instance="i2")) == [("task-1", FAILED)]
    problem = world.stored().problem
    assert problem is not None and problem.code == "quarantined"
    assert len(world.core.sessions) == 3 and world.session("w3").usable


def test_happened_a_worker_that_fails_says_so_and_is_free_for_the_next(world: World) -> None:
    lease = world.running()
    effects = world.say(Failed(lease=lease, code="crashed"))
    assert published(effects) == [("task-1", RELEASED)] and world.session().free == 1


# --- one task, two workers


def test_happened_a_long_task_is_run_twice_by_a_timeout(world: World) -> None:
    """Renewals keep it for hours; where they did not arrive, the first one is told, and one result counts."""
    lease, percent = world.running(), 0.0
    for _ in range(20):
        percent += 1
        world.progress(lease, percent)
        events = {code for _, code in published(world.wait(600, 4, renewed={"w1": lease}))}
        assert events <= {PROGRESSED} and world.task().attempt == 1
    world.core.detach(world.session().id, world.now)
    world.join("w2")
    second = world.accept(world.wait(RULES.lease_s), "w2").lease
    assert only(world.result(lease), LeaseLost).lease == lease
    assert published(world.complete(second, "w2")) == [("task-1", COMPLETED)]
    assert world.ledger.completed == {"task-1": 1}


def test_happened_a_renewal_of_the_old_instance_and_one_of_the_new(world: World) -> None:
    """Whoever holds the session is heard, once; the number tells a repeat."""
    lease = world.running()
    ends = world.task().lease
    assert ends is not None
    world.now += 10
    world.say(Renew(lease=lease))
    renewed = world.task().version
    again = Renew(n=world.session().seen, lease=lease)
    assert world.core.receive(world.session().id, again, world.now) == []
    assert world.task().version == renewed


# --- cancels and restarts


def test_happened_a_cancel_of_a_silent_workers_task(world: World) -> None:
    """It is cancelled at once, and the cancel makes nothing last longer."""
    world.running()
    world.core.detach(world.session().id, world.now)
    world.wait(RULES.lease_s / 2)
    heard = world.session().heard_at
    assert published(world.cancel()) == [("task-1", CANCELLED)]
    assert (world.core.leases, world.session().heard_at) == ({}, heard)
    assert max(world.session().stopping.values()) == world.now + RULES.stop_s


def test_happened_a_hub_restarts_in_mid_task(world: World) -> None:
    """The same worker goes on, what is shown is not older than before, and the task can still be cancelled."""
    lease = world.running()
    world.wait(2)
    world.progress(lease, 60)
    shown = world.ledger.shown["task-1"]
    again = reborn(world)
    assert published(again.join(running=[lease])) == []
    assert again.task().version > shown.version and again.task().worker == "w1"
    again.wait(1)
    assert (again.task().progress, again.task().attempt) == (60, 1)
    assert published(again.cancel()) == [("task-1", CANCELLED)]
    assert again.stored().state is State.CANCELLED


async def test_happened_a_viewer_comes_after_the_first_events(stage: Stage) -> None:
    """What it is shown and what it is told next have no gap between them."""
    transport = await stage.join()
    early = stage.watch("task:task-1", "")
    await decided(stage)
    [created] = await early.see(CREATED)
    cursor = stage.runner.topic("task-1").cursor
    assert created.data["cursor"] == cursor
    late = stage.watch("task:task-1", "")
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    await stage.say(Accept(offer=offer.offer))
    [event] = await late.see(ASSIGNED)
    assert f"{event.epoch}:{event.offset - 1}" == cursor
