"""Two hubs on one database, each with workers and users of its own: what one does the other finds out in time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from hub import runner as running
from hub.effects import Delete, Save
from hub.errors import Conflict
from hub.interface import Interface, register
from hub.messages import Accept, Assign, Cancel, Message, Offer, Progress, Renew, Status
from hub.task import Lease, State, Task

from .stage import Stage, Transport, assigned, decided
from .world import RULES, START, a_task


@dataclass
class Hubs:
    """`here` and `there` share the database and the time; what they log of each other's moves is not looked at."""

    here: Stage
    there: Stage

    async def wait(self, seconds: int) -> None:
        """Time passes for both, each second a tick."""
        for _ in range(seconds):
            self.here.clock.time += 1
            for hub in (self.here, self.there):
                with suppress(Conflict):  # an end of another's lease, which the store refuses
                    await hub.runner.decide(hub.core.tick(hub.clock.now()))
                await hub.settled()

    async def stored(self, id: str = "task-1") -> Task:
        task = await self.here.store.get(Task, id)
        assert task is not None
        return task


@pytest.fixture
async def hubs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Hubs]:
    """One hub that is started, and one that a test starts when there is something to read."""
    monkeypatch.setattr(running, "TICK_S", 3600)
    caplog.set_level(logging.ERROR, "hub.elsewhere")
    here = Stage("here")
    there = Stage("there", here)
    there.store = there.runner.store = here.store.elsewhere()  # type: ignore[assignment]
    await here.start()
    yield Hubs(here, there)
    for hub in (here, there):
        await hub.runner.stop()


async def at_work(hubs: Hubs) -> tuple[Transport, Assign]:
    """A worker here that has a task; the other hub has read that."""
    transport = await hubs.here.join()
    assign = await assigned(hubs.here, transport)
    hubs.here.core.session_of("w1").untold.clear()  # type: ignore[union-attr]
    await hubs.there.start()
    return transport, assign


async def speak(hubs: Hubs, message: Message) -> None:
    """The worker's next word, which the store refuses since somebody else was first."""
    hubs.here.clock.time += 2
    with pytest.raises(Conflict):
        await hubs.here.say(message)
    await hubs.here.settled()


async def test_p7_a_task_that_is_cancelled_through_another_hub_is_called_off(hubs: Hubs) -> None:
    transport, assign = await at_work(hubs)
    await hubs.there.runner.carry_out(hubs.there.core.cancel(await hubs.stored(), START))
    await speak(hubs, Progress(lease=assign.lease, phase="segment", progress=50.0))
    assert transport.kinds[-1] == "Cancel"
    await decided(hubs.here, "task-2")
    assert "Offer" not in transport.kinds[transport.kinds.index("Cancel"):], "it has not stopped yet"
    await hubs.here.say(Status(slots_free=1))
    assert transport.kinds[-2:] == ["Cancel", "Offer"]


@pytest.mark.parametrize("gone", [True, False])
async def test_who_works_on_what_was_given_to_somebody_else_or_deleted_is_told_so(hubs: Hubs, gone: bool) -> None:
    transport, assign = await at_work(hubs)
    moved = replace(await hubs.stored(), lease=Lease("other", "w9", START + 50), worker="w9", version=9)
    await hubs.there.store.commit([Delete(Task, "task-1") if gone else Save(moved, 2)])
    await speak(hubs, Progress(lease=assign.lease, phase="segment", progress=50.0))
    last = transport.written[-1]
    assert isinstance(last, Cancel) and last.lease == assign.lease
    assert hubs.here.core.session_of("w1").free == 0  # type: ignore[union-attr]


async def test_who_holds_the_lease_that_is_stored_is_told_nothing(hubs: Hubs) -> None:
    transport, assign = await at_work(hubs)
    stored = await hubs.stored()
    await hubs.there.store.commit([Save(replace(stored, message="x", version=9), stored.version)])
    await speak(hubs, Progress(lease=assign.lease, phase="segment", progress=50.0))
    assert transport.kinds == ["Welcome", "Offer", "Assign"]
    assert hubs.here.core.lease_of(assign.lease).id == "task-1"


async def test_p8_a_lease_of_another_hubs_worker_lasts_as_long_as_is_stored(hubs: Hubs) -> None:
    transport, assign = await at_work(hubs)
    await hubs.wait(int(RULES.lease_s) - 2)
    await hubs.here.say(Renew(lease=assign.lease))
    await hubs.wait(int(RULES.lease_s) - 2)
    assert (await hubs.stored()).state is State.PROCESSING
    assert transport.kinds == ["Welcome", "Offer", "Assign"]


async def test_p17_what_a_hub_that_died_had_given_away_is_done_within_one_lease(hubs: Hubs) -> None:
    await at_work(hubs)
    transport = await hubs.there.join("w2")
    hubs.here = hubs.there
    await hubs.wait(int(RULES.lease_s) + 1)
    assert transport.kinds == ["Welcome", "Offer"]


async def test_a_hub_blames_no_worker_that_is_at_another(hubs: Hubs) -> None:
    """Leases of tasks that run there seem to end here, again and again, since renewals are heard there alone."""
    await hubs.here.store.commit([Save(register("w1", "token", START), 0)])
    hubs.here.core.know(register("w1", "token", START), START)
    transport = await hubs.here.join(slots=9)
    leases = []
    for number in range(9):
        leases.append((await assigned(hubs.here, transport, f"task-{number}")).lease)
        hubs.here.clock.time += 1
    await hubs.there.start()
    for _ in range(2 * int(RULES.lease_s / RULES.renew_s)):
        await hubs.wait(int(RULES.renew_s))
        for lease in leases:
            await hubs.here.say(Renew(lease=lease))
    service = await hubs.here.store.get(Interface, "w1")
    assert service is not None and not service.paused
    assert set(leases) == set(hubs.here.core.leases)


async def test_p7_a_deletion_does_not_take_a_task_that_another_hub_has_set_going_again(hubs: Hubs) -> None:
    await hubs.here.store.commit([Save(a_task(state=State.FAILED, ended_at=START), 0)])
    await hubs.there.start()
    read = await hubs.stored()
    transport = await hubs.here.join()
    await hubs.here.runner.carry_out(hubs.here.core.retry(read, START))
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    await hubs.here.say(Accept(offer=offer.offer))
    with pytest.raises(Conflict):
        await hubs.there.runner.carry_out(hubs.there.core.delete(read))
    await hubs.there.settled()
    assert (await hubs.stored()).state is State.PROCESSING
    assert hubs.there.core.tasks["task-1"].worker == "w1", "and now it is known there"
