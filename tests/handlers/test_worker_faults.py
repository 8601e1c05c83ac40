"""Workers that lie on the wire or speak on two lines: real sockets, and the hub none the worse for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress

import pytest
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed

from handlers.worker_line import Line
from hub.interface import Interface
from hub.messages import Hello, Model, Problem, Renew
from tests.handlers.fake_worker import worker
from tests.handlers.running import Api, Place, fine, one_loop, running_hub
from tests.hub.stage import Transport

pytestmark = [one_loop, pytest.mark.mongo]

LIES = [
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":101,"n":N}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":NaN,"n":N}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":"half","n":N}',
    '{"type":"progress","lease":"LEASE","phase":"segment","progress":-1,"n":N}',
    '{"type":"result","lease":"LEASE","artifacts":"all","n":N}',
    '{"type":"failed","lease":"LEASE","code":"","n":N}',
]


@pytest.mark.usefixtures("fast")
async def test_fault_12_lies_are_answered_and_a_flood_of_bytes_ends_the_connection(api: Api) -> None:
    person = await api.user()
    async with worker(api) as maker:
        task = await person.create(maker.model)
        assign = await maker.take()
        for lie in LIES:
            await maker.send(lie.replace("LEASE", assign.lease).replace("N}", f"{maker.number + 1}}}"))
            assert (await maker.expect(Problem)).code == "bad_message"
        assert (await person.get(f"/api/tasks/{task['id']}"))["progress"] == 0
        with suppress(ConnectionClosed):
            await maker.send("x" * 17_000_000)
        assert (await maker.closed())[0] in (1009, 1006), "too big, or cut off before that could be read"
        welcome = await maker.join(running=[assign.lease])
        assert welcome.resumed
        await maker.finish(assign)
        done = await person.get(f"/api/tasks/{task['id']}")
        assert (done["state"], done["attempt"]) == ("completed", 1)


async def test_happened_a_renewal_over_the_old_line_counts_once_on_the_one_that_has_the_baton(api: Api) -> None:
    name, _ = await api.interface()
    interface = await api.hub.rooms.store.get(Interface, name)
    assert interface is not None
    old, new = (Line(api.hub.rooms, interface, Transport()) for _ in range(2))
    hello = Hello(n=1, protocol=1, worker=name, instance="i1", models=[Model(name="m-lines")])
    old.take(hello)
    new.take(hello)
    session = new.known()
    assert old.session == new.session and not old.stands and new.stands
    renewal = Renew(n=2, lease="some-lease")
    old.take(renewal)
    assert session.seen == 1, "the old line has lost the baton"
    new.take(renewal)
    new.take(renewal)
    new.take(replace(renewal, n=3))
    assert session.seen == 3
    await api.hub.rooms.runner.decide([])
    assert [type(message).__name__ for message in session.outbox].count("LeaseLost") == 2
    new.left()
    fine(await api("GET", "/livez"))


@pytest.mark.chaos
async def test_p8_fault_32_a_starved_processor_ends_no_lease(place: Place) -> None:
    """Twice as many busy processes as there usually are processors, for several leases' time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        async with running_hub(place, LEASE_SECONDS="5") as hub:
            api = Api(hub, place.folder)
            person = await api.user()
            async with worker(api) as maker:
                task = await person.create(maker.model)
                assign = await maker.take()
                for percent in range(20):
                    await maker.tell(assign, percent)
                    await asyncio.sleep(1)  # time itself is what this is about
                await maker.finish(assign)
                done = await person.get(f"/api/tasks/{task['id']}")
                assert (done["state"], done["attempt"]) == ("completed", 1)
            api.close()
    finally:
        for process in busy:
            process.kill()
            process.wait()
