"""What can be told of an open task: its place in line, when it will be done, and why it waits.

Owns the estimate of waiting. Never decides anything, and never guesses: what is not known is None.
"""

from __future__ import annotations

from itertools import islice

from msgspec import Struct

from .estimate import Span, size_of
from .fairness import Ahead, FairQueue
from .media import Facts
from .messages import Model
from .roster import Roster
from .session import Phase
from .task import State, Task
from .verdict import misfit
from .workload import UNKNOWN_COST_S, Workload

LOOKED_AT = 256  # slots that an estimate looks at


class Outlook(Struct, frozen=True):
    """Place in line from 1, seconds until it is done, and the reason to wait; None where there is none to tell."""

    position: int | None = None
    eta: Span | None = None
    blocked_by: str | None = None


NOTHING = Outlook()


class Staff(Struct):
    """The connected workers that have a model, and take videos of some size.

    `usable` of them take offers, `free` is their number of free slots, `remaining` the seconds until each of their
    slots is free, the soonest first, and `share` how much of their slots tasks of this model get.
    """

    present: int = 0
    usable: int = 0
    free: int = 0
    slots: int = 0
    remaining: tuple[float, ...] = ()
    share: float = 1.0


class Outlooks:
    """Makes outlooks as of `now` (seconds); what it found out about workers and lines is kept until `renew`."""

    def __init__(self, work: Workload, roster: Roster) -> None:
        self.work = work
        self.roster = roster
        self.staffs: dict[tuple[str, tuple[Model, ...]], Staff] = {}
        self.limits: dict[str, set[Model]] = {}
        self.aheads: dict[tuple[str, str], Ahead] = {}
        self.now = 0.0

    def renew(self, now: float) -> None:
        """Something was decided: look anew."""
        self.now = now
        self.staffs.clear()
        self.limits.clear()
        self.aheads.clear()

    def of(self, task: Task) -> Outlook:
        """What can be told about a task."""
        if task.state is State.PROCESSING:
            left = self.left(task)
            return Outlook(eta=left) if left is not None else NOTHING
        known = self.work.tasks.get(task.id)
        if known is None or known.state is not State.WAITING or known.id in self.work.dispatcher.charged:
            return NOTHING
        staff = self.staff(known.model, known.video.facts)
        resting = known.id in self.work.dispatcher.asleep
        blocked_by, rate = self.blocked_by(known, staff, resting), self.work.estimates.rate(known.model)
        own = size_of(known.video.facts)
        queue = self.work.dispatcher.queues.get(known.model)
        mean = queue.work / queue.size if queue is not None and queue.size else own
        place = self.place(known, queue, max(mean * (UNKNOWN_COST_S if rate is None else rate.p50), 1e-9))
        position = None if resting else place
        if rate is None or not staff.usable or self.work.dispatcher.shares.capped(known.owner):
            return Outlook(position, None, blocked_by)
        wait, rest = self.wait(place, rate.p50 * mean, staff), known.not_before - self.now if resting else 0.0
        waited = Span(max(wait, rest), max(wait * rate.p90 / rate.p50, rest))
        return Outlook(position, waited + rate.scaled(own), blocked_by)

    def place(self, task: Task, queue: FairQueue | None, cost: float) -> int:
        """Where a task stands in line, if all take `cost` seconds; of one that rests, about where it would."""
        if queue is None or not queue.size:
            return 1
        if task.owner not in queue.lines:
            return 1 + len(queue.lines)  # everybody who waits has a turn first
        ahead = self.aheads.get((task.model, task.owner))
        if ahead is None:
            ahead = self.aheads[task.model, task.owner] = queue.ahead(task.owner, cost)
        return 1 + ahead.of(queue.lines[task.owner].rank(task))

    def left(self, task: Task) -> Span | None:
        """How long a running task still takes."""
        span = self.work.estimates.span(task.model, task.video.facts, task.worker or "")
        return None if span is None else span.scaled(1 - task.progress / 100)

    def blocked_by(self, task: Task, staff: Staff, resting: bool) -> str | None:
        """Why a waiting task waits; None where nothing but its turn, its rest, or a moment, stands in the way."""
        if not staff.present:
            return "no_worker_for_model"
        if not staff.usable:
            return "paused"
        if resting:
            return None
        if self.work.dispatcher.shares.capped(task.owner):
            return "your_limit"
        return None if staff.free else "all_busy"

    def wait(self, position: int, each: float, staff: Staff) -> float:
        """Seconds until the task at that position begins, if all before it take `each` seconds.

        The slots take tasks in the order in which they become free, round after round; where other models' tasks wait
        for the same slots, there are more before it than its position says.
        """
        ahead = (position - 1) / staff.share
        if staff.slots > len(staff.remaining):
            ahead *= len(staff.remaining) / staff.slots
        rounds, slot = divmod(int(ahead), len(staff.remaining))
        return staff.remaining[slot] + rounds * each

    def staff(self, model: str, facts: Facts) -> Staff:
        """The workers that have a model for such a video, as they are now."""
        limits = self.limits.get(model)
        if limits is None:
            offers = (session.models[model] for session in self.roster.having.get(model, {}).values())
            limits = self.limits[model] = {offer for offer in offers if offer.max_pixels or offer.max_frames}
        key = model, tuple(offer for offer in limits if misfit(offer, facts) is not None)
        staff = self.staffs.get(key)
        if staff is None:
            staff = self.staffs[key] = self.look(model, facts)
        return staff

    def look(self, model: str, facts: Facts) -> Staff:
        """Find out who has a model for such a video and when they are free."""
        staff, remaining, shares = Staff(), list[float](), 0.0
        busy = {name for name, queue in self.work.dispatcher.queues.items() if queue.size}
        for session in self.roster.having.get(model, {}).values():
            if session.phase is not Phase.READY or not session.attached:
                continue
            if not session.takes(model, facts):
                continue
            staff.present += 1
            if not session.usable:
                continue
            staff.usable += 1
            staff.free += session.free
            staff.slots += session.slots
            shares += session.slots / max(1, len(busy & session.models.keys()))
            if len(remaining) < LOOKED_AT:
                held = [task_id for task_id in session.leases.values()]
                held += [offer.task_id for offer in session.offers.values()]
                seconds = [self.seconds_left(task_id) for task_id in islice(held, session.slots)]
                seconds += [max(0.0, until - self.now) for until in session.stopping.values()]
                seconds += [0.0] * (session.slots - len(seconds))
                remaining += sorted(seconds)[-session.slots:]
        if staff.slots:
            staff.remaining, staff.share = tuple(sorted(remaining)), shares / staff.slots
        return staff

    def seconds_left(self, task_id: str) -> float:
        """About how long a slot is taken by a task."""
        task = self.work.tasks[task_id]
        span = self.left(task)
        return self.work.cost(task) * (1 - task.progress / 100) if span is None else span.p50
