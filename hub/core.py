"""The core: every decision about tasks and workers, in plain synchronous code.

Owns the open tasks, the worker sessions and who holds which lease. Each method takes what happened and `now`
(seconds), and returns the effects to carry out, in order; a refusal is raised before anything has changed.
Never awaits, stores, sends or reads a clock; ids come from the function given at construction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from . import messages, task as moves
from .dispatcher import Dispatcher
from .effects import Close, Effect, Publish, Save, Send, Verify
from .errors import Conflict, Invalid, NotFound
from .interface import OfferedModel, offered
from .media import Media, Mismatch
from .messages import Accept, Bye, Decline, Drain, Failed, Hello, Message, Progress, Renew, Result, Status
from .session import Offered, Phase, WorkerSession
from .task import IllegalMove, Lease, LeaseLost, Output, Problem, State, Task

FINISHED_KEPT = 10_000  # ended leases remembered, so that a report sent twice is answered like the first
ENDED_KEPT = 2_000  # ended tasks remembered, because the store may not have heard of their end yet
UNSTORED = 100_000  # more versions than a task's progress can be ahead of the store
CLOSE_REPLACED, CLOSE_GONE = 4409, 1001


@dataclass(frozen=True, slots=True)
class Rules:
    """The intervals and limits of the machine; all in seconds, `backoff` by attempt."""

    lease_s: float = 120.0
    renew_s: float = 30.0
    heartbeat_s: float = 60.0
    offer_s: float = 5.0
    max_attempts: int = 3
    backoff_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    save_every_s: float = 1.0
    publish_every_s: float = 0.25
    pause_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Link:
    """Where a worker fetches inputs and puts results: made by `links`, because the core knows no addresses."""

    inputs: list[messages.Input]
    upload_url: str


Report = tuple[messages.Artifact, ...] | str  # what a worker said of an end: its files, or its failure's code


@dataclass(slots=True)
class Pace:
    """What of a running task's progress was already stored and shown."""

    stored_version: int
    stored_at: float
    shown_version: int
    shown_at: float


