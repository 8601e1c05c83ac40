"""What can be told of a video before anybody orders a task: for each model how long it takes, or why it will not fit.

Owns the reasons and their order. Never guesses: how long a model takes that nobody has finished yet is not known.
"""

from __future__ import annotations

from msgspec import Struct

from .estimate import Span
from .interface import OfferedModel
from .media import Facts
from .messages import Model

TOO_MANY_PIXELS, TOO_MANY_FRAMES = "too_many_pixels", "too_many_frames"
NO_WORKER, PAUSED, NO_ESTIMATE = "no_worker_for_model", "paused", "no_estimate"


class Verdict(Struct, frozen=True):
    """One model's prospects with one video.

    `seconds` is the work alone, without waiting for a turn; None where it is not known or will not be done. `ready`
    says whether a task would start as soon as its turn comes; `reason` is why not, or why there is no estimate.
    """

    model: str
    seconds: Span | None
    ready: bool
    reason: str | None


def misfit(model: OfferedModel | Model, facts: Facts) -> str | None:
    """Why a model, or one worker that has it, cannot take a video, or None where it can; a limit of 0 is none."""
    if 0 < model.max_pixels < facts.width * facts.height:
        return TOO_MANY_PIXELS
    if 0 < model.max_frames < facts.frames:
        return TOO_MANY_FRAMES
    return None


def judge(model: OfferedModel, facts: Facts, seconds: Span | None, present: int, usable: int) -> Verdict:
    """What to tell of a model.

    `present` are the connected workers that have it for this video, `usable` those of them that take tasks; `seconds`
    is what others of this size took, None where nobody has finished one.
    """
    reason = misfit(model, facts)
    if reason is not None:
        return Verdict(model.id, None, False, reason)
    if not usable:
        return Verdict(model.id, seconds, False, PAUSED if present else NO_WORKER)
    return Verdict(model.id, seconds, True, NO_ESTIMATE if seconds is None else None)
