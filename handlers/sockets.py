"""What both websockets share: everything that can be refused is refused as a problem, before the upgrade."""

from __future__ import annotations

from tornado.websocket import WebSocketHandler

from hub.errors import Forbidden, HubError, Invalid

from . import door
from .answers import Answering


class Socket(Answering, WebSocketHandler):
    """A websocket endpoint; subclasses say who may come in by `admit` and what a page needs by `admits_origin`."""

    async def prepare(self) -> None:
        try:
            door.check_host(self.request.host, self.rooms.settings)
            door.check_headers(self.request.headers)
            if self.request.method == "GET":
                self.check_handshake()
                await self.admit()
        except HubError as error:
            self.finish(self.as_problem(error))

    async def admit(self) -> None:
        """Refuse by raising a HubError."""

    def admits_origin(self, origin: str) -> bool:
        """Whether a page of `origin` may open this socket; asked only where there is an Origin."""
        return False

    def check_handshake(self) -> None:
        """Refuse what is no handshake of RFC 6455, or one that a foreign page makes.

        Raises:
            Invalid: code upgrade_required.
            Forbidden: the page may not.
        """
        headers = self.request.headers
        connection = [word.strip().lower() for word in headers.get("Connection", "").split(",")]
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
            self.set_header("Upgrade", "websocket")
            raise Invalid("a websocket is expected here", code="upgrade_required")
        if headers.get("Sec-WebSocket-Version") != "13":
            self.set_header("Sec-WebSocket-Version", "13")
            raise Invalid("websocket version 13 is expected here", code="upgrade_required")
        if not headers.get("Sec-WebSocket-Key"):
            raise Invalid("the handshake has no key", code="bad_request")
        origin = headers.get("Origin")
        if origin is not None and not self.admits_origin(origin):
            raise Forbidden("pages of this origin may not connect")

    def check_origin(self, origin: str) -> bool:
        """True: `prepare` has looked already."""
        return True
