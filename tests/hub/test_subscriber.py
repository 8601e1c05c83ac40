"""Viewers: each has a place in its topics, takes what is new in order, and a slow one costs nobody anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import rounds
from hub.messages import PROGRESSED, UPDATED
from hub.subscriber import Direct, Subscriber
from hub.topics import HISTORY, Frame, Topic, Topics

AT = "2025-01-31T12:00:00.000Z"


def publish(topic: Topic, events: int = 1, data: object = None) -> None:
    for _ in range(events):
        topic.publish(UPDATED, data, AT)


def progress(topic: Topic, task: str, percent: int) -> None:
    topic.publish(PROGRESSED, {"id": task, "progress": percent}, AT, task)


def offsets(frames: list[Frame]) -> list[int]:
    return [frame.offset for frame in frames]


def told(frames: list[Frame]) -> list[Any]:
    """Offsets of events, and for each marker what it stands for."""
    events = [json.loads(frame.data) for frame in frames]
    return [
        (event["data"]["first"], event["offset"]) if event["type"] == "merged" else event["offset"] for event in events
    ]


def number(frame: Frame) -> bytes:
    """How these sockets are written to."""
    return b"%d " % frame.offset


class Socket:
    """A connection that takes as much as `room` says."""

    def __init__(self) -> None:
        self.room = 1_000_000
        self.sent: list[bytes] = []
        self.cut = False
        self.viewer = Direct(self.wake, self.send, number, lambda shot: shot.data)

    def wake(self) -> None:
        self.cut = self.viewer.lagged

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        self.room -= len(data)
        return self.room > 0


# --- those who take ---------------------------------------------------------------------------------------------


def test_a_subscriber_is_woken_once_and_takes_what_was_published_in_order() -> None:
    woken: list[int] = []
    subscriber, topic = Subscriber(lambda: woken.append(1)), Topic("t", "e")
    publish(topic, 2)
    subscriber.subscribe(topic)
    publish(topic, 3)
    assert (offsets(subscriber.take()), offsets(subscriber.take()), len(woken)) == ([3, 4, 5], [], 1)
    publish(topic)
    assert (offsets(subscriber.take()), len(woken)) == ([6], 2)


def test_one_encoded_frame_serves_every_subscriber() -> None:
    topic = Topic("t", "e")
    subscribers = [Subscriber(lambda: None) for _ in range(3)]
    for subscriber in subscribers:
        subscriber.subscribe(topic)
    publish(topic)
    first, *others = [subscriber.take()[0] for subscriber in subscribers]
    assert all(other is first for other in others)


def test_who_unsubscribed_gets_nothing_more() -> None:
    subscriber, topic = Subscriber(lambda: None), Topic("t", "e")
    subscriber.subscribe(topic)
    assert subscriber.unsubscribe(topic.name)
    assert not subscriber.unsubscribe(topic.name)
    publish(topic)
    assert subscriber.take() == []


def test_p9_subscribing_anew_drops_what_waits_of_this_topic_alone() -> None:
    """The answer to the subscription says where the topic stands: what is older must not come after it."""
    subscriber, home = Subscriber(lambda: None), Topics("e")
    anew, other = home.get("a"), home.get("b")
    subscriber.subscribe(anew)
    subscriber.subscribe(other)
    publish(anew, 2)
    publish(other, 3)
    subscriber.subscribe(anew)
    publish(anew)
    waiting = sorted((frame.epoch, frame.offset) for frame in subscriber.take())
    assert waiting == [(anew.epoch, 3), (other.epoch, 1), (other.epoch, 2), (other.epoch, 3)]


def test_p11_a_closed_subscriber_leaves_nothing_behind() -> None:
    subscriber, home = Subscriber(lambda: None), Topics("e")
    for name in ("a", "b"):
        subscriber.subscribe(home.get(name))
    assert len(home.watched) == 2
    publish(home.get("a"))
    subscriber.close()
    assert all(topic.viewers == topic.followers == set() for topic in home.topics.values())
    assert (subscriber.take(), home.watched) == ([], {})
    subscriber.subscribe(home.get("a"))
    assert home.watched == {}, "one that left while its subscription was looked up joins nothing"


# --- those who are slow -----------------------------------------------------------------------------------------


def test_p11_of_a_task_s_progress_the_latest_is_told_and_a_marker_stands_for_the_rest() -> None:
    subscriber, topic = Subscriber(lambda: None), Topic("t", "e")
    subscriber.subscribe(topic)
    for percent in (10, 20, 30):
        progress(topic, "one", percent)
    publish(topic)
    progress(topic, "two", 5)
    progress(topic, "one", 40)
    assert told(subscriber.take()) == [(1, 3), 4, 5, 6]
    progress(topic, "one", 50)
    progress(topic, "two", 6)
    progress(topic, "one", 60)
    assert told(subscriber.take()) == [(7, 7), 8, 9]


@given(st.lists(st.sampled_from(["one", "two", ""]), max_size=60), st.integers(1, 20))
def test_p11_whatever_is_merged_leaves_no_gap_and_the_latest_of_everything(said: list[str], pause: int) -> None:
    subscriber, topic = Subscriber(lambda: None), Topic("t", "e")
    subscriber.subscribe(topic)
    place, latest, changes = 0, {}, 0
    for number, task in enumerate(said, 1):
        progress(topic, task, number) if task else publish(topic)
        if number % pause and number < len(said):
            continue
        for event in (json.loads(frame.data) for frame in subscriber.take()):
            first = event["data"]["first"] if event["type"] == "merged" else event["offset"]
            assert first == place + 1
            place = event["offset"]
            changes += event["type"] == UPDATED
            if event["type"] == PROGRESSED:
                latest[event["data"]["id"]] = event["data"]["progress"]
    assert place == topic.offset
    assert changes == said.count("")
    assert latest == {task: number for number, task in enumerate(said, 1) if task}


def test_p11_256_frames_may_wait_and_with_the_next_the_viewer_is_cut() -> None:
    subscriber, topic = Subscriber(lambda: None), Topic("t", "e")
    subscriber.subscribe(topic)
    publish(topic, 256)
    assert len(subscriber.take()) == 256
    publish(topic, 257)
    assert (subscriber.take(), subscriber.lagged, topic.viewers) == ([], True, set())


def test_p11_a_mebibyte_may_wait_and_with_more_the_viewer_is_cut() -> None:
    subscriber, topic = Subscriber(lambda: None), Topic("t", "e")
    subscriber.subscribe(topic)
    publish(topic, 10, "x" * 100_000)
    assert len(subscriber.take()) == 10
    publish(topic, 11, "x" * 100_000)
    assert (subscriber.take(), subscriber.lagged) == ([], True)


def test_p11_who_has_missed_what_is_not_kept_is_hopeless() -> None:
    woken: list[bool] = []
    subscriber, topic = Subscriber(lambda: woken.append(subscriber.lagged)), Topic("t", "e")
    subscriber.subscribe(topic)
    publish(topic, HISTORY)
    assert not subscriber.hopeless
    publish(topic)
    assert subscriber.hopeless
    subscriber.give_up()
    assert woken == [False, True]


def test_p11_others_notice_nothing_of_a_slow_viewer() -> None:
    topic = Topic("t", "e")
    slow, quick = Subscriber(lambda: None), Subscriber(lambda: None)
    slow.subscribe(topic)
    quick.subscribe(topic)
    seen: list[int] = []
    for _ in range(2 * HISTORY):
        publish(topic)
        seen += offsets(quick.take())
    assert slow.hopeless and topic.followers == {quick}
    assert seen == list(range(1, 2 * HISTORY + 1))


# --- those who are sent to --------------------------------------------------------------------------------------


def test_what_gathers_in_a_turn_is_sent_in_one_piece_to_everybody() -> None:
    home, turns = Topics("e"), []
    home.rounds.later = turns.append
    sockets = [Socket() for _ in range(3)]
    topic, other = home.get("t"), home.get("u")
    for socket in sockets:
        socket.viewer.subscribe(topic)
    sockets[0].viewer.subscribe(other)
    publish(topic, 3)
    publish(other, 2)
    assert len(turns) == 1, "one turn is asked for, however much happens"
    turns.pop()()
    assert [socket.sent for socket in sockets] == [[b"1 2 3 1 2 "], [b"1 2 3 "], [b"1 2 3 "]]
    assert sockets[1].sent[0] is sockets[2].sent[0], "the same bytes"
    assert turns == []


def test_a_round_takes_many_turns_and_late_comers_are_told_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "SLICE", 2)
    home, turns = Topics("e"), []
    home.rounds.later = turns.append
    topic, sockets = home.get("t"), [Socket() for _ in range(5)]
    for socket in sockets:
        socket.viewer.subscribe(topic)
    publish(topic)
    turns.pop()()
    late = Socket()
    late.viewer.subscribe(topic)
    publish(topic)
    sockets[0].viewer.unsubscribe("t")
    while turns:
        turns.pop()()
    assert [b"".join(socket.sent) for socket in sockets[1:]] == [b"1 2 "] * 4
    assert sockets[0].sent in ([], [b"1 "]), "as it was its turn or not"
    assert late.sent == [b"2 "]


def test_p11_a_full_socket_is_left_alone_and_gets_what_it_missed_merged() -> None:
    socket, topic = Socket(), Topic("t", "e")
    socket.viewer.subscribe(topic)
    socket.room = 2
    publish(topic)
    for percent in range(10):
        progress(topic, "one", percent)
    assert (socket.sent, topic.followers) == ([b"1 "], set())
    socket.room = 1000
    socket.viewer.drained()
    assert socket.sent == [b"1 ", b"10 11 "], "a marker for 2 to 10, and the last"
    publish(topic)
    assert socket.sent[-1] == b"12 "


def test_p11_a_socket_that_was_full_for_too_long_is_cut() -> None:
    socket, topic = Socket(), Topic("t", "e")
    socket.viewer.subscribe(topic)
    socket.room = 2
    publish(topic, 300)
    socket.room = 10_000
    socket.viewer.drained()
    assert socket.cut and topic.viewers == set()
