from __future__ import annotations

from hub.messages import Accept, Cancel, Message, Problem, Progress, Renew, Result, Status, Welcome
from worker.outbox import Outbox


def progress(percent: float, phase: str = "segment", lease: str = "l1") -> Progress:
    return Progress(lease=lease, phase=phase, progress=percent)


def written(outbox: Outbox) -> list[Message]:
    """All that is due, as it goes out."""
    messages = []
    while (message := outbox.next()) is not None:
        messages.append(message)
    return messages


def welcome(n: int = 1, ack: int = 1, resumed: bool = False) -> Welcome:
    return Welcome(n=n, ack=ack, session="s1", heartbeat_s=60, renew_s=30, lease_s=120, resumed=resumed)


def test_numbers_follow_hello_and_every_message_acknowledges() -> None:
    outbox = Outbox()
    outbox.restart(welcome())
    outbox.post(Accept(offer="o1"))
    assert outbox.hear(Cancel(n=2, lease="l1"))
    outbox.post(Accept(offer="o2"))
    assert written(outbox) == [Accept(n=2, ack=2, offer="o1"), Accept(n=3, ack=2, offer="o2")]
    assert written(outbox) == []


def test_a_repeat_is_told_from_something_new() -> None:
    outbox = Outbox()
    outbox.restart(welcome())
    cancel = Cancel(n=2, lease="l1")
    assert [outbox.hear(cancel), outbox.hear(cancel), outbox.hear(Cancel(n=3, lease="l1"))] == [True, False, True]


def test_number_zero_stands_outside_the_numbering() -> None:
    outbox = Outbox()
    outbox.restart(welcome(n=5))
    assert outbox.hear(Problem(n=0, code="bad_message"))
    assert outbox.heard == 5


def test_what_was_not_acknowledged_is_written_again_under_its_number() -> None:
    outbox = Outbox()
    outbox.restart(welcome())
    for offer in ("o1", "o2", "o3"):
        outbox.post(Accept(offer=offer))
    written(outbox)
    outbox.resume(welcome(n=2, ack=2, resumed=True))
    assert [(message.n, message.offer) for message in written(outbox) if isinstance(message, Accept)] == [
        (3, "o2"), (4, "o3"),
    ]


def test_a_welcome_that_overtakes_what_was_missed_does_not_hide_it() -> None:
    outbox = Outbox()
    outbox.restart(welcome())
    outbox.resume(welcome(n=4, resumed=True))
    assert [outbox.hear(Cancel(n=n, lease="l1")) for n in (2, 3, 5)] == [True, True, True]


def test_a_new_session_counts_from_the_start_and_knows_nothing_of_the_old() -> None:
    outbox = Outbox()
    outbox.restart(welcome())
    outbox.post(Accept(offer="o1"))
    outbox.hear(Cancel(n=7, lease="l1"))
    outbox.restart(welcome())
    outbox.post(Accept(offer="o2"))
    assert written(outbox) == [Accept(n=2, ack=1, offer="o2")]


def test_only_the_newest_progress_of_a_phase_waits_and_the_end_comes_last() -> None:
    outbox = Outbox()
    result = Result(lease="l1", artifacts=[])
    for message in (
        progress(1), progress(2), Renew(lease="l1"), progress(3, lease="l2"), Status(), progress(9, "encode"),
        Renew(lease="l1"), Status(slots_free=1), progress(4), result,
    ):
        outbox.post(message)
    told = [(type(message).__name__, getattr(message, "progress", None)) for message in written(outbox)]
    assert told == [
        ("Progress", 3), ("Progress", 9), ("Renew", None), ("Status", None), ("Progress", 4), ("Result", None),
    ]


def test_the_outbox_stays_small_however_long_the_hub_is_away() -> None:
    outbox = Outbox()
    for percent in range(1000):
        outbox.post(progress(percent / 10))
        outbox.post(Renew(lease="l1"))
    assert len(outbox.messages) == 2
