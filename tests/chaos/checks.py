"""What must be true after a round: the database, the files, and what users, viewers and workers have seen agree.

Owns the questions. Looks beside the hub, into its own database and folders, and believes nobody.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from hub.media import Media, Purpose
from hub.rules import Rules
from hub.task import State, Task
from store.embedded import SOCKET, uri_of
from store.mongo import MongoStore

from .users import Told
from .viewers import Viewer
from .worker import OLDER_ATTEMPT, mark_of

DATABASE = "chaos"
MISTAKES = re.compile(  # events that the hub and the SDK log only where they have a mistake
    r'"event": "(request_failed|duty_failed|pusher_failed|effect_failed|tick_failed|verification_failed|'
    r'seed_order_failed|seed_collect_failed|task_moved_elsewhere|attempt_broke|change_left_out|Uncaught[^"]*)"|'
    r'^Traceback|"exception": '
)


@asynccontextmanager
async def records(data_dir: Path) -> AsyncIterator[MongoStore]:
    """The hub's records, read beside it."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri_of(str(data_dir / "mongo" / SOCKET)))
    try:
        yield MongoStore(client, DATABASE, "chaos")
    finally:
        await client.close()


async def all_tasks(store: MongoStore) -> dict[str, Task]:
    return {task.id: task for task in await store.page(Task, 100_000)}


async def all_ended(store: MongoStore, ids: set[str]) -> bool:
    tasks = await all_tasks(store)
    return ids <= tasks.keys() and all(task.state.ended for task in tasks.values())


async def viewers_agree(store: MongoStore, viewers: list[Viewer]) -> bool:
    tasks = await all_tasks(store)
    shown = {id: view for viewer in viewers for id, view in viewer.picture.items()}
    return shown.keys() == tasks.keys() and all(shown[id]["version"] == task.version for id, task in tasks.items())


@dataclass(slots=True)
class Found:
    """What was found: complaints, and how often things happened."""

    complaints: list[str] = field(default_factory=list)
    completed: list[Task] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.complaints.append(otherwise)

    def downloaded(self, task: Task, status: int, body: bytes) -> None:
        good = status == 200 and sha256(body).hexdigest() == task.outputs[0].sha256
        self.check(good, f"P6: the result of {task.id} cannot be had: {status}")


async def look(store: MongoStore, told: Told, viewers: list[Viewer], folder: Path) -> Found:
    """Everything."""
    found = Found()
    tasks, files = await all_tasks(store), {media.id: media for media in await store.page(Media, 100_000)}
    found.complaints += told.unheard_of
    promised(found, tasks, told)
    for task in tasks.values():
        found.states[f"{task.state}" + (f": {task.problem.code}" if task.problem else "")] += 1
        ended_once(found, task)
        if task.state is State.COMPLETED:
            found.completed.append(task)
            one_result(found, task, files, folder)
    shown(found, tasks, viewers)
    slots(found, folder / "ledger.jsonl")
    return found


def promised(found: Found, tasks: dict[str, Task], told: Told) -> None:
    """P5: what was accepted is there, once; P7: what was cancelled is, and nothing else."""
    for key, id in told.tasks.items():
        task = tasks.get(id)
        found.check(task is not None, f"P5: the task {id} of {key} was answered with 201 and is lost")
        if task is not None:
            right = (task.request_key, task.owner) == (key, told.owners[id])
            found.check(right, f"P5: the task {id} is not that of {key}")
    made = Counter((task.owner, task.request_key) for task in tasks.values())
    for (_, made_key), times in made.items():
        found.check(times == 1, f"P5: {made_key} made {times} tasks")
        found.check(made_key in told.tasks, f"P5: nobody knows of the task of {made_key}")
    for task in tasks.values():
        state, late, cancelled = task.state, told.too_late.get(task.id), task.id in told.cancelled
        found.check((state is State.CANCELLED) == cancelled, f"P7: {task.id} is {state}, cancelled: {cancelled}")
        found.check(late in (None, state), f"P7: {task.id} is {state}, and was {late} when a cancel came too late")


