"""How workers come, stay, fall silent and go, and what becomes of the leases that they hold.

Owns the moves of sessions: joining, losing and regaining a connection, draining, leaving, being sent away. Never
looks into a result and never offers a task: what a move frees is offered on by the core.
"""

from __future__ import annotations

from collections.abc import Callable

from . import messages, task as moves
from .effects import Close, Effect, Send
from .errors import Forbidden
from .interface import Interface
from .messages import Hello, Message
from .offers import Offers
from .roster import Roster
from .rules import Rules
from .session import Phase, WorkerSession
from .suspicion import Suspicions
from .task import Lease, Problem, Task
from .workload import ENDS_WORKERS, Workload

CLOSE_REPLACED, CLOSE_GONE, CLOSE_DISABLED = 4409, 1001, 4403
REPLACED = "another instance of this worker has joined"
MOST_DISPLACED = 16  # earlier instances of one worker that are remembered


class Presence:
    """The workers' side of every lease."""

    def __init__(
        self, rules: Rules, work: Workload, roster: Roster, offers: Offers, new_id: Callable[[], str]
    ) -> None:
        self.rules = rules
        self.work = work
        self.roster = roster
        self.offers = offers
        self.new_id = new_id
        self.suspicions = Suspicions(rules.suspect_after)

    # --- coming -------------------------------------------------------------------------------------------------

    def join(self, hello: Hello, now: float) -> list[Effect]:
        """A worker says hello: a new session, or the old one resumed; leases that it does not run are given up.

        Raises:
            Forbidden: the instance that took this one's place is here.
        """
        effects: list[Effect] = []
        known = self.roster.session_of(hello.worker)
        if known is not None and hello.instance in known.displaced:
            raise Forbidden(REPLACED)
        resumed = known is not None and known.instance == hello.instance
        if known is not None and resumed:
            session = known
            self.attach(session.id, now)
            self.roster.describe(session, hello)
        else:
            if known is not None:
                effects += self.remove(known, REPLACED, CLOSE_REPLACED, now)
            session = WorkerSession(self.new_id(), hello, now)
            if known is not None:
                session.displaced = (*known.displaced, known.instance)[-MOST_DISPLACED:]
            self.roster.enter(session)
        effects.append(Send(session.id, messages.Welcome(
            session=session.id, heartbeat_s=self.rules.heartbeat_s, renew_s=self.rules.renew_s,
            lease_s=self.rules.lease_s, resumed=resumed,
        )))
        died = known is not None and not resumed
        late = resumed and session.outdated(hello)
        effects += self.reconcile(session, set(hello.running), late, moves.LOST if died else "not_running", now)
        effects += self.roster.learn_models(hello)
        if unknown := [model.name for model in hello.models if model.name not in self.roster.models]:
            detail = f"there are too many models already, these are left out: {', '.join(unknown)}"
            effects.append(Send(session.id, messages.Problem(code="too_many_models", detail=detail)))
        return effects

    def reconcile(
        self, session: WorkerSession, running: set[str], late: bool, code: str, now: float
    ) -> list[Effect]:
        """Compare the leases that the hub believes in with those that the worker says it runs.

        `code` is for those that it does not run: a worker that has not died since may never have heard of them. What
        comes `late`, behind words that were said after it, does not end any.
        """
        effects: list[Effect] = []
        believed = {
            lease_id: self.work.tasks[task_id] for lease_id, task_id in self.work.leases.items()
            if self.work.tasks[task_id].worker == session.worker
        }
        for lease_id, task in believed.items():
            if late or lease_id in running or lease_id in session.untold or task.id in self.work.verifying:
                session.leases[lease_id] = task.id
                self.work.extend(task, now)
            else:
                problem = Problem(code, f"{session.worker} came back without this task")
                effects += self.lose(task, moves.held(task, lease_id), problem, now)
        for lease_id in sorted(running - believed.keys()):
            if self.work.finished.get(lease_id) is None:  # it has not reported an end that counted: it is still at it
                session.stopping[lease_id] = now + self.rules.stop_s
                self.offers.withdraw(session, now)
            effects.append(Send(session.id, messages.LeaseLost(lease=lease_id)))
        return effects

    def attach(self, session_id: str, now: float) -> None:
        """A connection carries the session again."""
        session = self.roster.sessions[session_id]
        session.attached, session.heard_at = True, now

    # --- going --------------------------------------------------------------------------------------------------

    def detach(self, session_id: str, now: float) -> None:
        """The connection is gone, the worker perhaps not: no new offers, its leases live on until they end."""
        session = self.roster.sessions.get(session_id)
        if session is not None:
            session.attached = False
            self.offers.withdraw(session, now)

    def retire(self, session: WorkerSession, now: float) -> None:
        """The worker finishes what it has and gets nothing more until it comes anew."""
        session.phase = Phase.DRAINING
        self.offers.withdraw(session, now)

    def leave(self, session: WorkerSession, now: float) -> list[Effect]:
        """The worker says goodbye: what it held is free at once, but for results that are being looked into."""
        effects: list[Effect] = []
        for lease_id, task_id in list(session.leases.items()):
            if task_id not in self.work.verifying:
                task = self.work.tasks[task_id]
                effects += self.lose(
                    task, moves.held(task, lease_id), Problem("worker_left", f"{session.worker} left"), now,
                )
        return effects + self.remove(session, "goodbye", CLOSE_GONE, now)

    def remove(self, session: WorkerSession, reason: str, code: int, now: float) -> list[Effect]:
        """End a session for good; its leases end by themselves, or when the worker comes back without them."""
        self.offers.withdraw(session, now)
        self.roster.leave(session)
        return [Close(session.id, code, reason)]

    # --- what admins want ---------------------------------------------------------------------------------------

    def know(self, interface: Interface, now: float) -> list[Effect]:
        """A registration as it is now: paused services get no offers, disabled ones are sent away."""
        session = self.roster.know(interface)
        if session is None:
            return []
        if not self.roster.interfaces[interface.id].enabled:
            return self.remove(session, "disabled by an admin", CLOSE_DISABLED, now)
        if session.paused:
            self.offers.withdraw(session, now)
        return []

    # --- leases -------------------------------------------------------------------------------------------------

    def hold(self, lease: Lease, task_id: str) -> None:
        """A worker, if it is here, holds a lease."""
        session = self.roster.session_of(lease.worker)
        if session is not None:
            session.leases[lease.id] = task_id
            session.stopping.pop(lease.id, None)

    def vacate(self, lease: Lease, stopping_until: float | None = None) -> None:
        """A lease is over: its slot is free, at once or when its holder has stopped."""
        session = self.roster.session_of(lease.worker)
        if session is not None and session.leases.pop(lease.id, None) is not None:
            session.untold.discard(lease.id)
            if stopping_until is not None:
                session.stopping[lease.id] = stopping_until

    def knows(self, lease: Lease) -> bool:
        """Whether a worker that is here was told that it holds a lease."""
        session = self.roster.session_of(lease.worker)
        return session is not None and session.knows(lease.id)

    def call_off(self, task: Task, reason: str, now: float) -> list[Effect]:
        """Tell whoever works on a task to stop; the slot stays taken until it has, if it still works."""
        if task.lease is None:
            return []
        self.vacate(task.lease, None if task.id in self.work.verifying else now + self.rules.stop_s)
        return self.tell(task.lease, messages.Cancel(lease=task.lease.id, reason=reason))

    def lose(
        self, task: Task, lease: Lease, problem: Problem, now: float, stopping_until: float | None = None
    ) -> list[Effect]:
        """A worker has lost a task; if nobody has said that it stopped, its slot stays taken until `stopping_until`."""
        self.vacate(lease, stopping_until)
        effects = self.work.lose(task, lease, problem, now)
        if problem.code in ENDS_WORKERS:
            effects += self.suspect(task, lease, problem.code, now)
        return effects

    def suspect(self, task: Task, lease: Lease, code: str, now: float, mild: bool = False) -> list[Effect]:
        """Remember against a worker that a task failed on it; one that fails everything is paused.

        Of one that is not here nothing is known: it may be at another hub, and well.
        """
        interface = self.roster.interfaces.get(lease.worker)
        if interface is None or interface.paused or self.roster.session_of(lease.worker) is None:
            return []
        if not self.suspicions.failed(lease.worker, task, code, mild):
            return []
        return self.pause(lease.worker, code, now)

    def acquit(self, task: Task, lease: Lease, now: float) -> list[Effect]:
        """A worker has completed a task: what failed on it was not its fault, but this task was no other's fault."""
        guilty = self.suspicions.completed(lease.worker, task)
        return [effect for worker, code in guilty.items() for effect in self.pause(worker, code, now)]

    def pause(self, worker: str, code: str, now: float) -> list[Effect]:
        """A worker has failed too much, the last with `code`: it gets nothing more until an admin has looked at it."""
        self.suspicions.forget(worker)
        session = self.roster.session_of(worker)
        effects = self.roster.pause(worker, f"one task after the other failed here, the last with {code}")
        if session is not None:
            self.offers.withdraw(session, now)
        return effects

    def tell(self, lease: Lease, message: Message) -> list[Effect]:
        """A message to the worker that holds, or held, a lease; nothing if it is not here."""
        session = self.roster.session_of(lease.worker)
        return [] if session is None else [Send(session.id, message)]

    # --- time ---------------------------------------------------------------------------------------------------

    def look_after(self, session: WorkerSession, now: float) -> list[Effect]:
        """Whatever has run out in one session: offers, slots that should be free by now, patience."""
        self.offers.expire(session, now)
        session.stopping = {lease: until for lease, until in session.stopping.items() if until > now}
        if now - session.heard_at > 3 * self.rules.heartbeat_s:
            return self.remove(session, "silent for too long", CLOSE_GONE, now)
        return []

    def forgive(self, now: float) -> None:
        """The hub itself was away: nobody is blamed for the silence."""
        for session in self.roster.sessions.values():
            session.heard_at = now
            self.offers.extend(session, now)
