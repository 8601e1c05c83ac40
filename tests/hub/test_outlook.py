"""What waiting tasks are told comes true: place in line, time and reason, with several users, models and workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest

from hub.effects import Effect, Send
from hub.interface import changed, register
from hub.messages import Accept, Assign, Failed, Offer
from hub.estimate import Span
from hub.outlook import Outlook
from hub.rules import Rules

from .world import START, World, a_task, lines_run, only

TAKES_S = 20.0  # how long each video of these tests takes, on any worker


class Day:
    """Workers that take what they are offered and need TAKES_S for it; when each task began and ended."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self.world = World(rules)
        self.running: deque[tuple[float, str, str, str]] = deque()  # until when, task, lease, worker
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def serve(self, effects: Sequence[Effect]) -> None:
        """Every offer among these effects is accepted."""
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Offer):
                worker = self.world.core.sessions[effect.session].worker
                taken = self.world.say(Accept(offer=effect.message.offer), worker)
                assign = only(taken, Assign)
                self.began[assign.task] = self.world.now
                self.running.append((self.world.now + TAKES_S, assign.task, assign.lease, worker))
                self.serve([other for other in taken if other is not assign])

    def order(self, id: str, owner: str, model: str = "m") -> None:
        self.serve(self.world.submit(id, owner=owner, model=model))

    def work(self) -> None:
        """Time passes until the task that runs longest is done."""
        until, task, lease, worker = self.running.popleft()
        renewed = {other[3]: other[2] for other in self.running}
        self.serve(self.world.wait(until - self.world.now, TAKES_S, renewed))
        self.serve(self.world.complete(lease, worker))
        self.ended[task] = self.world.now

    def told(self, id: str) -> Outlook:
        return self.world.core.outlook(self.world.task(id))

    def pause(self, worker: str, paused: bool = True) -> None:
        """An admin pauses a worker, or lets it go on."""
        known = self.world.core.roster.interfaces.get(worker) or register(worker, f"token of {worker}", START)
        self.serve(self.world.take(self.world.core.know(changed(known, paused=paused), self.world.now)))


@pytest.fixture
def day() -> Day:
    """Two workers for model m, the second of them for model n as well, and each model has been seen at work."""
    day = Day()
    day.world.join("w1", models=["m"])
    day.world.join("w2", models=["m", "n"])
    for number, model in enumerate(["m", "m", "n"]):
        day.order(f"first-{number}", "teacher", model)
    while day.running:
        day.work()
    return day


def test_p18_places_and_times_come_true_for_all_users(day: Day) -> None:
    for number in range(4):
        for owner in ("ann", "bob", "cyd"):
            day.order(f"{owner}-{number}", owner)
    waiting = [id for id in day.world.core.tasks if id not in day.began]
    told = {id: day.told(id) for id in waiting}
    asked_at = day.world.now
    while day.running:
        day.work()
    in_turn = sorted(waiting, key=lambda id: (day.began[id], told[id].position))
    assert [told[id].position for id in in_turn] == list(range(1, len(waiting) + 1))
    for id in waiting:
        eta = told[id].eta
        assert eta is not None and eta.p50 == pytest.approx(day.ended[id] - asked_at, abs=TAKES_S / 4), id
        assert told[id].blocked_by == "all_busy"


def test_p18_each_model_has_a_line_of_its_own(day: Day) -> None:
    for number in range(3):
        day.order(f"m-{number}", "ann", "m")
    day.order("n-0", "ann", "n")
    assert [day.told(id).position for id in ("m-2", "n-0")] == [1, 1]


def test_a_task_that_waits_for_a_loaded_model_is_not_overtaken(day: Day) -> None:
    for number in range(3):
        day.order(f"m-{number}", "ann", "m")
    assert [id for id in day.began if id.startswith("m-")] == ["m-0", "m-1"]


def test_p18_the_reason_follows_what_the_admin_does(day: Day) -> None:
    day.pause("w2")
    day.order("m-0", "ann", "m")
    day.order("n-0", "ann", "n")
    assert "m-0" in day.began, "the other worker for m is not paused"
    assert (day.told("n-0").blocked_by, day.told("n-0").eta) == ("paused", None), "when it goes on is not known"
    day.pause("w2", False)
    assert "n-0" in day.began


