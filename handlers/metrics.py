"""For Prometheus: how much waits, runs and is connected, how requests were answered, what the process uses.

Reads numbers that are there anyway, at the moment it is asked; nothing that grows with the tasks is walked through.
"""

from __future__ import annotations

import hmac
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from tornado.web import RequestHandler

from hub.errors import Forbidden

from .answers import Rooms
from .base import Endpoint

SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)


class Gauges(Collector):
    """What is true of the hub now."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms

    def collect(self) -> Iterator[Metric]:
        runner = self.rooms.runner
        core, sessions = runner.core, list(runner.core.sessions.values())
        running = len(core.leases)
        phases = Tally(session.phase.value if session.attached else "detached" for session in sessions)
        yield family("hub_tasks", "Open tasks.", "state", {"waiting": len(core.tasks) - running, "processing": running})
        yield family("hub_workers", "Interface services with a session.", "phase", phases)
        slots, free = sum(session.slots for session in sessions), sum(session.free for session in sessions)
        yield family("hub_slots", "Tasks that the workers take at once.", "use", {"free": free, "taken": slots - free})
        yield GaugeMetricFamily("hub_viewers", "Live connections of browsers.", len(runner.viewers))
        yield GaugeMetricFamily("hub_journal_entries", "Decisions that wait to be durable.", len(runner.journal))
        yield GaugeMetricFamily("hub_database_up", "1 while what is decided becomes durable.", int(runner.healthy))


class Metrics:
    """Everything that is told of one hub."""

    def __init__(self, rooms: Rooms) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(Gauges(rooms))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("endpoint", "method", "status")
        self.requests = Counter("hub_requests", "Requests that were answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "hub_request_seconds", "From a request's headers to the end of its answer.", ("endpoint",),
            buckets=SECONDS, registry=self.registry,
        )

    def counting(self, handler: RequestHandler) -> Counting:
        """What counts requests like this one."""
        endpoint, method = type(handler).__name__, handler.request.method
        known = method if method in RequestHandler.SUPPORTED_METHODS else "other"
        return Counting(self, endpoint, known)


class Counting:
    """Counts requests to one endpoint by one method; what is looked up is looked up once."""

    __slots__ = ("metrics", "endpoint", "method", "seconds", "answers")

    def __init__(self, metrics: Metrics, endpoint: str, method: str) -> None:
        self.metrics = metrics
        self.endpoint = endpoint
        self.method = method
        self.seconds = metrics.seconds.labels(endpoint)
        self.answers: dict[int, Counter] = {}

    def count(self, status: int, seconds: float) -> None:
        """One was answered, after so many seconds."""
        answers = self.answers.get(status)
        if answers is None:
            answers = self.answers[status] = self.metrics.requests.labels(self.endpoint, self.method, status)
        answers.inc()
        self.seconds.observe(seconds)


class MetricsPage(Endpoint):
    """GET /metrics, for admins and whoever has METRICS_TOKEN."""

    access = "anyone"  # the METRICS_TOKEN is nobody's

    async def admit(self) -> None:
        token, key = self.bearer(), self.rooms.settings.metrics_token
        if key and hmac.compare_digest(token.encode("utf-8", "replace"), key.encode()):
            return
        user = await self.rooms.identities.user(token)
        if user.role != "admin":
            raise Forbidden("only admins and monitoring may do this")

    def get(self) -> None:
        metrics: Metrics = self.settings["metrics"]
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(metrics.registry))


def family(name: str, help: str, label: str, values: dict[str, int] | Tally[str]) -> GaugeMetricFamily:
    """A gauge with one label."""
    gauge = GaugeMetricFamily(name, help, labels=(label,))
    for value, number in values.items():
        gauge.add_metric((value,), number)
    return gauge


ROUTES = [(r"/metrics", MetricsPage)]
