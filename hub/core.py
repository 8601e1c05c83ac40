"""The core: what users do, what workers say, and what time brings, decided in plain synchronous code.

Owns how tasks and workers come together: the open tasks (workload) and the workers (presence) each know how they move,
this knows what follows for the other. Each method takes what happened and `now` (seconds), and returns the effects to
carry out, in order; a refusal is raised before anything has changed. Never awaits, stores, sends or reads a clock; ids
and chance come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from . import messages, task as moves
from .dispatcher import somebody_else
from .effects import Delete, Effect, Publish, Save, Send, Verify
from .errors import Conflict, Invalid, NotFound
from .interface import Interface, OfferedModel
from .media import UNSEEN, Facts, Media, Mismatch
from .messages import Accept, Bye, Decline, Drain, Failed, Hello, Message, Progress, Renew, Result, Status
from .offers import Offers
from .outlook import Outlook, Outlooks
from .presence import Presence
from .report import code_of, report_of
from .roster import Roster
from .rules import Rules
from .session import WorkerSession
from .task import IllegalMove, Lease, LeaseLost, Problem, State, Task
from .verdict import Verdict, judge, misfit
from .workload import REFUSED, Workload

UNNUMBERED = messages.Problem(code="no_number", detail="what has no n does not count; hello has 1, the next 2")


class Link(Struct, frozen=True):
    """Where a worker fetches inputs and puts results: made by `links`, because the core knows no addresses."""

    inputs: list[messages.Input]
    upload_url: str


class Core:
    """All open tasks and all present workers.

    `links` makes the addresses for one lease on one task, `new_id` gives a fresh id at each call, `random` a number
    from 0 to 1.
    """

    def __init__(
        self, rules: Rules, new_id: Callable[[], str], links: Callable[[Task, str], Link],
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.rules = rules
        self.new_id = new_id
        self.links = links
        self.work = Workload(rules, random)
        self.roster = Roster()
        self.offers = Offers(self.work, self.roster, new_id, rules.offer_s)
        self.presence = Presence(rules, self.work, self.roster, self.offers, new_id)
        self.outlooks = Outlooks(self.work, self.roster)
        self.ticked_at: float | None = None
        self.tasks, self.leases, self.dispatcher = self.work.tasks, self.work.leases, self.work.dispatcher
        self.sessions, self.by_worker, self.models = self.roster.sessions, self.roster.by_worker, self.roster.models
        self.session_of = self.roster.session_of

    def boot(
        self, tasks: Iterable[Task], models: Iterable[OfferedModel], now: float,
        interfaces: Iterable[Interface] = (), ended: Iterable[Task] = (),
    ) -> None:
        """Take over what the store remembers; every running lease gets a full heartbeat to speak up.

        `tasks` are the open ones, `ended` some that have ended lately, the oldest first: how long they took is learned.
        """
        self.work.estimates.recall(ended)
        self.models.update({model.id: model for model in models})
        for interface in interfaces:
            self.roster.know(interface)
        for task in tasks:
            self.adopt(task, now)
        self.outlooks.renew(now)

    def adopt(self, task: Task, now: float) -> list[Effect]:
        """Believe the store about one task, whatever was believed before."""
        told = self.forget(task.id, now, task.lease.id if task.lease is not None else None)
        self.work.adopt(task, now)
        if task.lease is not None and not task.state.ended:
            self.presence.hold(task.lease, task.id)
        return told

    def forget(self, task_id: str, now: float, stands: str | None = None) -> list[Effect]:
        """Another process moved a task: who works on it here is told, unless its lease is the one that `stands`."""
        self.offers.forget(task_id)
        task, told = self.tasks.get(task_id), list[Effect]()
        if task is not None and task.lease is not None:
            if task.lease.id != stands and self.presence.knows(task.lease):
                told = self.presence.call_off(task, "moved", now)
            self.presence.vacate(task.lease)
        self.work.forget(task_id)
        return told

    def dispatch(self, now: float) -> list[Effect]:
        """Offer waiting tasks to free workers; every decision that may have freed something ends with this."""
        self.outlooks.renew(now)
        return self.offers.make(now)

    # --- what users do ------------------------------------------------------------------------------------------

    def submit(self, task: Task, now: float) -> list[Effect]:
        """A user's new task.

        Raises:
            Invalid: no worker has ever offered that model, or the video is more than it takes.
        """
        if task.model not in self.models:
            known = ", ".join(sorted(self.models)) or "none yet"
            raise Invalid(f"no interface service offers the model {task.model!r}; known: {known}", code="unknown_model")
        model = self.models[task.model]
        if misfit(model, task.video.facts) is not None:
            limits = f"{model.max_pixels or 'any number of'} pixels and {model.max_frames or 'any number of'} frames"
            raise Invalid(f"{task.model} takes videos of up to {limits}", code="does_not_fit")
        self.work.wait(task, now)
        return [Save(task, 0), Publish(task, messages.CREATED), *self.dispatch(now)]

    def cancel(self, task: Task, now: float) -> list[Effect]:
        """The owner does not want the task any more; cancelling twice is harmless.

        The task ends at once; whoever works on it is told, and its slot stays taken until it has stopped. `task` is
        the stored record, used where the task is not open.

        Raises:
            IllegalMove: it completed or failed already.
        """
        task = self.work.newest(task)
        if task.state is State.CANCELLED:
            return []
        after = moves.cancel(task, now)
        self.offers.forget(task.id)
        told = self.presence.call_off(task, "cancelled", now)
        return told + self.work.settle(task, after, messages.CANCELLED, now) + self.dispatch(now)

    def retry(self, task: Task, now: float) -> list[Effect]:
        """The owner wants an ended task done after all.

        Raises:
            IllegalMove: it is still open, or completed.
        """
        if task.id in self.tasks:
            raise IllegalMove("the task is still open", code=f"task_{self.tasks[task.id].state}")
        task = self.work.newest(task)
        after = moves.retry(task, now)
        self.work.wait(after, now)
        self.work.ended.pop(task.id, None)
        return [Save(after, task.version), Publish(after, messages.UPDATED), *self.dispatch(now)]

    def delete(self, task: Task) -> list[Effect]:
        """The owner wants an ended task forgotten.

        Raises:
            IllegalMove: it is open.
        """
        task = self.work.newest(task)
        if not task.state.ended:
            raise IllegalMove(f"the task is {task.state}; cancel it first", code=f"task_{task.state}")
        return [Delete(Task, task.id, task.version), Publish(task, messages.DELETED)]

    def requeue(self, task: Task, now: float) -> list[Effect]:
        """An admin takes a running task from its worker; it waits again, and that was no attempt.

        Another worker is asked first, if there is one.

        Raises:
            IllegalMove: nobody works on it.
        """
        task = self.work.newest(task)
        if task.lease is None:
            raise IllegalMove("nobody works on this task", code=f"task_{task.state}")
        worker = task.lease.worker
        if somebody_else(task, (worker,), self.roster.able(task.model)):
            self.dispatcher.leave_out(task.id, worker, now + self.rules.stop_s)
        told = self.presence.call_off(task, "requeued", now)
        return told + self.work.release(task, moves.give_back(task, task.lease.id, now), now) + self.dispatch(now)

    # --- what becomes of workers --------------------------------------------------------------------------------

    def join(self, hello: Hello, now: float) -> list[Effect]:
        """A worker says hello; see `Presence.join`."""
        return self.presence.join(hello, now) + self.dispatch(now)

    def attach(self, session_id: str, now: float) -> None:
        """A connection carries the session again."""
        self.presence.attach(session_id, now)
        self.outlooks.renew(now)

    def detach(self, session_id: str, now: float) -> list[Effect]:
        """A session's connection is gone; what was offered over it is offered to others."""
        self.presence.detach(session_id, now)
        return self.dispatch(now)

    def know(self, interface: Interface, now: float) -> list[Effect]:
        """A registration as it is now: paused services get no offers, disabled ones are sent away."""
        return self.presence.know(interface, now) + self.dispatch(now)

    def forget_model(self, name: str) -> list[Effect]:
        """An admin wants a model forgotten; tasks that wait for it wait on.

        Raises:
            NotFound: there is none of this name.
            Conflict: code model_offered: a worker that is here has it.
        """
        if name not in self.models:
            raise NotFound("there is no such model")
        if name in self.roster.having:
            raise Conflict("an interface service that is here offers this model", code="model_offered")
        del self.models[name]
        return [Delete(OfferedModel, name)]

    def dismiss(self, session: WorkerSession, now: float) -> list[Effect]:
        """A worker may not be here any more: what it held waits again at once."""
        return self.presence.leave(session, now) + self.dispatch(now)

    # --- what workers say ---------------------------------------------------------------------------------------

    def receive(self, session_id: str, message: Message, now: float) -> list[Effect]:
        """One message from a worker; a repeated one changes nothing.

        Raises:
            NotFound: the session is gone; the worker must say hello again.
        """
        session = self.sessions.get(session_id)
        if session is None:
            raise NotFound("this session is gone, say hello again", code="session_gone")
        if not session.accept(message, now):
            return [] if message.n else [Send(session_id, UNNUMBERED)]
        match message:
            case Accept():
                return self.accepted(session, message, now)
            case Progress() | Renew() | Result() | Failed():
                try:
                    return self.reported(session, message, now)
                except LeaseLost:
                    return [Send(session.id, self.refusal(session, message)), *self.dispatch(now)]
            case Decline():
                self.offers.end(session, message.offer, now, refused=True)
            case Drain():
                self.presence.retire(session, now)
            case Status():
                session.stopped(message.slots_free, self.work.verifying)
            case Bye():
                return self.presence.leave(session, now) + self.dispatch(now)
            case _:
                problem = messages.Problem(code="unexpected", detail=f"no {type(message).__name__} is due now")
                return [Send(session_id, problem)]
        return self.dispatch(now)

    def accepted(self, session: WorkerSession, message: Accept, now: float) -> list[Effect]:
        """The worker takes what it was offered: a lease, stored before the assignment goes out."""
        task = self.offers.take(session, message.offer)
        if task is None:
            detail = f"offer {message.offer} is over"
            return [Send(session.id, messages.Problem(code="offer_gone", detail=detail, offer=message.offer))]
        lease = Lease(self.new_id(), session.worker, now + self.rules.lease_s)
        after = self.work.assign(task, lease, now)
        session.begin(lease.id, after)
        self.presence.suspicions.began(session.worker)
        link = self.links(after, lease.id)
        assign = messages.Assign(
            lease=lease.id, task=task.id, attempt=after.attempt, model=task.model, options=task.options,
            inputs=link.inputs, upload_url=link.upload_url,
        )
        self.outlooks.renew(now)
        return [Save(after, task.version), Send(session.id, assign), Publish(after, messages.ASSIGNED)]

    def reported(
        self, session: WorkerSession, message: Progress | Renew | Result | Failed, now: float
    ) -> list[Effect]:
        """A report about a task, from whoever claims to hold its lease.

        Raises:
            LeaseLost: the lease is not current, or another worker's.
        """
        task = self.work.leased(message.lease)
        if task is None or moves.held(task, message.lease).worker != session.worker:
            raise LeaseLost(f"lease {message.lease} is not yours or not current")
        session.leases.setdefault(message.lease, task.id)
        until = now + self.rules.lease_s
        match message:
            case Renew():
                return self.work.step(moves.renew(task, message.lease, until, now), now, shown=False)
            case Progress():
                ahead = moves.progress(task, message.lease, message.phase, message.progress, message.message, now)
                return self.work.step(moves.renew(ahead, message.lease, until, now), now)
            case Failed():
                problem = Problem(code_of(message), message.detail)
                effects = self.give_up(task, problem, message.retryable, now, message.retry_after or 0.0)
                self.work.finish(message.lease, report_of(message))
                return [*effects, Send(session.id, messages.FailedAck(lease=message.lease)), *self.dispatch(now)]
            case Result():
                return self.inspect(session, task, message)

    def inspect(self, session: WorkerSession, task: Task, message: Result) -> list[Effect]:
        """A result is looked into once; the same one again changes nothing, and another has come too late."""
        report = report_of(message)
        if task.id not in self.work.verifying:
            self.work.verifying[task.id] = report
            return [Verify(task, message.lease, tuple(message.artifacts))]
        if self.work.verifying[task.id] == report:
            return []
        detail = f"another result is being looked into for lease {message.lease}"
        return [Send(session.id, messages.Problem(code="result_taken", detail=detail))]

    def refusal(self, session: WorkerSession, message: Progress | Renew | Result | Failed) -> Message:
        """The answer to a report under a lease that is over: the end that counted is acknowledged again."""
        if isinstance(message, Result | Failed):
            session.stopping.pop(message.lease, None)  # whatever it ended with, it has ended
            if self.work.finished.get(message.lease) == report_of(message):
                kind = messages.ResultAck if isinstance(message, Result) else messages.FailedAck
                return kind(lease=message.lease)
        return messages.LeaseLost(lease=message.lease)

    def probed(self, task_id: str, lease_id: str, verdict: list[Media] | Mismatch, now: float) -> list[Effect]:
        """The hub has looked at a result: media records that stand for it, or why it is not accepted."""
        task = self.tasks.get(task_id)
        if task is None or task.lease is None or task.lease.id != lease_id:
            return []
        report, lease = self.work.verifying.pop(task_id, None), task.lease
        if isinstance(verdict, Mismatch):
            effects = self.give_up(task, Problem(verdict.code, verdict.detail), True, now)
            effects += self.presence.tell(lease, messages.Problem(code=verdict.code, detail=verdict.detail))
        else:
            self.presence.vacate(lease)
            effects = self.presence.acquit(task, lease, now) + self.work.complete(task, lease, verdict, now)
        self.work.finish(lease_id, report)
        return effects + self.presence.tell(lease, messages.ResultAck(lease=lease_id)) + self.dispatch(now)

    def give_up(
        self, task: Task, problem: Problem, retryable: bool, now: float, retry_after: float = 0.0
    ) -> list[Effect]:
        """An attempt failed, and the worker on which it did is remembered."""
        assert task.lease is not None
        lease = task.lease
        self.presence.vacate(lease)
        effects = self.work.give_up(task, lease, problem, retryable, now, retry_after)
        if problem.code == UNSEEN:
            return effects
        mild = not retryable or problem.code == REFUSED
        return effects + self.presence.suspect(task, lease, problem.code, now, mild)

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: silent offers, ended leases, workers long gone, tasks whose backoff is over."""
        if self.ticked_at is not None and now - self.ticked_at > self.rules.pause_s:
            self.work.forgive(now)
            self.presence.forgive(now)
        self.ticked_at = now
        effects = self.work.flush(now)
        for session in list(self.sessions.values()):
            effects += self.presence.look_after(session, now)
        for task, lease, problem in self.work.overdue(now):
            effects += self.presence.tell(lease, messages.LeaseLost(lease=lease.id))
            effects += self.presence.lose(task, lease, problem, now, now + self.rules.stop_s)
        self.dispatcher.wake(now)
        return effects + self.dispatch(now)

    # --- telling ------------------------------------------------------------------------------------------------

    def outlook(self, task: Task) -> Outlook:
        """What can be told about an open task; what is not known is None."""
        return self.outlooks.of(task)

    def verdicts(self, facts: Facts) -> list[Verdict]:
        """What can be told of a video for each model, by the models' names."""
        told = []
        for name, model in sorted(self.models.items()):
            staff = self.outlooks.staff(name, facts)
            told.append(judge(model, facts, self.work.estimates.span(name, facts), staff.present, staff.usable))
        return told

    def ready_workers(self, model: str) -> int:
        """How many connected workers take offers for a model."""
        return len(self.roster.able(model))

    def lease_of(self, lease_id: str) -> Task:
        """The task that a current lease is for.

        Raises:
            Conflict: the lease is over.
        """
        task = self.work.leased(lease_id)
        if task is None:
            raise Conflict("this lease is over", code="lease_lost")
        return task
