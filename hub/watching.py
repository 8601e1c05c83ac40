"""Whether somebody looks at a running task: its worker is told, and sends previews only then.

Owns what each worker was told. Never sends.
"""

from __future__ import annotations

from .core import Core
from .effects import Effect, Send
from .messages import Watching
from .news import OWN
from .topics import Topic, Topics

LINGER_S = 5.0  # seconds after the last viewer in which another may come: long polls do, again and again


class Watch:
    """Who was told that somebody looks: sessions and topics by lease; and when somebody last did (seconds)."""

    def __init__(self, core: Core, topics: Topics) -> None:
        self.core = core
        self.topics = topics
        self.told: dict[str, tuple[str, Topic]] = {}
        self.seen: dict[str, float] = {}

    def look(self, now: float) -> list[Effect]:
        """What workers are to be told now."""
        effects: list[Effect] = []
        watched: set[str] = set()
        for topic in self.topics.watched:
            task = self.core.tasks.get(topic.name.removeprefix(OWN))
            if task is None or task.lease is None:
                continue
            lease = task.lease
            watched.add(lease.id)
            session = self.core.session_of(lease.worker)
            if lease.id in self.told:
                self.seen[lease.id] = now
            if session is not None and lease.id in session.leases and self.told.get(lease.id) != (session.id, topic):
                self.told[lease.id], self.seen[lease.id] = (session.id, topic), now
                effects.append(Send(session.id, Watching(lease=lease.id, on=True)))
        for lease_id, (session_id, topic) in list(self.told.items()):
            over = lease_id not in self.core.leases
            if over or lease_id not in watched and now - self.seen[lease_id] >= LINGER_S:
                del self.told[lease_id], self.seen[lease_id]
                topic.pictures.clear()
                if not over:
                    effects.append(Send(session_id, Watching(lease=lease_id, on=False)))
        return effects
