"""The end of a day: when the world is at rest, and whether everything that was promised has come true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hub.interface import Interface
from hub.media import Media
from hub.task import State, Task

from .network import Refused

if TYPE_CHECKING:
    from .hub import SimulatedHub
    from .workers import Worker
    from .world import World


def hopeless(hub: SimulatedHub, task: Task) -> bool:
    """Whether a task waits with good reason: no worker that could do it takes offers."""
    plans, facts = hub.world.plans, task.video.facts
    return task.state is State.WAITING and not any(
        task.model in session.models and session.usable and plans[session.worker].takes(facts)
        for session in hub.core.sessions.values()
    )


def welcome(world: World, worker: Worker) -> bool:
    try:
        world.network.permitted(worker.name)
    except Refused:
        return False
    return True


def unrest(world: World) -> Iterator[str]:
    """What is still to be done, in words."""
    hub = world.hub
    if hub is None or not hub.ready:
        yield "the hub is not up"
        return
    if hub.journal or hub.committing or hub.elsewhere.adopting or hub.core.work.verifying or hub.creating:
        yield "the hub has something to write or to look into"
    if not hub.looked_again:
        yield "what the hub before this one has asked for may still be written"
    stored = {interface.id: interface for interface in world.disk.all(Interface)}
    known = {name: hub.core.roster.interfaces.get(name) for name in stored}  # one that was removed does no harm
    if known != stored:
        yield f"the hub knows {known}, stored are {stored}"
    for task in hub.core.tasks.values():
        if not hopeless(hub, task):
            yield f"{task.id} for {task.model} is {task.state} (attempt {task.attempt}, worker {task.worker})"
    for worker in world.workers:
        if welcome(world, worker):
            instance = worker.instance
            if instance is None or not instance.connected:
                yield f"{worker.name} is not connected"
            elif instance.works or instance.busy:
                yield f"{worker.name} owes {list(instance.works)}, runs {[work.task for work in instance.busy]}"
    for user in world.users:
        if not user.viewer.up_to_date:
            yield f"the browser of {user.name} is not up to date"


def complaints(world: World) -> Iterator[str]:
    """What was promised and is not so."""
    hub, watch = world.hub, world.watch
    assert hub is not None
    stored = {task.id: task for task in world.disk.all(Task)}
    for id in watch.owners:
        if id not in stored and id not in watch.unwanted:
            yield f"P5: task {id} was accepted and is lost"
    for task in stored.values():
        if not task.state.ended:
            known = hub.core.tasks.get(task.id)
            if known is None:
                yield f"P5: {task.id} is stored as {task.state} and the hub does not know it"
            elif hub.core.outlook(known).blocked_by not in ("no_worker_for_model", "paused"):
                yield f"P18: {task.id} waits for a worker, and is said to be blocked by {hub.core.outlook(known).blocked_by}"
        for output in task.outputs:
            record = world.disk.read(Media, output.media_id)
            if record is None or record.facts is None:
                yield f"P19: the result of {task.id} has no checked record"
    if hub.core.leases or hub.core.dispatcher.charged or hub.core.dispatcher.shares.running:
        yield "the hub still counts something as running"
    for user in world.users:
        own = {task.id: (task.state.value, task.version) for task in stored.values() if task.owner == user.name}
        # An ended task that a dead hub deletes late stays on the page until it is read anew: no hub knows of it.
        gone = world.disk.gone_silently - own.keys()
        shown = {id: (view["state"], view["version"]) for id, view in user.viewer.picture.items() if id not in gone}
        if own != shown:
            yield f"P10: {user.name} sees {shown}, stored are {own}"
