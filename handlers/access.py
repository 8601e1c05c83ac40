"""What becomes of each request, told once: a number for Prometheus and a line in the log."""

from __future__ import annotations

import logging

import structlog
from tornado.web import RequestHandler

from .metrics import Counting

ACCESS = logging.getLogger("access")
log = structlog.get_logger(ACCESS.name)


class Access:
    """Tells of requests like this one: the same method and path, answered by the same endpoint."""

    __slots__ = ("method", "path", "counting")

    def __init__(self, handler: RequestHandler) -> None:
        self.method = handler.request.method
        self.path = handler.request.path  # without the query, which may hold a signature
        self.counting: Counting = handler.settings["metrics"].counting(handler)

    def tell(self, status: int, seconds: float, request_id: str | None = None) -> None:
        """One of them was answered."""
        self.counting.count(status, seconds)
        if ACCESS.isEnabledFor(logging.INFO):  # what is not written must not be put together either
            log.info(
                "request_served", method=self.method, path=self.path, status=status, ms=round(1000 * seconds, 1),
                request_id=request_id,
            )


def log_request(handler: RequestHandler) -> None:
    """Tornado's word that a request was answered."""
    request_id = getattr(handler, "request_id", None)
    Access(handler).tell(handler.get_status(), handler.request.request_time(), request_id)
