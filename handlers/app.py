"""All routes in one place, and the Tornado application around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from hub.messages import MAX_MESSAGE

from . import auth, content, live, media, ops, pages, tasks, uploads, worker_socket
from .base import NoSuchPlace, Rooms

log = structlog.get_logger("access")

HEADER_S, PING_S = 15, 20
MAX_HEADER = 64 * 1024


def make_app(rooms: Rooms, static: Path) -> Application:
    """The application with every route of the hub; `static` is the front-end's folder."""
    settings = rooms.settings
    modules: list[Any] = [
        *auth.ROUTES, *uploads.ROUTES, *media.ROUTES, *tasks.ROUTES, *live.ROUTES, *worker_socket.ROUTES, *ops.ROUTES,
        *content.routes(settings.upload_url_path, settings.upload_backgrounds_url_path),
    ]
    routes: list[Any] = [(pattern, handler, {"rooms": rooms}) for pattern, handler in modules]
    return Application(
        [*routes, *pages.routes(static)],
        rooms=rooms,
        default_handler_class=NoSuchPlace,
        default_handler_args={"rooms": rooms},
        log_function=log_request,
        websocket_ping_interval=PING_S,
        websocket_max_message_size=MAX_MESSAGE,
    )


def make_server(app: Application) -> HTTPServer:
    """The HTTP server with limits that suit strangers."""
    return HTTPServer(app, max_header_size=MAX_HEADER, idle_connection_timeout=75, chunk_size=256 * 1024)


def log_request(handler: RequestHandler) -> None:
    """One line a request, without the query: it may hold a signature."""
    request = handler.request
    log.info(
        "request_served", method=request.method, path=request.path, status=handler.get_status(),
        ms=round(1000 * request.request_time(), 1), request_id=getattr(handler, "request_id", None),
    )
