"""What breaks around the core and the runner, each fault by its number: workers, clocks, commits, another hub."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from hub import runner as running
from hub.effects import Delete, Outcome, Save, Verify
from hub.errors import Conflict, Unavailable
from hub.messages import (
    ASSIGNED, COMPLETED, CREATED, FAILED, PROGRESSED, RELEASED, Accept, Failed, LeaseLost, Offer, Progress, Result,
    ResultAck, Status,
)
from hub.session import Phase
from hub.task import Lease, State, Task

from .stage import SlowStore, Stage, assigned
from .test_core_time import reborn
from .world import ARTIFACT, RULES, START, World, a_result, a_task, only, published, saved_tasks, sent


@pytest.fixture
def world() -> World:
    return World()


# --- commits


class Deceiving(SlowStore):
    """Does what it is asked for, and says that it did not, at the commits in `lies`."""

    def __init__(self, lies: set[int]) -> None:
        super().__init__()
        self.lies, self.asked = lies, 0

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        outcomes = await super().commit(changes)
        self.asked += 1
        if self.asked in self.lies:
            raise Unavailable("the answer is lost")
        return outcomes


@pytest.mark.parametrize("lies", [*({number} for number in range(2, 7)), set(range(1, 20, 2))], ids=str)
async def test_fault_3_done_but_told_failed_at_each_commit(
    lies: set[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A task's whole life, one commit of which, after the start's, is done and told failed; then every other one."""
    monkeypatch.setattr(running, "TICK_S", 3600)
    stage = Stage()
    stage.store = stage.runner.store = store = Deceiving(lies)
    await stage.start()
    transport, watcher = await stage.join(), stage.watch()
    assign = await assigned(stage, transport)
    stage.clock.time += 2
    await stage.say(Progress(lease=assign.lease, phase="segment", progress=50))
    await stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await stage.settled()
    await stage.runner.decide([])
    assert [event for event in watcher.types if event != PROGRESSED] == [CREATED, ASSIGNED, COMPLETED]
    assert transport.kinds == ["Welcome", "Offer", "Assign", "ResultAck"]
    [task] = await store.page(Task, 10)
    assert (task.state, task.attempt) == (State.COMPLETED, 1)
    assert store.asked >= 5, "the lies were told"
    assert {record.message.split()[0] for record in caplog.records if record.levelname == "ERROR"} == {
        "event='commit_failed'",
    }
    caplog.clear()
    await stage.runner.stop()


# --- workers


@pytest.mark.parametrize("moment", ["claimed", "at work", "after the result"])
def test_fault_8_a_worker_vanishes(world: World, moment: str) -> None:
    for attempt in range(1, RULES.max_attempts + 1):
        worker = "w1"
        lease = world.running() if attempt == 1 else world.accept(world.join(instance=f"i{attempt}"), worker).lease
        assert world.task().attempt == attempt
        if moment != "claimed":
            world.progress(lease, 40)
        if moment == "after the result":
            [verify] = world.result(lease)
            assert isinstance(verify, Verify)
            world.core.detach(world.session().id, world.now)
            assert published(world.probed(verify)) == [("task-1", COMPLETED)], "the result was here before it vanished"
            return
        world.core.detach(world.session().id, world.now)
        events = [event for event in published(world.wait(RULES.lease_s + 5)) if event[1] != PROGRESSED]
        if attempt == RULES.max_attempts:
            assert events == [("task-1", FAILED)]
        else:
            assert events == [("task-1", RELEASED)]
    problem = world.stored().problem
    assert problem is not None and problem.code == "worker_lost"


def test_fault_9_a_zombie_comes_back_with_a_result_when_another_is_at_it(world: World) -> None:
    zombie = world.running()
    world.core.detach(world.session().id, world.now)
    world.join("w2")
    second = world.accept(world.wait(RULES.lease_s), "w2").lease
    world.join("w1", running=[zombie])
    assert only(world.result(zombie), LeaseLost).lease == zombie
    assert only(world.progress(zombie, 99), LeaseLost).lease == zombie
    assert (world.task().worker, world.task().progress) == ("w2", 0.0)
    assert published(world.complete(second, "w2")) == [("task-1", COMPLETED)]
    assert only(world.result(zombie), LeaseLost).lease == zombie
    assert (world.stored().worker, world.stored().attempt) == ("w2", 2)