class Core:
    """All open tasks and all present workers.

    `links` makes the addresses for one lease on one task; `new_id` gives a fresh id at each call. `offered` says by
    task id which session holds which offer, `verifying` and `finished` by task and lease id which report was taken.
    """

    def __init__(self, rules: Rules, new_id: Callable[[], str], links: Callable[[Task, str], Link]) -> None:
        self.rules = rules
        self.new_id = new_id
        self.links = links
        self.tasks: dict[str, Task] = {}
        self.leases: dict[str, str] = {}
        self.offered: dict[str, tuple[str, str]] = {}
        self.verifying: dict[str, Report] = {}
        self.finished: OrderedDict[str, Report | None] = OrderedDict()
        self.ended: OrderedDict[str, Task] = OrderedDict()
        self.paces: dict[str, Pace] = {}
        self.sessions: dict[str, WorkerSession] = {}
        self.by_worker: dict[str, str] = {}
        self.models: dict[str, OfferedModel] = {}
        self.dispatcher = Dispatcher()
        self.ticked_at: float | None = None

    # --- boot ---------------------------------------------------------------------------------------------------

    def boot(self, tasks: Iterable[Task], models: Iterable[OfferedModel], now: float) -> None:
        """Take over what the store remembers; every running lease gets a full heartbeat to speak up."""
        self.models = {model.id: model for model in models}
        for task in tasks:
            self.adopt(task, now)

    def adopt(self, task: Task, now: float) -> None:
        """Believe the store about one task, whatever was believed before."""
        self.forget(task.id)
        if task.state.ended:
            return
        if task.lease is None:
            # Another process set not_before by its own clock: no backoff that is left can be longer than the longest.
            task = replace(task, not_before=min(task.not_before, now + max(self.rules.backoff_s)))
            self.tasks[task.id] = task
            self.dispatcher.add(task, now)
            return
        grace = replace(task.lease, expires_at=now + self.rules.heartbeat_s)
        # Viewers may have seen progress that was not stored any more: what they see next must be newer than that.
        running = self.tasks[task.id] = replace(task, lease=grace, version=task.version + UNSTORED)
        self.leases[grace.id] = task.id
        self.finished.pop(grace.id, None)
        self.paces[task.id] = Pace(task.version, now, running.version, now)
        session = self.session_of(grace.worker)
        if session is not None:
            session.leases[grace.id] = task.id

    def forget(self, task_id: str) -> None:
        """A task is nothing to this core any more: it ended, or another process moved it."""
        task = self.tasks.pop(task_id, None)
        self.dispatcher.remove(task_id)
        self.paces.pop(task_id, None)
        self.verifying.pop(task_id, None)
        self.ended.pop(task_id, None)
        session_id, offer_id = self.offered.pop(task_id, ("", ""))
        if session_id in self.sessions:
            self.sessions[session_id].offers.pop(offer_id, None)
        if task is not None and task.lease is not None:
            self.drop_lease(task.lease)

    def drop_lease(self, lease: Lease) -> None:
        """A lease ended: its slot is free again."""
        self.leases.pop(lease.id, None)
        self.finished[lease.id] = None
        if len(self.finished) > FINISHED_KEPT:
            self.finished.popitem(last=False)
        session = self.session_of(lease.worker)
        if session is not None:
            session.leases.pop(lease.id, None)
            session.untold.discard(lease.id)

    def newest(self, task: Task) -> Task:
        """What is true of a task by now: the store, which said `task`, may not have heard of it yet."""
        known = self.tasks.get(task.id) or self.ended.get(task.id)
        return task if known is None or known.version < task.version else known

    # --- what users do ------------------------------------------------------------------------------------------

    def submit(self, task: Task, now: float) -> list[Effect]:
        """A user's new task.

        Raises:
            Invalid: no worker has ever offered that model.
        """
        if task.model not in self.models:
            known = ", ".join(sorted(self.models)) or "none yet"
            raise Invalid(f"no interface service offers the model {task.model!r}; known: {known}", code="unknown_model")
        self.tasks[task.id] = task
        self.dispatcher.add(task, now)
        return [Save(task, 0), Publish(task, messages.CREATED), *self.dispatch(now)]

    def cancel(self, task: Task, now: float) -> list[Effect]:
        """The owner does not want the task any more; cancelling twice is harmless.

        `task` is the stored record, used where the task is not open.

        Raises:
            IllegalMove: it completed or failed already.
        """
        task = self.newest(task)
        if task.state is State.CANCELLED:
            return []
        after = moves.cancel(task, now)
        effects: list[Effect] = self.settle(task, after, messages.CANCELLED)
        if task.lease is not None:
            effects += self.tell(task.lease, messages.Cancel(lease=task.lease.id, reason="cancelled"))
        return effects + self.dispatch(now)

    def retry(self, task: Task, now: float) -> list[Effect]:
        """The owner wants an ended task done after all.

        Raises:
            IllegalMove: it is still open, or completed.
        """
        if task.id in self.tasks:
            raise IllegalMove("the task is still open", code=f"task_{self.tasks[task.id].state}")
        task = self.newest(task)
        after = moves.retry(task, now)
        self.ended.pop(task.id, None)
        self.tasks[after.id] = after
        self.dispatcher.add(after, now)
        return [Save(after, task.version), Publish(after, messages.UPDATED), *self.dispatch(now)]

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
            self.sessions[session.id] = session
            self.by_worker[session.worker] = session.id
        else:
            session.attached, session.heard_at = True, now
            session.describe(hello)
        if session.phase is Phase.GONE:
            session.phase = Phase.READY
        effects.append(Send(session.id, messages.Welcome(
            session=session.id, heartbeat_s=self.rules.heartbeat_s, renew_s=self.rules.renew_s,
            lease_s=self.rules.lease_s, resumed=resumed,
        )))
        effects += self.reconcile(session, set(hello.running), now)
        effects += self.learn_models(hello)
        return effects + self.dispatch(now)

    def reconcile(self, session: WorkerSession, running: set[str], now: float) -> list[Effect]:
        """Compare the leases that the hub believes in with those that the worker says it runs."""
        effects: list[Effect] = []
        believed = {
            lease_id: self.tasks[task_id] for lease_id, task_id in self.leases.items()
            if self.tasks[task_id].worker == session.worker
        }
        for lease_id, task in believed.items():
            if lease_id in running or lease_id in session.untold or task.id in self.verifying:
                session.leases[lease_id] = task.id
                self.extend(task, now)
            else:
                effects += self.lose(task, "worker_lost", f"{session.worker} came back without this task", now)
        for lease_id in sorted(running - believed.keys()):
            effects.append(Send(session.id, messages.LeaseLost(lease=lease_id)))
        return effects

    def learn_models(self, hello: Hello) -> list[Effect]:
        """Remember what this worker offers, so that tasks can wait for it when it is away."""
        effects: list[Effect] = []
        for model in hello.models:
            known, record = self.models.get(model.name), offered(model)
            if known is None or replace(record, version=known.version) != known:
                record = replace(record, version=known.version + 1 if known else 1)
                self.models[model.name] = record
                effects.append(Save(record, record.version - 1))
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
        session.phase = Phase.GONE
        self.sessions.pop(session.id, None)
        if self.by_worker.get(session.worker) == session.id:
            del self.by_worker[session.worker]
        return [Close(session.id, code, reason)]

    def session_of(self, worker: str) -> WorkerSession | None:
        """The session of a worker, by its registered name."""
        return self.sessions.get(self.by_worker.get(worker, ""))

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
                return []
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
        after = moves.assign(task, lease, now)
        self.dispatcher.remove(task.id)
        self.tasks[task.id] = after
        self.leases[lease.id] = task.id
        session.leases[lease.id] = task.id
        session.untold.add(lease.id)
        self.paces[task.id] = Pace(after.version, now, after.version, now)
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
        task = self.tasks.get(self.leases.get(message.lease, ""))
        if task is None or moves.held(task, message.lease).worker != session.worker:
            raise LeaseLost(f"lease {message.lease} is not yours or not current")
        session.leases.setdefault(message.lease, task.id)
        until = now + self.rules.lease_s
        match message:
            case Renew():
                return self.pace(moves.renew(task, message.lease, until, now), now, shown=False)
            case Progress():
                ahead = moves.progress(task, message.lease, message.phase, message.progress, message.message, now)
                return self.pace(moves.renew(ahead, message.lease, until, now), now)
            case Failed():
                problem = Problem(message.code, message.detail)
                effects = self.give_up(task, problem, message.retryable, now, message.retry_after)
                self.finished[message.lease] = report_of(message)
                return [*effects, Send(session.id, messages.FailedAck(lease=message.lease)), *self.dispatch(now)]
            case Result():
                return self.inspect(session, task, message)

    def inspect(self, session: WorkerSession, task: Task, message: Result) -> list[Effect]:
        """A result is looked into once; the same one again changes nothing, and another has come too late."""
        report = report_of(message)
        if task.id not in self.verifying:
            self.verifying[task.id] = report
            return [Verify(task, message.lease, tuple(message.artifacts))]
        if self.verifying[task.id] == report:
            return []
        detail = f"another result is being looked into for lease {message.lease}"
        return [Send(session.id, messages.Problem(code="result_taken", detail=detail))]

    def refuse(self, session: WorkerSession, message: Progress | Renew | Result | Failed) -> list[Effect]:
        """A report under a lease that is over: the end that was counted is acknowledged again, all else is lost."""
        answer: Message = messages.LeaseLost(lease=message.lease)
        if isinstance(message, Result | Failed) and self.finished.get(message.lease) == report_of(message):
            kind = messages.ResultAck if isinstance(message, Result) else messages.FailedAck
            answer = kind(lease=message.lease)
        return [Send(session.id, answer)]

    def said_bye(self, session: WorkerSession, now: float) -> list[Effect]:
        """The worker leaves and runs nothing more: what it held is free at once, but for results under inspection."""
        effects: list[Effect] = []
        for task_id in list(session.leases.values()):
            if task_id not in self.verifying:
                effects += self.lose(self.tasks[task_id], "worker_left", f"{session.worker} left", now)
        return effects + self.remove(session, "goodbye", CLOSE_GONE) + self.dispatch(now)

    # --- how a task ends ----------------------------------------------------------------------------------------

    def probed(self, task_id: str, lease_id: str, verdict: list[Media] | Mismatch, now: float) -> list[Effect]:
        """The hub has looked at a result: media records that stand for it, or why it is not accepted."""
        task = self.tasks.get(task_id)
        if task is None or task.lease is None or task.lease.id != lease_id:
            return []
        report = self.verifying.pop(task_id, None)
        lease = task.lease
        ack = messages.ResultAck(lease=lease_id)
        if isinstance(verdict, Mismatch):
            effects = self.give_up(task, Problem(verdict.code, verdict.detail), True, now)
            self.finished[lease_id] = report
            effects += self.tell(lease, messages.Problem(code=verdict.code, detail=verdict.detail))
            return [*effects, *self.tell(lease, ack), *self.dispatch(now)]
        outputs = tuple(
            Output(media.id, media.purpose, media.name, media.size, media.sha256, media.facts.frames)
            for media in verdict if media.facts is not None
        )
        after = moves.complete(task, lease_id, outputs, now)
        saves: list[Effect] = [Save(media, media.version - 1) for media in verdict]
        effects = [*saves, *self.settle(task, after, messages.COMPLETED), *self.tell(lease, ack)]
        self.finished[lease_id] = report
        return effects + self.dispatch(now)

    def give_up(
        self, task: Task, problem: Problem, retryable: bool, now: float, retry_after: float | None = None
    ) -> list[Effect]:
        """An attempt failed: try again later, or fail for good when it makes no sense or was tried enough."""
        if retryable and task.attempt < self.rules.max_attempts:
            wait = self.rules.backoff_s[min(task.attempt, len(self.rules.backoff_s)) - 1]
            return self.release(task, problem, now + max(wait, retry_after or 0.0), now)
        return self.settle(task, moves.fail(task, problem, now), messages.FAILED)

    def lose(self, task: Task, code: str, detail: str, now: float) -> list[Effect]:
        """The worker is gone, the task is not to blame: it may be offered again at once, unless tried enough."""
        if task.attempt < self.rules.max_attempts:
            return self.release(task, Problem(code, detail), now, now)
        return self.settle(task, moves.fail(task, Problem(code, detail), now), messages.FAILED)

    def release(self, task: Task, problem: Problem, not_before: float, now: float) -> list[Effect]:
        """The task waits again."""
        assert task.lease is not None
        after = moves.release(task, task.lease.id, problem.code, problem.detail, not_before, now)
        previous = self.stored_version(task)
        self.forget(task.id)
        self.tasks[task.id] = after
        self.dispatcher.add(after, now)
        return [Save(after, previous), Publish(after, messages.RELEASED)]

    def settle(self, before: Task, after: Task, event: str) -> list[Effect]:
        """The task has ended: make it so, tell everybody, forget it."""
        previous = self.stored_version(before)
        self.forget(before.id)
        self.ended[after.id] = after
        if len(self.ended) > ENDED_KEPT:
            self.ended.popitem(last=False)
        return [Save(after, previous), Publish(after, event)]

    def tell(self, lease: Lease, message: Message) -> list[Effect]:
        """A message to the worker that holds, or held, a lease; nothing if it is not here."""
        session = self.session_of(lease.worker)
        return [] if session is None else [Send(session.id, message)]

    # --- progress, at a bearable pace ---------------------------------------------------------------------------

    def stored_version(self, task: Task) -> int:
        """The version that the store has, or will have once all that was decided is durable."""
        pace = self.paces.get(task.id)
        return task.version if pace is None else pace.stored_version

    def pace(self, task: Task, now: float, shown: bool = True) -> list[Effect]:
        """Keep a running task's new state; viewers have nothing to see in one that is not `shown`."""
        pace = self.paces[task.id]
        if not shown and pace.shown_version == self.tasks[task.id].version:
            pace.shown_version = task.version
        self.tasks[task.id] = task
        return self.due(task, pace, now)

    def due(self, task: Task, pace: Pace, now: float) -> list[Effect]:
        """Store and show what is new in a running task, as often as the rules allow."""
        effects: list[Effect] = []
        if task.version > pace.stored_version and now - pace.stored_at >= self.rules.save_every_s:
            effects.append(Save(task, pace.stored_version))
            pace.stored_version, pace.stored_at = task.version, now
        if task.version > pace.shown_version and now - pace.shown_at >= self.rules.publish_every_s:
            effects.append(Publish(task, messages.PROGRESSED))
            pace.shown_version, pace.shown_at = task.version, now
        return effects

    def flush(self, now: float) -> list[Effect]:
        """Store and show what the pace held back."""
        return [effect for id, pace in self.paces.items() for effect in self.due(self.tasks[id], pace, now)]

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: silent offers, ended leases, workers long gone, tasks whose backoff is over."""
        if self.ticked_at is not None and now - self.ticked_at > self.rules.pause_s:
            self.grace(now)
        self.ticked_at = now
        effects = self.flush(now)
        for session in list(self.sessions.values()):
            for offer_id, offer in list(session.offers.items()):
                if offer.deadline <= now:
                    del session.offers[offer_id]
                    self.offer_again(offer.task_id, session.worker, now)
            if now - session.heard_at > 3 * self.rules.heartbeat_s:
                effects += self.remove(session, "silent for too long", CLOSE_GONE)
        for lease_id, task_id in list(self.leases.items()):
            task = self.tasks[task_id]
            if task.lease is not None and task.lease.expires_at <= now and task_id not in self.verifying:
                effects += self.tell(task.lease, messages.LeaseLost(lease=lease_id))
                effects += self.lose(task, "worker_lost", f"{task.worker} fell silent", now)
        self.dispatcher.wake(now)
        return effects + self.dispatch(now)

    def grace(self, now: float) -> None:
        """The hub itself was away: nobody is blamed for the silence, every lease gets a full heartbeat."""
        for task_id in self.leases.values():
            self.extend(self.tasks[task_id], now)
        for session in self.sessions.values():
            session.heard_at = now
            session.offers = {
                id: replace(offer, deadline=now + self.rules.offer_s) for id, offer in session.offers.items()
            }

    def extend(self, task: Task, now: float) -> None:
        """Let a lease live for at least one more heartbeat; the store learns of it with the next renewal."""
        if task.lease is not None:
            until = max(task.lease.expires_at, now + self.rules.heartbeat_s)
            self.tasks[task.id] = replace(task, lease=replace(task.lease, expires_at=until))

    # --- offers -------------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> list[Effect]:
        """Offer waiting tasks to free workers."""
        free = [session for session in self.sessions.values() if session.free]
        effects: list[Effect] = []
        for task_id, session in self.dispatcher.match(free, now):
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

    def blocked_by(self, task: Task) -> str | None:
        """Why a waiting task waits, as far as the hub knows."""
        if task.state is not State.WAITING:
            return None
        return self.dispatcher.blocked_by(task, self.sessions.values())

    def ready_workers(self, model: str) -> int:
        """How many connected workers take offers for a model."""
        return sum(1 for s in self.sessions.values() if model in s.models and s.attached and s.phase is Phase.READY)

    def lease_of(self, lease_id: str) -> Task:
        """The task that a current lease is for.

        Raises:
            Conflict: the lease is over.
        """
        task = self.tasks.get(self.leases.get(lease_id, ""))
        if task is None:
            raise Conflict("this lease is over", code="lease_lost")
        return task


def report_of(message: Result | Failed) -> Report:
    """What makes a report of an end the same report when it is sent again."""
    return tuple(message.artifacts) if isinstance(message, Result) else message.code
