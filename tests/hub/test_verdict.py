"""What can be told of a video before a task is ordered."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from hub.errors import Invalid
from hub.estimate import Span
from hub.interface import OfferedModel
from hub.media import Facts
from hub.messages import Model, Offer
from hub.outlook import Outlook
from hub.verdict import Verdict, judge, misfit
from hub.views import verdict

from .world import FACTS, SOURCE, World, a_hello, a_task, only, sent

MODEL = OfferedModel("m", "", "")
FILM = Facts(1920, 1080, frames=300)
SPAN = Span(10.0, 20.04)


@pytest.mark.parametrize(("limits", "reason"), [
    ({}, None),
    ({"max_pixels": 1920 * 1080, "max_frames": 300}, None),
    ({"max_pixels": 1920 * 1080 - 1}, "too_many_pixels"),
    ({"max_frames": 299}, "too_many_frames"),
    ({"max_pixels": 1, "max_frames": 1}, "too_many_pixels"),
])
def test_a_video_fits_up_to_the_limits_of_the_model(limits: dict[str, int], reason: str | None) -> None:
    assert misfit(replace(MODEL, **limits), FILM) == reason


@pytest.mark.parametrize(("seconds", "present", "usable", "told"), [
    (SPAN, 2, 1, Verdict("m", SPAN, True, None)),
    (None, 1, 1, Verdict("m", None, True, "no_estimate")),
    (SPAN, 1, 0, Verdict("m", SPAN, False, "paused")),
    (None, 0, 0, Verdict("m", None, False, "no_worker_for_model")),
    (SPAN, 0, 0, Verdict("m", SPAN, False, "no_worker_for_model")),
])
def test_p18_what_is_known_is_told_with_the_reason_for_what_is_not(
    seconds: Span | None, present: int, usable: int, told: Verdict
) -> None:
    assert judge(MODEL, FILM, seconds, present, usable) == told


def test_what_does_not_fit_gets_no_estimate() -> None:
    assert judge(replace(MODEL, max_frames=1), FILM, SPAN, 1, 1) == Verdict("m", None, False, "too_many_frames")


def test_a_verdict_as_the_outside_sees_it() -> None:
    assert verdict(Verdict("m", SPAN, True, None)) == {
        "name": "m", "seconds": {"p50": 10.0, "p90": 20.0}, "ready": True, "reason": None,
    }


def test_p18_the_core_tells_of_every_model_that_it_knows() -> None:
    world = World()
    world.core.models["away"] = OfferedModel("away", "", "")
    world.join()
    assert world.core.verdicts(FACTS) == [
        Verdict("away", None, False, "no_worker_for_model"), Verdict("m", None, True, "no_estimate"),
    ]
    world.core.work.estimates.learn("m", "w1", FACTS, 30.0)
    assert world.core.verdicts(FACTS)[1] == Verdict("m", Span(30.0, 30.0), True, None)


SHORTER = Model(name="m", max_frames=FACTS.frames - 1)


def test_p18_a_task_goes_to_a_worker_that_takes_such_a_video_and_is_told_when_there_is_none() -> None:
    world = World()
    world.join("large")
    world.join("small", models=[SHORTER], slots=8)
    world.complete(world.running("task-1", "large"), "large")
    world.core.detach(world.session("large").id, world.now)
    assert sent(world.submit("task-2")) == []
    assert world.core.outlook(world.task("task-2")) == Outlook(1, None, "no_worker_for_model")
    assert world.core.verdicts(FACTS)[0].reason == "no_worker_for_model"
    short = replace(FACTS, frames=FACTS.frames - 1)
    assert world.core.verdicts(short)[0].ready
    assert only(world.submit("task-3", video=replace(SOURCE, facts=short)), Offer).task == "task-3"
    assert only(world.join("large"), Offer).task == "task-2"


def test_a_task_for_a_model_that_does_not_take_such_a_video_is_refused() -> None:
    world = World()
    hello = a_hello()
    limited = msgspec.structs.replace(hello.models[0], max_frames=FACTS.frames - 1)
    world.core.join(msgspec.structs.replace(hello, models=[limited]), world.now)
    with pytest.raises(Invalid, match="71 frames") as refusal:
        world.core.submit(a_task(), world.now)
    assert refusal.value.code == "does_not_fit" and not world.core.tasks
