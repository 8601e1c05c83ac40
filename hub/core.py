"""The core: what users do, what workers say, and what time brings, decided in plain synchronous code.

Owns how workers and tasks come together: the sessions (roster) and the open tasks (workload) know nothing of each
other. Each method takes what happened and `now` (seconds), and returns the effects to carry out, in order; a refusal
is raised before anything has changed. Never awaits, stores, sends or reads a clock; ids and chance come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from . import messages, task as moves
from .effects import Close, Effect, Publish, Save, Send, Verify
from .errors import Conflict, Invalid, NotFound
from .estimate import Span
from .interface import Interface, OfferedModel
from .media import Media, Mismatch
from .messages import Accept, Bye, Decline, Drain, Failed, Hello, Message, Progress, Renew, Result, Status
from .roster import Roster
from .rules import Rules
from .session import Offered, Phase, WorkerSession
from .task import IllegalMove, Lease, LeaseLost, Problem, State, Task
from .workload import REFUSED, Report, Workload

CLOSE_REPLACED, CLOSE_GONE, CLOSE_DISABLED = 4409, 1001, 4403


@dataclass(frozen=True, slots=True)
class Link:
    """Where a worker fetches inputs and puts results: made by `links`, because the core knows no addresses."""

    inputs: list[messages.Input]
    upload_url: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What can be told of an open task: its place in line, seconds until it is done, and why it waits."""

    position: int | None = None
    eta: Span | None = None
    blocked_by: str | None = None