def test_fault_10_a_result_comes_twice_at_once_and_after_a_restart(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    assert isinstance(verify, Verify)
    assert world.result(lease) == [], "it is being looked into"
    assert published(world.probed(verify)) == [("task-1", COMPLETED)]
    assert sent(world.result(lease)) == [ResultAck(lease=lease)]
    again = reborn(world)
    again.join(running=[lease])
    assert only(again.result(lease), LeaseLost).lease == lease
    assert again.ledger.completed == {"task-1": 1}


async def test_fault_10_a_result_comes_through_two_hubs(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The other hub took the same report: whoever is second finds the version gone."""
    transport, watcher = await stage.join(), stage.watch()
    assign = await assigned(stage, transport)
    other = Stage()
    other.store.collections = stage.store.collections
    other.store.writer = "another hub"
    await other.start()
    other_transport = await other.join(running=[assign.lease])
    for hub in (other, stage):
        hub.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
        await hub.settled()
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None and stored.state is State.COMPLETED
    assert other_transport.kinds[-1] == "ResultAck"
    assert COMPLETED not in watcher.types, "the second one did not complete it again"
    assert stage.core.tasks == other.core.tasks == {}
    await other.runner.stop()
    caplog.clear()


def test_fault_11_a_worker_that_is_alive_and_gets_no_further_loses_the_task_and_at_last_it_fails(world: World) -> None:
    lease, seen = world.running(), list[str]()
    for worker in ("w1", "w2"):
        world.progress(lease, 10, worker=worker)
        events = {code for _, code in published(world.wait(RULES.stall_s, 4.0, {worker: lease}))}
        assert events <= {PROGRESSED}, "within its time a slow one is left alone"
        world.join("w2")
        effects = world.wait(5.0)
        seen += [code for _, code in published(effects)]
        if worker == "w1":
            lease = world.accept(effects, "w2").lease
    problem = world.stored().problem
    assert seen == [RELEASED, FAILED] and problem is not None
    assert problem.code == "quarantined" and "no progress on w2" in problem.detail


def test_fault_12_a_flood_of_reports_is_merged(world: World) -> None:
    """A thousand reports in a second, forwards and backwards: few writes, few events, and no step back."""
    lease = world.running()
    saves, shown = 0, 0
    for number in range(1000):
        world.now += 0.001
        effects = world.progress(lease, (number * 37) % 100)
        saves += len(saved_tasks(effects))
        shown += published(effects).count(("task-1", PROGRESSED))
    assert saves <= 2 and shown <= 5
    assert world.task().progress == 99


def test_fault_12_a_report_about_a_task_of_another_changes_nothing(world: World) -> None:
    lease = world.running()
    world.join("w2")
    for lie in (
        Progress(lease=lease, phase="segment", progress=99), Failed(lease=lease, code="made_up"),
        Result(lease=lease, artifacts=[ARTIFACT]),
    ):
        assert only(world.say(lie, "w2"), LeaseLost).lease == lease
    assert (world.task().worker, world.task().progress) == ("w1", 0.0)


# --- the hub's own clock and processor


@pytest.mark.parametrize("seconds", [60.0, 3600.0, 10 * 365 * 86400.0])
def test_fault_21_a_hub_that_was_paused_blames_nobody(world: World, seconds: float) -> None:
    lease = world.running()
    world.wait(1)
    assert published(world.pause(seconds)) == []
    assert world.session().phase is Phase.READY
    world.progress(lease, 50)
    assert published(world.complete(lease)) == [("task-1", COMPLETED)]
    assert world.stored().attempt == 1


def test_fault_32_ticks_that_come_late_end_no_lease_early(world: World) -> None:
    """On a starved processor each tick and each renewal comes seconds late."""
    lease = world.running()
    late = RULES.pause_s - 0.5
    events = published(world.wait(5 * RULES.lease_s, late, renewed={"w1": lease}))
    assert events == [] and world.task().attempt == 1


# --- another hub


@pytest.mark.parametrize("deed", ["reaping", "assigning", "finishing"])
async def test_fault_29_a_hub_that_slept_between_reading_and_writing_changes_nothing(
    stage: Stage, deed: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await stage.join()
    if deed == "assigning":
        await stage.runner.decide(stage.core.submit(a_task(), stage.clock.now()))
        offer = transport.written[-1]
        assert isinstance(offer, Offer)
    else:
        assign = await assigned(stage, transport)
    before = await stage.store.get(Task, "task-1")
    assert before is not None
    moved = replace(
        before, state=State.PROCESSING, lease=Lease("theirs", "w9", START), worker="w9", attempt=before.attempt + 1,
        version=before.version + 1,
    )
    await stage.store.elsewhere().commit([Save(moved, before.version)])
    if deed == "assigning":
        late = stage.say(Accept(offer=offer.offer))
    elif deed == "finishing":
        late = stage.runner.decide(stage.core.probed("task-1", assign.lease, [a_result()], stage.clock.now()))
    else:
        stage.core.ticked_at = None
        stage.clock.time += RULES.lease_s
        late = stage.runner.decide(stage.core.tick(stage.clock.now()))
    with pytest.raises(Conflict):
        await late
    await stage.settled()
    assert await stage.store.get(Task, "task-1") == moved
    assert {lease for lease in stage.core.leases} == {"theirs"}
    told = set(transport.kinds) - ({"Assign"} if deed != "assigning" else set())
    assert told <= {"Welcome", "Offer"}
    caplog.clear()


async def test_fault_31_a_second_stop_is_harmless(stage: Stage) -> None:
    await stage.join()
    async with asyncio.timeout(5):
        await asyncio.gather(stage.runner.stop(), stage.runner.stop())
    await stage.runner.stop()
    assert stage.runner.duties == set() and stage.say(Status()) is not None
