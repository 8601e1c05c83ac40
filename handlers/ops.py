"""For operators: is it alive, is it ready, which version is it, what can be asked of it."""

from __future__ import annotations

from msgspec import Raw

from hub import VERSION
from hub.errors import Unavailable

from .base import Endpoint


class Livez(Endpoint):
    """GET /livez: the process answers, whatever else is wrong."""

    access = "anyone"
    any_host = True

    def get(self) -> None:
        self.answer({"status": "ok"})


class Readyz(Endpoint):
    """GET /readyz: 200 while what is decided becomes durable, else 503."""

    access = "anyone"
    any_host = True

    async def get(self) -> None:
        self.rooms.runner.check_ready()
        await self.rooms.store.ping()
        workers = sum(1 for session in self.rooms.runner.core.sessions.values() if session.attached)
        if self.rooms.runner.stopping:
            raise Unavailable("the hub is stopping")
        self.answer({"status": "ready", "workers": workers})


class Version(Endpoint):
    """GET /version."""

    access = "anyone"
    any_host = True

    def get(self) -> None:
        self.answer({"name": "video-segmentation-hub", "version": VERSION})


class Description(Endpoint):
    """GET /openapi.json: every route, as an OpenAPI document."""

    access = "anyone"

    def get(self) -> None:
        self.answer(Raw(self.settings["openapi"].data))


ROUTES = [(r"/livez", Livez), (r"/readyz", Readyz), (r"/version", Version), (r"/openapi\.json", Description)]
