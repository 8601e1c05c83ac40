"""What the runner lets the world see: events and views, results looked into, connections closed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub import verify
from hub.presence import CLOSE_REPLACED
from hub.effects import Close, Publish, Save, Send
from hub.errors import Unavailable
from hub.interface import register
from hub.messages import ASSIGNED, COMPLETED, CREATED, DELETED, PROGRESSED, RELEASED, UPDATED, Cancel, Progress, Result
from hub.task import State, Task

from .stage import Stage, Transport, assigned, submit
from .world import ARTIFACT, NO_MATCH, RULES, START, a_result, a_task


# --- what viewers see


async def test_a_task_is_seen_by_its_own_topic_and_its_owners(stage: Stage) -> None:
    transport = await stage.join()
    own, mine, others = stage.watch("task:task-1", ""), stage.watch(), stage.watch(owner="bob")
    assign = await assigned(stage, transport)
    stage.clock.time += 2
    await stage.say(Progress(lease=assign.lease, phase="segment", progress=12.345))
    events = await own.see(CREATED, ASSIGNED, PROGRESSED)
    await mine.see(CREATED, ASSIGNED, PROGRESSED)
    assert others.types == []
    assert events[2].data == {
        "id": "task-1", "attempt": 1, "version": 4, "phase": "segment", "progress": 12.35, "message": "",
    }


async def test_p10_the_cursor_in_an_event_is_that_of_the_event(stage: Stage) -> None:
    watcher = stage.watch("task:task-1", "")
    await stage.join()
    await submit(stage)
    [event] = await watcher.see(CREATED)
    assert event.data["cursor"] == f"{event.epoch}:{event.offset}"
    assert stage.runner.view(a_task())["cursor"] == event.data["cursor"]


async def test_a_view_shows_what_was_released_not_what_is_on_its_way(stage: Stage) -> None:
    await stage.join()
    await submit(stage)
    stage.store.hold()
    done = stage.runner.decide(stage.core.cancel(a_task(), stage.clock.now()))
    await stage.store.entered.wait()
    assert stage.runner.view(a_task())["state"] == "waiting"
    stage.store.open.set()
    await done
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None
    assert stage.runner.view(stored)["state"] == "cancelled"
    assert stage.runner.shown.open == {}


async def test_p10_what_was_read_before_a_task_ended_is_not_shown_after_it(stage: Stage) -> None:
    await stage.join()
    await submit(stage)
    read = await stage.store.get(Task, "task-1")
    assert read is not None
    await stage.runner.decide(stage.core.cancel(read, stage.clock.now()))
    assert stage.runner.view(read)["state"] == "cancelled"


async def test_a_deletion_says_only_the_id(stage: Stage) -> None:
    watcher = stage.watch()
    await stage.runner.carry_out([Publish(a_task(state=State.FAILED), DELETED)])
    [event] = await watcher.see(DELETED)
    assert event.data == {"id": "task-1"}


# --- results


async def test_a_result_is_looked_into_and_completes_the_task(stage: Stage) -> None:
    transport = await stage.join()
    watcher = stage.watch()
    assign = await assigned(stage, transport)
    media = a_result(version=1)
    await stage.store.commit([Save(media, 0)])
    stage.verdicts = [[replace(media, version=2)]]
    stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await watcher.see(CREATED, ASSIGNED, COMPLETED)
    assert transport.kinds[-1] == "ResultAck"
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None and stored.state is State.COMPLETED


async def test_a_result_that_does_not_match_is_released(stage: Stage) -> None:
    transport, watcher = await stage.join(), stage.watch()
    assign = await assigned(stage, transport)
    stage.verdicts = [NO_MATCH]
    stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await watcher.see(CREATED, ASSIGNED, RELEASED)
    assert transport.kinds[-2:] == ["Problem", "ResultAck"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks into a result follow each other without a pause."""
    monkeypatch.setattr(verify, "PAUSE_S", 0)


async def test_p12_a_lost_database_while_looking_into_a_result_costs_no_attempt(
    stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await stage.join()
    assign = await assigned(stage, transport)
    watcher = stage.watch()
    await stage.store.commit([Save(a_result(version=1), 0)])
    stage.verdicts = [*[Unavailable("away")] * 100, [a_result(version=2)]]
    stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await watcher.see(COMPLETED)
    assert caplog.text.count("verification_delayed") == 1, "said once, however often it is tried"
    caplog.clear()


async def test_a_result_that_could_not_be_looked_into_at_first_is_accepted(
    stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await stage.join()
    assign = await assigned(stage, transport)
    watcher = stage.watch()
    await stage.store.commit([Save(a_result(version=1), 0)])
    stage.verdicts = [*[RuntimeError("a bug")] * (verify.LOOKS - 1), [a_result(version=2)]]
    stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await watcher.see(COMPLETED)
    caplog.clear()


async def test_a_result_that_can_never_be_looked_into_holds_its_task_not_for_ever_and_blames_no_worker(
    stage: Stage, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    stage.core.know(register("w1", "token", START), START)
    transport = await stage.join()
    for number in range(RULES.suspect_after):
        stage.clock.time += 1
        assign = await assigned(stage, transport, f"task-{number}")
        stage.verdicts = [RuntimeError("a bug")] * verify.LOOKS
        await stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
        await stage.settled()
        assert stage.core.tasks[f"task-{number}"].attempts[0].code == "verification_failed"
    assert caplog.text.count("verification_failed") == RULES.suspect_after
    caplog.clear()
    session = stage.core.session_of("w1")
    assert session is not None and not session.paused


async def test_a_result_for_a_task_that_another_process_has_moved_changes_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    transport, watcher = await stage.join(), stage.watch()
    assign = await assigned(stage, transport)
    stored = await stage.store.get(Task, "task-1")
    assert stored is not None
    cancelled = replace(stored, state=State.CANCELLED, lease=None, version=stored.version + 1)
    await stage.store.elsewhere().commit([Save(cancelled, stored.version)])
    stage.say(Result(lease=assign.lease, artifacts=[ARTIFACT]))
    await watcher.see(CREATED, ASSIGNED, UPDATED)
    await stage.settled()
    assert await stage.store.get(Task, "task-1") == cancelled
    assert [record.message.split()[0] for record in caplog.records if record.levelname != "INFO"] == [
        "event='task_moved_elsewhere'",
    ]
    caplog.clear()


# --- connections


async def test_a_closed_session_closes_its_connection(stage: Stage) -> None:
    first = await stage.join()
    second = await stage.join(instance="i2")
    assert [code for code, _ in first.closed] == [CLOSE_REPLACED]
    assert second.closed == []
    assert list(stage.runner.transports.values()) == [second]


async def test_closing_a_session_without_a_connection_is_harmless(stage: Stage) -> None:
    await stage.runner.carry_out([Close("nobody", 1001, "bye"), Send("nobody", Cancel(lease="x"))])
    assert stage.runner.transports == {}


async def test_p15_everybody_is_told_that_the_hub_restarts(stage: Stage) -> None:
    worker, viewer = await stage.join(), Transport()
    stage.runner.viewers.add(viewer)
    stage.runner.close_sockets()
    assert [connection.closed for connection in (worker, viewer)] == [[(1012, "the hub restarts")]] * 2
