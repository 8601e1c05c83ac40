"""Whether the hub's memory agrees with itself: each table that the core keeps, against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hub.core import Core
from hub.session import Phase


def contradictions(core: Core) -> Iterator[str]:
    """What does not fit together, in words."""
    tasks = core.tasks
    leased = {task.lease.id: task.id for task in tasks.values() if task.lease is not None}
    running = set(leased.values())
    if core.leases != leased:
        yield f"leases {core.leases}, the tasks have {leased}"
    if core.work.pacing.paces.keys() != running:
        yield f"paces of {set(core.work.pacing.paces)}, running are {running}"
    if not core.work.verifying.keys() <= running:
        yield f"verifying {set(core.work.verifying)}, running are {running}"
    ticked = core.ticked_at or 0.0
    if late := [t.id for t in tasks.values() if t.lease and t.lease.expires_at <= ticked and t.id not in core.work.verifying]:
        yield f"the leases of {late} have ended, and they are still held"
    if any(task.state.ended for task in tasks.values()):
        yield "an ended task is kept as open"
    if core.by_worker != {session.worker: session.id for session in core.sessions.values()}:
        yield f"sessions by worker {core.by_worker}"
    yield from sessions(core, leased)
    yield from queues(core, running)


def sessions(core: Core, leased: dict[str, str]) -> Iterator[str]:
    """Every lease and offer of a present worker fills a slot of its session, and no slot is filled twice."""
    offered = {}
    for session in core.sessions.values():
        held = {lease: task for lease, task in leased.items() if core.tasks[task].worker == session.worker}
        if session.leases != held:
            yield f"{session.worker} holds {session.leases}, the tasks say {held}"
        if not session.untold <= session.leases.keys():
            yield f"{session.worker} was not told of {session.untold}"
        if session.stopping.keys() & session.leases.keys():
            yield f"{session.worker} runs and stops {session.stopping.keys() & session.leases.keys()}"
        if session.phase is not Phase.READY and session.offers:
            yield f"{session.worker} is {session.phase} and has offers"
        offered |= {offer.task_id: (session.id, id) for id, offer in session.offers.items()}
    if core.offers.of != offered:
        yield f"offered {core.offers.of}, the sessions have {offered}"
    having = {(model, session.id) for session in core.sessions.values() for model in session.models}
    if having != {(model, id) for model, sessions in core.roster.having.items() for id in sessions}:
        yield f"having models are {core.roster.having}, the sessions say {having}"


def queues(core: Core, running: set[str]) -> Iterator[str]:
    """Every waiting task is found again: it is offered, in line, or asleep; and everybody is charged rightly."""
    dispatcher, offered = core.dispatcher, core.offers.of.keys()
    if dispatcher.charged.keys() != running | offered:
        yield f"charged are {set(dispatcher.charged)}, should be {running | offered}"
    owners = Counter(owner for owner, *_ in dispatcher.charged.values())
    if dispatcher.shares.running != owners:
        yield f"running by owner {dispatcher.shares.running}, should be {dict(owners)}"
    in_line = [task.id for queue in dispatcher.queues.values() for line in queue.lines.values() for task in line]
    places = Counter([*in_line, *dispatcher.asleep, *offered])
    waiting = core.tasks.keys() - running
    if places.keys() != waiting:
        yield f"in line, asleep or offered are {set(places)}, waiting are {waiting}"
    if any(number > 1 for number in places.values()):
        yield f"something waits in two places: {places}"
    if not dispatcher.asleep.keys() <= {id for _, id in dispatcher.alarms}:
        yield f"asleep are {set(dispatcher.asleep)}, and not all will be woken"
    if not dispatcher.left_out.keys() | dispatcher.kept.keys() | dispatcher.avoided.keys() <= core.tasks.keys():
        yield "something is remembered of a task that is over"
    for model, queue in dispatcher.queues.items():
        turns = {(user, tag, count) for tag, count, user in queue.turns}
        if queue.size != sum(len(line) for line in queue.lines.values()):
            yield f"{model} has {queue.size} tasks in line, and counts wrong"
        for user in queue.lines:
            turn = queue.entered.get(user)
            if not dispatcher.shares.capped(user) and (turn is None or (user, *turn) not in turns):
                yield f"{user} has tasks for {model} and never gets a turn"
