"""Events are put together when somebody reads them, and say what they would have said at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from hub import topics, views
from hub.announcer import weight
from hub.clock import rfc3339
from hub.effects import Publish
from hub.interface import OfferedModel
from hub.later import Later
from hub.messages import CREATED, DELETED, PROGRESSED, UPDATED, Artifact, Event, Failed, Progress, Result, encode
from hub.task import Attempt, Source
from hub.topics import Topic, Topics
from tests.hub.stage import Stage, assigned, submit
from tests.hub.world import SHA, SOURCE, a_task

AT = "2025-01-31T12:00:00.000Z"
OWNER = 'a"nn\u2028片'


class Eager:
    """A stage whose every event is also put together at once, for the three topics that it goes to."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.publish = stage.runner.announcer.publish
        self.expected: dict[tuple[str, str], list[bytes]] = {}
        stage.runner.announcer.publish = self.both  # type: ignore[method-assign]

    def both(self, effect: Publish) -> None:
        task, runner, wall = effect.task, self.stage.runner, self.stage.clock.wall()
        own = runner.topic(task.id)
        data: dict[str, Any] = {"id": task.id}
        if effect.type == PROGRESSED:
            data = views.progressed(task)
        elif effect.type != DELETED:
            cursor = f"{own.epoch}:{own.offset + 1}"
            data = runner.views.task(task, wall, runner.core.outlook(task), cursor)
        self.publish(effect)
        of_owner = {"owner": task.owner} | data
        mine, everybody = runner.topics.get("tasks", task.owner), runner.topics.get("admin")
        for topic, each in ((own, data), (mine, data), (everybody, of_owner)):
            event = Event(
                type=effect.type, topic=topic.name, epoch=topic.epoch, offset=topic.offset, at=rfc3339(wall), data=each,
            )
            self.expected.setdefault((topic.name, topic.owner), []).append(encode(event))

    def found(self) -> dict[tuple[str, str], list[bytes]]:
        """What a viewer is given who comes late."""
        return {
            key: [frame.data for frame in topic.history] for key, topic in self.stage.runner.topics.topics.items()
        }


@pytest_asyncio.fixture
async def eager() -> AsyncIterator[Eager]:
    stage = Stage()
    await stage.start()
    stage.core.models["m"] = OfferedModel("m", "", "")
    stage.runner.topics.get("admin")
    yield Eager(stage)
    await stage.runner.stop()


async def test_p9_what_is_read_late_is_what_was_told_to_the_byte(eager: Eager) -> None:
    """The tasks have moved on, the wall clock and the outlook are others, and links have another end by then."""
    stage = eager.stage
    transport = await stage.join()
    assign = await assigned(stage, transport)
    video = replace(SOURCE, name='片 "of\u2028 a/holiday%.mp4')
    for number in range(2, 5):
        await submit(stage, f"task-{number}", owner=OWNER, video=video, background=SOURCE, options={"a": 1.5, "b": "片"})
    for percent in (10, 55.555, 90):
        stage.clock.time += 7.123456
        await stage.say(Progress(lease=assign.lease, phase="segment", progress=percent, message="片 1"))
    result = Result(lease=assign.lease, artifacts=[Artifact(purpose="result", upload_id="upload-1", sha256=SHA)])
    await stage.say(result)
    await stage.settled()
    stage.clock.time += 1800
    assign = await assigned(stage, transport, "task-5")
    await stage.say(Failed(lease=assign.lease, code="bad", retryable=False, detail="\u2028"))
    await stage.runner.carry_out(stage.core.cancel(stage.core.tasks["task-4"], stage.clock.now()))
    stage.runner.publish(Publish(a_task("task-9"), DELETED))
    stage.clock.time += 3 * 3600
    await stage.join("w2", slots=5)
    assert sum(map(len, eager.expected.values())) > 30
    assert eager.found() == eager.expected
    assert eager.found() == eager.expected, "read again"


async def test_an_event_is_put_together_once_for_all_topics_and_only_when_read() -> None:
    made = []

    def make() -> dict[str, str]:
        made.append(1)
        return {"id": "1"}

    data, home = Later(make, 100), Topics("e")
    for name in "ab":
        home.get(name).publish(UPDATED, data, AT)
    assert made == []
    read = [home.get(name).history[0].data for name in "abab"]
    assert made == [1] and read[0] == read[2] and read[0].replace(b'"a"', b'"b"').replace(b"e.1", b"e.2") == read[1]


def account(topic: Topic) -> tuple[int, int]:
    """The bytes that a topic counts, and those of what it has."""
    return topic.bytes, sum(frame.size for frame in topic.history)


def test_p14_what_is_not_read_yet_counts_too_and_what_is_read_as_it_is() -> None:
    topic = Topic("t", "e")
    for _ in range(3):
        topic.publish(UPDATED, Later(lambda: "x" * 1000, 300), AT)
    assert account(topic) == (900, 900) and topic.home.bytes == 900
    read = len(topic.history[1].data)
    assert read > 1000 and account(topic) == (600 + read, 600 + read) and topic.home.bytes == 600 + read


def test_p14_a_history_that_grows_as_it_is_read_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "HISTORY_BYTES", 5000)
    topic = Topic("t", "e")
    for number in range(1, 11):
        topic.publish(UPDATED, Later(lambda number=number: f"{number:1000}", 400), AT)  # type: ignore[misc]
    frames = topic.since("e:0")
    assert frames is not None
    read = [frame.data for frame in frames]
    assert [b" %d\"" % number in data for number, data in enumerate(read, 1)] == [True] * 10, "replay is complete"
    assert 2 < len(topic.history) < 5 and topic.bytes <= 5000
    assert account(topic)[0] == account(topic)[1] == topic.home.bytes


def test_p14_reading_what_was_dropped_meanwhile_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Topics("e")
    first, second = home.get("a"), home.get("b")
    for topic in (first, second):
        for _ in range(5):
            topic.publish(UPDATED, Later(lambda: "x" * 1000, 300), AT)
    frames = list(first.history)
    monkeypatch.setattr(topics, "ALL_BYTES", 3000)
    for frame in frames:
        assert len(frame.data) > 1000
    assert first.bytes == 0 == len(first.history)
    assert account(second)[0] == account(second)[1] == home.bytes <= 3000


def test_p14_a_record_that_holds_much_counts_for_more() -> None:
    light = weight(a_task())
    assert weight(a_task(message="x" * 2000)) >= light + 2000
    assert weight(a_task(options={"a": 1, "b": "x"})) > light
    assert weight(a_task(attempts=(Attempt(1, "w", "bad", "x" * 2000, 1.0),))) > light + 2000


async def test_the_bytes_of_a_created_event_are_near_its_estimate(eager: Eager) -> None:
    """What waits to be read counts for no less than what it becomes."""
    video = Source("v" * 36, "a video of a usual name.mp4", 4_000_000, SHA, "video/mp4", SOURCE.facts)
    eager.stage.runner.publish(Publish(a_task(video=video), CREATED))
    [frame] = eager.stage.runner.topic("task-1").history
    assert len(frame.data) <= weight(a_task(video=video))