class Core:
    """All open tasks and all present workers.

    `links` makes the addresses for one lease on one task, `new_id` gives a fresh id at each call, `random` a number
    from 0 to 1. `offered` says by task id which session holds which offer.
    """

    def __init__(
        self, rules: Rules, new_id: Callable[[], str], links: Callable[[Task, str], Link],
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.rules = rules
        self.new_id = new_id
        self.links = links
        self.work = Workload(rules, random)
        self.roster = Roster(rules.suspect_after)
        self.offered: dict[str, tuple[str, str]] = {}
        self.ticked_at: float | None = None
        self.tasks, self.leases, self.dispatcher = self.work.tasks, self.work.leases, self.work.dispatcher
        self.sessions, self.by_worker, self.models = self.roster.sessions, self.roster.by_worker, self.roster.models
        self.session_of = self.roster.session_of

    def boot(
        self, tasks: Iterable[Task], models: Iterable[OfferedModel], now: float, interfaces: Iterable[Interface] = ()
    ) -> None:
        """Take over what the store remembers; every running lease gets a full heartbeat to speak up."""
        self.models.update({model.id: model for model in models})
        for interface in interfaces:
            self.roster.know(interface)
        for task in tasks:
            self.adopt(task, now)

    def adopt(self, task: Task, now: float) -> None:
        """Believe the store about one task, whatever was believed before."""
        self.forget(task.id)
        self.work.adopt(task, now)
        if task.lease is not None and not task.state.ended:
            session = self.session_of(task.lease.worker)
            if session is not None:
                session.leases[task.lease.id] = task.id

    def forget(self, task_id: str) -> None:
        """A task is nothing to this core any more: it ended, or another process moved it."""
        task = self.tasks.get(task_id)
        session_id, offer_id = self.offered.pop(task_id, ("", ""))
        if session_id in self.sessions:
            self.sessions[session_id].offers.pop(offer_id, None)
        if task is not None and task.lease is not None:
            self.vacate(task.lease)
        self.work.forget(task_id)

    def vacate(self, lease: Lease, stopping_until: float | None = None) -> None:
        """A lease is over: its slot is free, at once or when its holder has stopped."""
        session = self.session_of(lease.worker)
        if session is not None and session.leases.pop(lease.id, None) is not None:
            session.untold.discard(lease.id)
            if stopping_until is not None:
                session.stopping[lease.id] = stopping_until

    # --- what users do ------------------------------------------------------------------------------------------

    def submit(self, task: Task, now: float) -> list[Effect]:
        """A user's new task.

        Raises:
            Invalid: no worker has ever offered that model.
        """
        if task.model not in self.models:
            known = ", ".join(sorted(self.models)) or "none yet"
            raise Invalid(f"no interface service offers the model {task.model!r}; known: {known}", code="unknown_model")
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
        return self.call_off(task, "cancelled", now) + self.settle(task, after, messages.CANCELLED, now)

    def call_off(self, task: Task, reason: str, now: float) -> list[Effect]:
        """Tell whoever works on a task to stop."""
        if task.lease is None:
            return []
        self.vacate(task.lease, now + self.rules.stop_s)
        return self.tell(task.lease, messages.Cancel(lease=task.lease.id, reason=reason))

    def settle(self, before: Task, after: Task, event: str, now: float) -> list[Effect]:
        """A task ends by somebody's word, wherever it is; what that frees is offered on."""
        session_id, offer_id = self.offered.pop(before.id, ("", ""))
        if session_id in self.sessions:
            self.sessions[session_id].offers.pop(offer_id, None)
        return self.work.settle(before, after, event, now) + self.dispatch(now)

    def retry(self, task: Task, now: float) -> list[Effect]:
        """The owner wants an ended task done after all.

        Raises:
            IllegalMove: it is still open, or completed.
        """
        if task.id in self.tasks:
            raise IllegalMove("the task is still open", code=f"task_{self.tasks[task.id].state}")
        task = self.work.newest(task)
        after = moves.retry(task, now)
        self.work.ended.pop(task.id, None)
        self.work.wait(after, now)
        return [Save(after, task.version), Publish(after, messages.UPDATED), *self.dispatch(now)]

    def requeue(self, task: Task, now: float) -> list[Effect]:
        """An admin takes a running task from its worker; it waits again, and that was no attempt.

        Raises:
            IllegalMove: nobody works on it.
        """
        task = self.work.newest(task)
        if task.lease is None:
            raise IllegalMove("nobody works on this task", code=f"task_{task.state}")
        lease = task.lease
        told = self.call_off(task, "requeued", now)
        return told + self.work.hand_back(task, lease, 0.0, now) + self.dispatch(now)

    # --- what admins do -----------------------------------------------------------------------------------------

    def know(self, interface: Interface, now: float) -> list[Effect]:
        """A registration as it is now: paused services get no offers, disabled ones are sent away."""
        session = self.roster.know(interface)
        if session is None:
            return self.dispatch(now)
        if not interface.enabled:
            return self.remove(session, "disabled by an admin", CLOSE_DISABLED) + self.dispatch(now)
        if session.paused:
            self.withdraw(session, now)
        return self.dispatch(now)

    def unregister(self, name: str, now: float) -> list[Effect]:
        """A registration is gone, and its service with it."""
        self.roster.interfaces.pop(name, None)
        session = self.session_of(name)
        if session is None:
            return []
        return self.remove(session, "removed by an admin", CLOSE_DISABLED) + self.dispatch(now)

    def drain(self, name: str, reason: str, now: float) -> list[Effect]:
        """A worker shall finish what it has and get nothing more until it comes anew."""
        session = self.session_of(name)
        if session is None:
            raise NotFound("this worker is not connected")
        session.phase = Phase.DRAINING
        self.withdraw(session, now)
        return [Send(session.id, messages.Drain(reason=reason)), *self.dispatch(now)]

    # --- a worker's presence ------------------------------------------------------------------------------------

    def join(self, hello: Hello, now: float) -> list[Effect]:
        """A worker says hello: a new session, or the old one resumed; leases that it does not run are given up."""
        effects: list[Effect] = []
        session = self.session_of(hello.worker)
        resumed = session is not None and session.instance == hello.instance
        if session is not None and not resumed:
            effects += self.remove(session, "another instance of this worker has joined", CLOSE_REPLACED)
        if session is None or not resumed:
            session = WorkerSession(self.new_id(), hello, now)
            self.roster.enter(session)
        else:
            session.attached, session.heard_at = True, now
            session.describe(hello)
        effects.append(Send(session.id, messages.Welcome(
            session=session.id, heartbeat_s=self.rules.heartbeat_s, renew_s=self.rules.renew_s,
            lease_s=self.rules.lease_s, resumed=resumed,
        )))
        effects += self.reconcile(session, set(hello.running), now)
        effects += self.roster.learn_models(hello)
        return effects + self.dispatch(now)

    def reconcile(self, session: WorkerSession, running: set[str], now: float) -> list[Effect]:
        """Compare the leases that the hub believes in with those that the worker says it runs."""
        effects: list[Effect] = []
        believed = {
            lease_id: self.tasks[task_id] for lease_id, task_id in self.leases.items()
            if self.tasks[task_id].worker == session.worker
        }
        for lease_id, task in believed.items():
            if lease_id in running or lease_id in session.untold or task.id in self.work.verifying:
                session.leases[lease_id] = task.id
                self.work.extend(task, now)
            else:
                problem = Problem("worker_lost", f"{session.worker} came back without this task")
                effects += self.lose(task, moves.held(task, lease_id), problem, now)
        for lease_id in sorted(running - believed.keys()):
            effects.append(Send(session.id, messages.LeaseLost(lease=lease_id)))
        return effects

    def attach(self, session_id: str, now: float) -> None:
        """A connection carries the session again."""
        session = self.sessions[session_id]
        session.attached, session.heard_at = True, now

    def detach(self, session_id: str, now: float) -> list[Effect]:
        """The connection is gone, the worker perhaps not: no new offers, its leases live on until they end."""
        session = self.sessions.get(session_id)
        if session is None:
            return []
        session.attached = False
        self.withdraw(session, now)
        return self.dispatch(now)

    def withdraw(self, session: WorkerSession, now: float) -> None:
        """Take back what was offered and not yet accepted."""
        for offer in session.offers.values():
            self.offer_again(offer.task_id, None, now)
        session.offers.clear()

    def remove(self, session: WorkerSession, reason: str, code: int) -> list[Effect]:
        """End a session for good; its leases end by themselves, or when the worker comes back without them."""
        self.withdraw(session, session.heard_at)
        self.roster.leave(session)
        return [Close(session.id, code, reason)]

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
            return []
        match message:
            case Accept():
                return self.accepted(session, message, now)
            case Decline():
                return self.declined(session, message, now)
            case Progress() | Renew() | Result() | Failed():
                try:
                    return self.reported(session, message, now)
                except LeaseLost:
                    return self.refuse(session, message)
            case Drain():
                session.phase = Phase.DRAINING
                self.withdraw(session, now)
                return self.dispatch(now)
            case Bye():
                return self.said_bye(session, now)
            case Status():
                session.stopped(message.slots_free)
                return self.dispatch(now)
            case _:
                problem = messages.Problem(code="unexpected", detail=f"no {type(message).__name__} is due now")
                return [Send(session_id, problem)]

    def accepted(self, session: WorkerSession, message: Accept, now: float) -> list[Effect]:
        """The worker takes what it was offered: a lease, stored before the assignment goes out."""
        offer = session.offers.pop(message.offer, None)
        if offer is None:
            return [Send(session.id, messages.Problem(code="offer_gone", detail=f"offer {message.offer} is over"))]
        task = self.tasks[offer.task_id]
        del self.offered[task.id]
        lease = Lease(self.new_id(), session.worker, now + self.rules.lease_s)
        after = self.work.assign(task, lease, now)
        session.leases[lease.id] = task.id
        session.untold.add(lease.id)
        session.warm = task.model
        link = self.links(after, lease.id)
        assign = messages.Assign(
            lease=lease.id, task=task.id, attempt=after.attempt, model=task.model, options=task.options,
            inputs=link.inputs, upload_url=link.upload_url,
        )
        return [Save(after, task.version), Send(session.id, assign), Publish(after, messages.ASSIGNED)]

    def declined(self, session: WorkerSession, message: Decline, now: float) -> list[Effect]:
        """The worker does not want it: somebody else's turn."""
        offer = session.offers.pop(message.offer, None)
        if offer is not None:
            self.offer_again(offer.task_id, session.worker, now)
        return self.dispatch(now)

    def offer_again(self, task_id: str, declined_by: str | None, now: float) -> None:
        """An offer came to nothing; the task goes back to its place."""
        del self.offered[task_id]
        self.dispatcher.put_back(self.tasks[task_id], declined_by, now)

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
                problem = Problem(message.code, message.detail)
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

    def refuse(self, session: WorkerSession, message: Progress | Renew | Result | Failed) -> list[Effect]:
        """A report under a lease that is over: the end that was counted is acknowledged again, all else is lost."""
        answer: Message = messages.LeaseLost(lease=message.lease)
        if isinstance(message, Result | Failed):
            session.stopping.pop(message.lease, None)  # whatever it ended with, it has ended
            if self.work.finished.get(message.lease) == report_of(message):
                kind = messages.ResultAck if isinstance(message, Result) else messages.FailedAck
                answer = kind(lease=message.lease)
        return [Send(session.id, answer)]

    def said_bye(self, session: WorkerSession, now: float) -> list[Effect]:
        """The worker leaves and runs nothing more: what it held is free at once, but for results under inspection."""
        effects: list[Effect] = []
        for lease_id, task_id in list(session.leases.items()):
            if task_id not in self.work.verifying:
                task = self.tasks[task_id]
                problem = Problem("worker_left", f"{session.worker} left")
                effects += self.lose(task, moves.held(task, lease_id), problem, now)
        return effects + self.remove(session, "goodbye", CLOSE_GONE) + self.dispatch(now)

    def probed(self, task_id: str, lease_id: str, verdict: list[Media] | Mismatch, now: float) -> list[Effect]:
        """The hub has looked at a result: media records that stand for it, or why it is not accepted."""
        task = self.tasks.get(task_id)
        if task is None or task.lease is None or task.lease.id != lease_id:
            return []
        report = self.work.verifying.pop(task_id, None)
        lease = task.lease
        self.vacate(lease)
        if isinstance(verdict, Mismatch):
            effects = self.give_up(task, Problem(verdict.code, verdict.detail), True, now)
            effects += self.tell(lease, messages.Problem(code=verdict.code, detail=verdict.detail))
        else:
            self.roster.succeeded(lease.worker)
            effects = self.work.complete(task, lease, verdict, now)
        self.work.finish(lease_id, report)
        return effects + self.tell(lease, messages.ResultAck(lease=lease_id)) + self.dispatch(now)

    def give_up(
        self, task: Task, problem: Problem, retryable: bool, now: float, retry_after: float = 0.0
    ) -> list[Effect]:
        """An attempt failed; the worker on which it did is remembered."""
        assert task.lease is not None
        lease = task.lease
        self.vacate(lease)
        effects = self.work.give_up(task, lease, problem, retryable, now, retry_after)
        if retryable and problem.code != REFUSED:
            effects += self.roster.failed(lease.worker, task.id, problem.code)
        return effects

    def lose(self, task: Task, lease: Lease, problem: Problem, now: float) -> list[Effect]:
        """A worker has lost a task."""
        self.vacate(lease)
        return self.work.lose(task, lease, problem, now)

    def tell(self, lease: Lease, message: Message) -> list[Effect]:
        """A message to the worker that holds, or held, a lease; nothing if it is not here."""
        session = self.session_of(lease.worker)
        return [] if session is None else [Send(session.id, message)]

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: silent offers, ended leases, workers long gone, tasks whose backoff is over."""
        if self.ticked_at is not None and now - self.ticked_at > self.rules.pause_s:
            self.grace(now)
        self.ticked_at = now
        effects = self.work.flush(now)
        for session in list(self.sessions.values()):
            effects += self.look_after(session, now)
        for task, lease, problem in self.work.overdue(now):
            effects += self.tell(lease, messages.LeaseLost(lease=lease.id))
            effects += self.lose(task, lease, problem, now)
        self.dispatcher.wake(now)
        return effects + self.dispatch(now)

    def look_after(self, session: WorkerSession, now: float) -> list[Effect]:
        """Whatever has run out in one session: offers, slots that should be free by now, patience."""
        for offer_id, offer in list(session.offers.items()):
            if offer.deadline <= now:
                del session.offers[offer_id]
                self.offer_again(offer.task_id, session.worker, now)
        session.stopping = {lease: until for lease, until in session.stopping.items() if until > now}
        if now - session.heard_at > 3 * self.rules.heartbeat_s:
            return self.remove(session, "silent for too long", CLOSE_GONE)
        return []

    def grace(self, now: float) -> None:
        """The hub itself was away: nobody is blamed for the silence, every lease gets a full heartbeat."""
        for task_id in self.leases.values():
            self.work.extend(self.tasks[task_id], now)
        self.work.pacing.forgive(now)
        for session in self.sessions.values():
            session.heard_at = now
            session.offers = {
                id: replace(offer, deadline=now + self.rules.offer_s) for id, offer in session.offers.items()
            }

    # --- offers and outlooks ------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> list[Effect]:
        """Offer waiting tasks to free workers."""
        effects: list[Effect] = []
        for task_id, session in self.dispatcher.match(self.sessions.values(), now):
            task = self.tasks[task_id]
            offer_id = self.new_id()
            session.offers[offer_id] = Offered(task_id, now + self.rules.offer_s)
            self.offered[task_id] = (session.id, offer_id)
            facts = task.video.facts
            effects.append(Send(session.id, messages.Offer(
                offer=offer_id, task=task_id, model=task.model, deadline_s=self.rules.offer_s,
                video={
                    "width": facts.width, "height": facts.height, "fps": facts.fps, "frames": facts.frames,
                    "duration": facts.duration, "size": task.video.size,
                },
            )))
        return effects

    def outlook(self, task: Task) -> Outlook:
        """What can be told about an open task; what is not known is None."""
        own = self.work.estimates.span(task.model, task.video.facts, task.worker or "")
        if task.state is State.PROCESSING:
            return Outlook(eta=own.scaled(1 - task.progress / 100) if own is not None else None)
        if task.state is not State.WAITING:
            return Outlook()
        blocked_by = self.dispatcher.blocked_by(task, self.sessions.values())
        position = self.dispatcher.position(task)
        able = [session for session in self.roster.able(task.model)]
        slots = sum(session.slots for session in able)
        if own is None or position is None or not slots or blocked_by == "your_limit":
            return Outlook(position, None, blocked_by)
        before = own.scaled((position - 1) / slots)
        busy = own.scaled(0.5) if blocked_by == "all_busy" else Span(0.0, 0.0)
        return Outlook(position, before + busy + own, blocked_by)

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


def report_of(message: Result | Failed) -> Report:
    """What makes a report of an end the same report when it is sent again."""
    return tuple(message.artifacts) if isinstance(message, Result) else message.code
