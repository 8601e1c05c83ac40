"""The journal's entries: what was decided and is not durable yet, and what of it can be made durable together.

Owns the merging of decisions into one commit. Never awaits and never stores: the runner does both.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from .effects import Close, Delete, Outcome, Publish, Save, Send, Verify
from .errors import Conflict, HubError, Invalid
from .messages import Message, Offer
from .task import Task

BATCH = 1000  # decisions that are committed as one

Key = tuple[type[Any], str]  # which record: its kind and id


class Entry(Struct):
    """One decision in the journal: what must be durable first, what follows, and who waits for it."""

    changes: list[Save | Delete]
    others: list[Send | Publish | Verify | Close]
    done: asyncio.Future[None]
    keys: set[Key] = field(default_factory=set)

    @property
    def waits_only(self) -> bool:
        """Whether nothing is to be done but to tell when everything before is durable and carried out."""
        return not self.changes and not self.others and not self.done.done()


class Unsaid:
    """What waits in the journal to be said to workers, by session."""

    def __init__(self) -> None:
        self.waiting: defaultdict[str, deque[Message]] = defaultdict(deque)

    def ahead(self, entry: Entry) -> list[Send]:
        """Take out of a decision the offers that need not wait for the store: an offer promises nothing.

        Who has yet to hear what was decided earlier hears that first.
        """
        offers: list[Send] = []
        others, entry.others = entry.others, []
        for effect in others:
            if isinstance(effect, Send):
                if isinstance(effect.message, Offer) and effect.session not in self.waiting:
                    offers.append(effect)
                    continue
                self.waiting[effect.session].append(effect.message)
            entry.others.append(effect)
        return offers

    def thin(self, entry: Entry) -> list[Send]:
        """Take out of a decision what must not gather while the store does not answer: its offers are given back.

        They end by themselves and are made anew. What waits to be said already, a worker needs not hear twice.
        """
        offers: list[Send] = []
        others, entry.others = entry.others, []
        for effect in others:
            if isinstance(effect, Send) and isinstance(effect.message, Offer):
                offers.append(effect)
            elif not isinstance(effect, Send) or effect.message not in self.waiting.get(effect.session, ()):
                entry.others.append(effect)
        return offers

    def end(self, entry: Entry) -> None:
        """A decision does not wait any more; they end in the order in which they were made."""
        for effect in entry.others:
            if isinstance(effect, Send):
                self.waiting[effect.session].popleft()
                if not self.waiting[effect.session]:
                    del self.waiting[effect.session]


def key(change: Save | Delete) -> Key:
    """Which record a change is about."""
    if isinstance(change, Save):
        return type(change.record), change.record.id
    return change.kind, change.id


def gather(journal: Sequence[Entry]) -> tuple[int, list[Save | Delete]]:
    """How many entries make the next batch, and their changes, one a record: the first guard, the last content.

    An entry that does not follow from what the batch makes of its records has to wait: its guard is the store's
    to judge.
    """
    merged: dict[Key, Save | Delete] = {}
    for place, entry in enumerate(journal[:BATCH]):
        firsts = {key(change): change for change in reversed(entry.changes)}
        if not all(follows(merged.get(k), change) for k, change in firsts.items()):
            return place, list(merged.values())
        for change in entry.changes:
            earlier = merged.get(key(change))
            if isinstance(earlier, Save) and (isinstance(change, Save) or change.previous):
                change = replace(change, previous=earlier.previous)
            merged[key(change)] = change
    return min(len(journal), BATCH), list(merged.values())


def follows(earlier: Save | Delete | None, change: Save | Delete) -> bool:
    """Whether a change goes on where an earlier one of the same record ends."""
    if earlier is None or isinstance(change, Delete) and not change.previous:
        return True
    return isinstance(earlier, Save) and earlier.record.version == change.previous


def stands(effect: Send | Publish | Verify | Close, lost: Collection[str], leases: Collection[str]) -> bool:
    """Whether an effect is true although what its decision changed of the `lost` tasks, under `leases`, was refused."""
    match effect:
        case Publish(task=task) | Verify(task=task):
            return task.id not in lost
        case Send(message=message):
            return getattr(message, "task", None) not in lost and getattr(message, "lease", None) not in leases
        case Close():
            return True


def refusal(outcomes: Collection[Outcome]) -> HubError:
    """What whoever made a decision is told whose changes ended so."""
    if Outcome.IMPOSSIBLE in outcomes:
        return Invalid("this cannot be stored")
    return Conflict("somebody else was first", code="taken" if Outcome.TAKEN in outcomes else "conflict")


def tasks_in(entries: Sequence[Entry]) -> set[str]:
    """The tasks that these decisions change."""
    return {id for entry in entries for kind, id in entry.keys if kind is Task}