def test_p18_who_has_as_many_as_they_may_is_told_so() -> None:
    day = Day(Rules(user_cap=1))
    day.world.join("w1", slots=3)
    for id, owner in (("ann-0", "ann"), ("ann-1", "ann"), ("bob-0", "bob")):
        day.order(id, owner)
    assert set(day.began) == {"ann-0", "bob-0"}
    assert day.told("ann-1").blocked_by == "your_limit"


def test_p18_a_model_that_left_is_missed_and_what_is_not_known_is_not_told(day: Day) -> None:
    world = day.world
    world.take(world.core.dismiss(world.session("w2"), world.now))
    day.order("n-0", "ann", "n")
    assert day.told("n-0") == Outlook(position=1, blocked_by="no_worker_for_model")


def test_p13_what_goes_before_a_users_tasks_is_looked_at_once_for_all_of_them(day: Day) -> None:
    core = day.world.core
    for number in range(500):
        core.work.wait(a_task(f"other-{number:03}", owner=f"user-{number}"), START)
    own = [a_task(f"ann-{number:03}", owner="ann", created_at=START + number) for number in range(101)]
    for task in own:
        core.work.wait(task, START)
    first = lines_run(lambda: core.outlook(own[0]))
    others = lines_run(lambda: [core.outlook(task) for task in own[1:]])
    assert others < 5 * first
    assert [core.outlook(task).position for task in own[:2]] == [501, 502]


# --- slots and tasks that come back


def test_p18_a_slot_that_is_still_being_stopped_is_not_told_as_free(day: Day) -> None:
    for number in range(3):
        day.order(f"m-{number}", "ann", "m")
    day.serve(day.world.cancel("m-0"))
    told, stops_in = day.told("m-2"), Rules().stop_s
    assert (told.eta, told.blocked_by) == (Span(2 * TAKES_S, 2 * TAKES_S), "all_busy"), "the other slot is free sooner"
    day.serve(day.world.cancel("m-1"))
    assert day.told("m-2").eta == Span(stops_in + TAKES_S, stops_in + TAKES_S)


def test_p18_a_task_that_rests_after_a_failure_says_until_when(day: Day) -> None:
    world = day.world
    day.order("m-0", "ann", "m")
    _, _, lease, worker = day.running.pop()
    day.serve(world.say(Failed(lease=lease, code="busy", retry_after=100.0), worker))
    assert day.told("m-0") == Outlook(None, Span(100 + TAKES_S, 100 + TAKES_S), None)
    day.serve(world.wait(60.0))
    assert day.told("m-0").eta == Span(40 + TAKES_S, 40 + TAKES_S)
    day.serve(world.wait(40.0))
    assert day.began["m-0"] == world.now


@pytest.mark.parametrize("own", [1, 4])
def test_p18_a_task_that_rests_is_told_the_line_that_it_comes_back_to(day: Day, own: int) -> None:
    day.pause("w2")
    for number in range(own):
        day.order(f"ann-{number}", "ann")
    for owner in ("bob", "cyd"):
        day.order(f"{owner}-0", owner)
    _, _, lease, worker = day.running.pop()
    day.serve(day.world.say(Failed(lease=lease, code="busy", retry_after=1.0), worker))
    asked_at, told = day.world.now, day.told("ann-0")
    while day.running:
        day.work()
    assert told.position is None and told.eta is not None
    assert told.eta.p50 == pytest.approx(day.ended["ann-0"] - asked_at, abs=TAKES_S / 4)


def test_p18_what_rests_says_so_where_nobody_could_take_it_either(day: Day) -> None:
    day.order("n-0", "ann", "n")
    _, _, lease, worker = day.running.pop()
    day.serve(day.world.say(Failed(lease=lease, code="busy", retry_after=100.0), worker))
    day.pause("w2")
    assert day.told("n-0") == Outlook(blocked_by="paused")
    day.world.take(day.world.core.dismiss(day.world.session("w2"), day.world.now))
    assert day.told("n-0") == Outlook(blocked_by="no_worker_for_model")


def test_p18_whose_task_rests_while_as_many_run_as_may_is_told_no_time() -> None:
    day = Day(Rules(user_cap=1))
    day.world.join("w1", slots=2)
    day.order("first", "teacher")
    day.work()
    day.order("ann-0", "ann")
    _, _, lease, worker = day.running.pop()
    day.order("ann-1", "ann")
    day.serve(day.world.say(Failed(lease=lease, code="busy", retry_after=100.0), worker))
    assert (list(day.began)[-1], day.told("ann-0")) == ("ann-1", Outlook())