def ended_once(found: Found, task: Task) -> None:
    """P5, P7: one end, not too many attempts, and evidence of each that failed."""
    name = f"{task.id} ({task.state}, attempt {task.attempt})"
    found.check(task.state.ended and task.ended_at is not None, f"P5: {name} has not ended")
    found.check(task.lease is None, f"P6: {name} has ended and has a lease")
    found.check(task.attempt <= Rules().max_attempts, f"P7: {name} had too many attempts")
    numbers = [attempt.number for attempt in task.attempts if attempt.code != "refused"]  # those did not count
    found.check(numbers == sorted(set(numbers)), f"P7: attempts of {name} were counted twice: {numbers}")
    last = task.attempt if task.state is State.FAILED else task.attempt - 1
    complete = task.state is State.CANCELLED or numbers == list(range(1, last + 1))
    found.check(complete, f"P7: of {name} there is evidence of {numbers}")
    failed = task.problem is not None
    found.check(failed == (task.state is State.FAILED), f"P7: {name} has the problem {task.problem}")
    found.check(bool(task.outputs) == (task.state is State.COMPLETED), f"P6: {name} has {len(task.outputs)} results")
    for attempt in task.attempts:
        found.seen[f"attempt: {attempt.code}"] += 1


def one_result(found: Found, task: Task, files: dict[str, Media], folder: Path) -> None:
    """P6, P19: one accepted file, which is there, whole, and was made for this task in its last attempt."""
    found.check([output.purpose for output in task.outputs] == [Purpose.RESULT], f"P6: results of {task.id}")
    for output in task.outputs:
        record = files.get(output.media_id)
        accepted = record is not None and record.facts is not None and record.task_id == task.id
        found.check(accepted, f"P3: the result of {task.id} has the record {record}")
        path = folder / "output" / "results" / output.sha256[:2] / output.sha256
        content = path.read_bytes() if path.is_file() else b""
        found.check(sha256(content).hexdigest() == output.sha256, f"P3: the file of {task.id} is not what was accepted")
        marks = (mark_of(task.id, task.attempt), mark_of(task.id, OLDER_ATTEMPT))
        found.check(content.endswith(marks), f"P6: the file of {task.id} ends with {content[-60:]!r}")
    others = [media for media in files.values() if media.task_id == task.id and media.id != task.outputs[0].media_id]
    found.seen["results that do not count"] += len(others)


def shown(found: Found, tasks: dict[str, Task], viewers: list[Viewer]) -> None:
    """P9, P10: every viewer saw each event once and in order, and ends with what is in the database."""
    pictures: dict[str, dict[str, Any]] = {}
    for viewer in viewers:
        found.complaints += viewer.complaints
        pictures |= viewer.picture
        for what in ("connections", "snapshots", "recoveries", "events"):
            found.seen[what] += getattr(viewer, what)
    found.check(pictures.keys() == tasks.keys(), f"P10: {len(pictures)} tasks are shown, {len(tasks)} are stored")
    for id in pictures.keys() & tasks.keys():
        task, view = tasks[id], pictures[id]
        same = (view["version"], view["state"], view["attempt"]) == (task.version, task.state, task.attempt)
        result = (view["result"] or {}).get("video", {}).get("sha256")
        same = same and result == (task.outputs[0].sha256 if task.outputs else None)
        found.check(same, f"P10: {id} is {task.state} (version {task.version}), shown is {view['state']} "
                          f"(version {view['version']})")


def slots(found: Found, ledger: Path) -> None:
    """Nobody got more than fits, and every lease went to one instance of one worker."""
    holders: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        note = json.loads(line)
        match note["what"]:
            case "assigned":
                holders[note["lease"]].add((note["worker"], note["pid"]))
                found.seen[f"assigned: {note['worker']}"] += 1
                found.check(note["running"] <= note["slots"], f"slots of {note['worker']} are oversold: {note}")
                found.check(note["attempt"] <= Rules().max_attempts, f"P7: {note}")
            case "ordered":
                found.seen["ordered: older"] += 1
                found.seen["ordered while busy"] += note["running"] > note["slots"]
            case "declined":
                found.seen[f"declined: {note['reason']}"] += 1
    for lease, given in holders.items():
        found.check(len(given) == 1, f"P6: the lease {lease} was given to {sorted(given)}")


def of_logs(folder: Path) -> list[str]:
    """Lines that only a mistake in the hub or the SDK writes."""
    return [
        f"{log.name}: {line.strip()[:2000]}" for log in sorted(folder.glob("*.log"))
        for line in log.read_text(errors="replace").splitlines() if MISTAKES.search(line)
    ]
