"""Live topics: what was missed is told whole or declined, and a slow viewer costs nobody else anything."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import topics
from hub.messages import UPDATED, Event
from hub.topics import HISTORY, Frame, Subscriber, Topic, Topics

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
    assert [frame.event.offset for frame in topic.history] == [1, 2, 3]
    assert topic.cursor == "e:3"


def test_a_frame_holds_the_envelope_once_encoded() -> None:
    topic = a_topic()
    topic.publish(UPDATED, {"id": "1"}, AT)
    [frame] = topic.history
    expected = Event(type=UPDATED, topic="task:1", epoch="e", offset=1, at=AT, data={"id": "1"})
    assert frame.event == expected
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


def test_a_subscriber_takes_what_was_published_in_order() -> None:
    woken: list[int] = []
    subscriber, topic = Subscriber(lambda: woken.append(1)), a_topic(2)
    subscriber.subscribe(topic)
    publish(topic, 3)
    assert offsets(subscriber.take()) == [3, 4, 5]
    assert offsets(subscriber.take()) == []
    assert len(woken) == 3


def test_one_encoded_frame_serves_every_subscriber() -> None:
    topic = a_topic()
    subscribers = [Subscriber(lambda: None) for _ in range(3)]
    for subscriber in subscribers:
        subscriber.subscribe(topic)
    publish(topic)
    first, *others = [subscriber.take()[0] for subscriber in subscribers]
    assert all(other is first for other in others)


def test_who_unsubscribed_gets_nothing_more() -> None:
    subscriber, topic = Subscriber(lambda: None), a_topic()
    subscriber.subscribe(topic)
    assert subscriber.unsubscribe(topic.name)
    assert not subscriber.unsubscribe(topic.name)
    publish(topic)
    assert subscriber.take() == []


def test_subscribing_twice_delivers_once() -> None:
    subscriber, topic = Subscriber(lambda: None), a_topic()
    subscriber.subscribe(topic)
    subscriber.subscribe(topic)
    publish(topic)
    assert offsets(subscriber.take()) == [1]


def test_p11_256_frames_may_wait_and_the_next_cuts_the_viewer() -> None:
    woken: list[int] = []
    subscriber, topic = Subscriber(lambda: woken.append(1)), a_topic()
    subscriber.subscribe(topic)
    publish(topic, 256)
    assert not subscriber.lagged
    publish(topic)
    assert subscriber.lagged
    assert (subscriber.take(), topic.sinks, len(woken)) == ([], set(), 257)


def test_p11_a_mebibyte_may_wait_and_more_cuts_the_viewer() -> None:
    subscriber, topic = Subscriber(lambda: None), a_topic()
    subscriber.subscribe(topic)
    publish(topic, 10, "x" * 100_000)
    assert not subscriber.lagged
    publish(topic, 1, "x" * 100_000)
    assert subscriber.lagged


def test_p11_what_was_taken_does_not_count_any_more() -> None:
    subscriber, topic = Subscriber(lambda: None), a_topic()
    subscriber.subscribe(topic)
    for _ in range(20):
        publish(topic, 200, "x" * 4000)
        assert len(subscriber.take()) == 200
    assert not subscriber.lagged


def test_p11_others_notice_nothing_of_a_slow_viewer() -> None:
    topic = a_topic()
    slow, quick = Subscriber(lambda: None), Subscriber(lambda: None)
    slow.subscribe(topic)
    quick.subscribe(topic)
    seen: list[int] = []
    for _ in range(600):
        publish(topic)
        seen += offsets(quick.take()) or []
    assert slow.lagged
    assert seen == list(range(1, 601))


def test_a_closed_subscriber_leaves_nothing_behind() -> None:
    subscriber = Subscriber(lambda: None)
    watched = [Topic(name, "e") for name in ("a", "b")]
    for topic in watched:
        subscriber.subscribe(topic)
    publish(watched[0])
    subscriber.close()
    assert [topic.sinks for topic in watched] == [set(), set()]
    assert subscriber.take() == []


def test_frames_can_be_taken_one_by_one_and_stop_counting() -> None:
    subscriber, topic = Subscriber(lambda: None), a_topic()
    subscriber.subscribe(topic)
    publish(topic, 2)
    assert offsets([frame for frame in (subscriber.next(), subscriber.next()) if frame]) == [1, 2]
    assert subscriber.next() is None
    assert subscriber.bytes == 0


def test_p9_subscribing_anew_drops_what_waits_of_this_topic_alone() -> None:
    """The answer to the subscription says where the topic stands: what is older must not come after it."""
    subscriber, anew, other = Subscriber(lambda: None), Topic("a", "e"), Topic("b", "e")
    subscriber.subscribe(anew)
    subscriber.subscribe(other)
    publish(anew, 2)
    publish(other, 3)
    subscriber.subscribe(anew)
    publish(anew)
    waiting = [(frame.event.topic, frame.offset) for frame in subscriber.take()]
    assert waiting == [("b", 1), ("b", 2), ("b", 3), ("a", 3)]
