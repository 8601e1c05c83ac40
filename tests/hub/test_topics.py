"""Live topics: what was missed is told whole or declined, and a slow viewer costs nobody else anything."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import topics
from hub.messages import UPDATED
from hub.subscriber import Subscriber
from hub.topics import HISTORY, HISTORY_BYTES, Frame, Topic, Topics

AT = "2025-01-31T12:00:00.000Z"


def a_topic(events: int = 0) -> Topic:
    topic = Topic("task:1", "e")
    publish(topic, events)
    return topic


def publish(topic: Topic, events: int = 1, data: object = None) -> None:
    for _ in range(events):
        topic.publish(UPDATED, data, AT)


def offsets(frames: list[Frame] | None) -> list[int] | None:
    return None if frames is None else [frame.offset for frame in frames]


def test_p9_events_are_numbered_from_one_without_gaps() -> None:
    topic = a_topic(3)
    assert [frame.offset for frame in topic.history] == [1, 2, 3]
    assert topic.cursor == "e:3"


def test_a_frame_holds_the_envelope_once_encoded() -> None:
    topic = a_topic()
    topic.publish(UPDATED, {"id": "1"}, AT)
    [frame] = topic.history
    assert msgspec.json.decode(frame.data) == {
        "type": UPDATED, "topic": "task:1", "epoch": "e", "offset": 1, "at": AT, "data": {"id": "1"}, "v": 1,
    }


@pytest.mark.parametrize(("cursor", "expected"), [("e:0", [1, 2, 3]), ("e:1", [2, 3]), ("e:3", [])])
def test_p10_a_cursor_is_answered_with_all_that_came_after_it(cursor: str, expected: list[int]) -> None:
    assert offsets(a_topic(3).since(cursor)) == expected


@pytest.mark.parametrize("cursor", [
    "", ":", "e", "e:", "e:x", "e:-1", "e:+1", "e: 1", "e:1.0", "e:4", "e:9223372036854775808", "e:" + "9" * 5000,
    "f:1", ":1", "3", "e:e:1", "e:\u0663", "e:1\n", "E:1",
])
def test_p10_row_111_any_other_cursor_is_declined(cursor: str) -> None:
    assert a_topic(3).since(cursor) is None


def test_p10_an_empty_topic_knows_its_own_beginning() -> None:
    assert offsets(a_topic().since("e:0")) == []
    assert a_topic().since("e:1") is None


def test_p10_the_window_is_a_thousand_events() -> None:
    topic = a_topic(HISTORY + 5)
    assert HISTORY >= 1000
    assert topic.since("e:4") is None
    assert offsets(topic.since("e:5")) == list(range(6, HISTORY + 6))


@given(st.integers(0, HISTORY * 2), st.integers(0, HISTORY * 2))
def test_p10_replay_is_complete_or_declined_never_partial(events: int, offset: int) -> None:
    topic = Topic("t", "e")
    topic.offset = events - min(events, HISTORY + 1)
    publish(topic, events - topic.offset)
    found = offsets(topic.since(f"e:{offset}"))
    if offset > events or events - offset > HISTORY:
        assert found is None
    else:
        assert found == list(range(offset + 1, events + 1))


def test_topics_of_the_same_name_are_apart_for_each_owner() -> None:
    all_topics = Topics("hub")
    publish(all_topics.get("tasks", "ann"))
    assert (all_topics.get("tasks", "ann").offset, all_topics.get("tasks", "bob").offset) == (1, 0)


def test_p10_a_forgotten_topic_comes_back_under_another_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_TOPICS", 2)
    all_topics = Topics("hub")
    first = all_topics.get("task:1")
    publish(first)
    cursor = first.cursor
    for number in range(2, 5):
        all_topics.get(f"task:{number}")
    again = all_topics.get("task:1")
    publish(again, 3)
    assert again is not first
    assert again.since(cursor) is None, "although the new topic has an event of that number too"


def test_p14_topics_are_bounded_and_the_longest_unused_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_TOPICS", 3)
    all_topics = Topics("hub")
    for number in (1, 2, 3, 1, 4, 5):
        all_topics.get(f"task:{number}")
    assert [name for name, _ in all_topics.topics] == ["task:1", "task:4", "task:5"]


def test_a_topic_with_viewers_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_TOPICS", 2)
    all_topics = Topics("hub")
    watched = all_topics.get("task:1")
    Subscriber(lambda: None).subscribe(watched)
    for number in range(2, 6):
        all_topics.get(f"task:{number}")
    assert all_topics.get("task:1") is watched


def test_a_topic_can_be_made_while_all_others_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_TOPICS", 2)
    all_topics = Topics("hub")
    for number in range(4):
        Subscriber(lambda: None).subscribe(all_topics.get(f"task:{number}"))
    assert all_topics.get("task:9").name == "task:9"
    assert len(all_topics.topics) == 5


def test_p14_a_history_is_bounded_by_its_bytes_and_all_of_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    all_topics = Topics("hub")
    first, second = all_topics.get("a"), all_topics.get("b")
    publish(first, 10, "x" * (HISTORY_BYTES // 4))
    assert (len(first.history), first.offset, first.bytes) == (3, 10, sum(len(frame.data) for frame in first.history))
    assert first.since(f"{first.epoch}:6") is None
    assert offsets(first.since(f"{first.epoch}:7")) == [8, 9, 10]
    monkeypatch.setattr(topics, "ALL_BYTES", first.bytes + 10_000)
    publish(second, 3, "x" * 5_000)
    assert (len(first.history), len(second.history)) == (0, 3)
    assert all_topics.bytes == second.bytes
    assert offsets(first.since(first.cursor)) == [], "where it stands is still known"
    assert first.since(f"{first.epoch}:9") is None


def test_p10_the_cursors_of_many_topics_are_one_cursor() -> None:
    all_topics = Topics("hub")
    first, second, third = (all_topics.get(name) for name in "abc")
    for topic in (first, second):
        publish(topic, 3)
    joint = f"{second.epoch}:1,{first.epoch}:2"
    assert (offsets(first.since(joint)), offsets(second.since(joint)), third.since(joint)) == ([3], [2, 3], None)


def test_p10_a_topic_is_taken_up_where_it_ended() -> None:
    before, after = Topics("one"), Topics("two")
    topic = before.get("tasks", "ann")
    publish(topic, 5)
    after.restore("tasks", "ann", topic.epoch, topic.offset, [frame.data for frame in topic.history][2:])
    again = after.get("tasks", "ann")
    assert again.cursor == topic.cursor
    publish(again)
    assert offsets(again.since(f"{topic.epoch}:2")) == [3, 4, 5, 6]
    assert again.since(f"{topic.epoch}:1") is None
    assert after.get("task:1").epoch != topic.epoch


def test_what_many_are_given_is_put_together_once() -> None:
    topic, made = a_topic(5), []

    def form(frame: Frame) -> bytes:
        made.append(frame.offset)
        return b"%d " % frame.offset

    assert topic.gathered(2, form) == (b"3 4 5 ", 5) == topic.gathered(2, form)
    assert made == [3, 4, 5]
    assert topic.gathered(4, form) == (b"5 ", 5)
    publish(topic)
    assert topic.gathered(4, form) == (b"5 6 ", 6)
    assert topic.gathered(7, form) is None


def test_a_long_piece_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "PIECE", 10)
    topic = a_topic(5)
    assert topic.gathered(0, lambda frame: b"xxxx") == (b"xxxx" * 3, 3)
