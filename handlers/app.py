"""All routes in one place, and the Tornado application around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from hub.messages import MAX_MESSAGE
from hub.settings import Settings

from . import (
    access, admin, admin_interfaces, auth, content, door, live, live_stream, media, metrics, openapi, ops, pages,
    previews, seed_calls, tasks, tus, worker_poll, worker_socket,
)
from .base import NoSuchPlace, Rooms

QUIET_S, PING_S = 75, 20  # seconds: for a request's headers and between requests; between pings on websockets
MAX_BODY = 64 * 1024  # bytes, for those who want no body; an Endpoint has its own limit and can say so
CHUNK = 256 * 1024


def routes(settings: Settings, static: Path) -> list[Any]:
    """Every route of the hub; `static` is the front-end's folder."""
    return [
        *auth.ROUTES, *tus.ROUTES, *media.ROUTES, *admin.ROUTES, *admin_interfaces.ROUTES, *seed_calls.ROUTES,
        *tasks.ROUTES, *live.ROUTES, *live_stream.ROUTES, *previews.ROUTES, *worker_socket.ROUTES, *worker_poll.ROUTES,
        *ops.ROUTES, *metrics.ROUTES,
        *content.routes(settings.upload_url_path, settings.upload_backgrounds_url_path), *pages.routes(static),
    ]


def make_app(rooms: Rooms, static: Path) -> Application:
    """The application with every route of the hub."""
    listed = routes(rooms.settings, static)
    return Application(
        listed,
        rooms=rooms,
        metrics=metrics.Metrics(rooms),
        openapi=openapi.Document(listed),
        default_handler_class=NoSuchPlace,
        log_function=access.log_request,
        websocket_ping_interval=PING_S,
        websocket_max_message_size=MAX_MESSAGE,
    )


def make_server(app: Application) -> HTTPServer:
    """The HTTP server with limits that suit strangers; it reads a little more headers than are taken, to say so."""
    server = app.settings["server"] = HTTPServer(
        app, max_header_size=2 * door.MAX_HEADERS, max_body_size=MAX_BODY, idle_connection_timeout=QUIET_S,
        chunk_size=CHUNK,
    )
    return server
