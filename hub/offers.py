"""Offers: a slot held for one task, for a moment, until the worker answers.

Owns which session was offered which task. An offer is no state of the task: nothing is stored, and one that comes to
nothing leaves the task where it was. Never decides what an acceptance means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from .effects import Effect, Send
from .messages import Offer
from .roster import Roster
from .session import Offered, WorkerSession
from .task import Task
from .workload import Workload


class Offers:
    """The offers that stand; `of` says by task id which session holds which offer, each lasts `lasts` seconds."""

    def __init__(self, work: Workload, roster: Roster, new_id: Callable[[], str], lasts: float) -> None:
        self.work = work
        self.roster = roster
        self.new_id = new_id
        self.lasts = lasts
        self.of: dict[str, tuple[str, str]] = {}

    def make(self, now: float) -> list[Effect]:
        """Offer waiting tasks to free workers."""
        effects: list[Effect] = []
        for task, session in self.work.dispatcher.match(self.roster.having, now):
            offer_id = self.new_id()
            session.offers[offer_id] = Offered(task.id, now + self.lasts)
            self.of[task.id] = (session.id, offer_id)
            facts = task.video.facts
            effects.append(Send(session.id, Offer(
                offer=offer_id, task=task.id, model=task.model, deadline_s=self.lasts,
                video={
                    "width": facts.width, "height": facts.height, "fps": facts.fps, "frames": facts.frames,
                    "duration": facts.duration, "size": task.video.size,
                },
            )))
        return effects

    def stands(self, offer: Send) -> bool:
        """Whether an offer that was made is still to be answered."""
        session = self.roster.sessions.get(offer.session)
        return session is not None and isinstance(offer.message, Offer) and offer.message.offer in session.offers

    def take_back(self, offers: Iterable[Send], now: float) -> None:
        """These were never sent: what was offered waits in its place again."""
        for offer in offers:
            session = self.roster.sessions.get(offer.session)
            if session is not None and isinstance(offer.message, Offer):
                self.end(session, offer.message.offer, now, refused=False)

    def take(self, session: WorkerSession, offer_id: str) -> Task | None:
        """The task of an offer that is accepted; None if the offer is over."""
        offer = session.offers.pop(offer_id, None)
        if offer is None:
            return None
        del self.of[offer.task_id]
        return self.work.tasks[offer.task_id]

    def end(self, session: WorkerSession, offer_id: str, now: float, refused: bool) -> None:
        """An offer came to nothing: the task goes back to its place, and who refused it is not asked again at once."""
        offer = session.offers.pop(offer_id, None)
        if offer is not None:
            del self.of[offer.task_id]
            task = self.work.tasks[offer.task_id]
            self.work.dispatcher.put_back(task, session if refused else None, now)

    def withdraw(self, session: WorkerSession, now: float) -> None:
        """Take back what was offered to one worker and is not accepted yet."""
        for offer_id in list(session.offers):
            self.end(session, offer_id, now, refused=False)

    def expire(self, session: WorkerSession, now: float) -> None:
        """Silence counts as no, and who is silent rests; while the store does not answer, an offer may not be sent."""
        if not self.work.pacing.storing:
            self.extend(session, now)
            return
        over = [offer_id for offer_id, offer in session.offers.items() if offer.deadline <= now]
        for offer_id in over:
            self.end(session, offer_id, now, refused=True)
        if over:
            session.rest(now)

    def extend(self, session: WorkerSession, now: float) -> None:
        """Let the offers of one worker stand as if they had just been made."""
        deadline = now + self.lasts
        session.offers = {id: replace(offer, deadline=deadline) for id, offer in session.offers.items()}

    def forget(self, task_id: str) -> None:
        """A task is not on offer any more, because it is over or somebody else's."""
        session_id, offer_id = self.of.pop(task_id, ("", ""))
        if session_id in self.roster.sessions:
            self.roster.sessions[session_id].offers.pop(offer_id, None)
