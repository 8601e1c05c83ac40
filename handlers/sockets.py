"""What both websockets share: everything that can be refused is refused as a problem, before the upgrade.

Then the connection is taken over from Tornado for a `Wire`; where that cannot be done, Tornado's own websocket serves.
"""

from __future__ import annotations

from typing import Any

from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from hub.errors import Forbidden, HubError, Invalid

from . import door, wire
from .answers import Answering


class Socket(Answering, WebSocketHandler):
    """A websocket endpoint; subclasses say who may come in by `admit` and what a page needs by `admits_origin`.

    The conversation starts in `begin`, or in Tornado's `open`.
    """

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

    async def get(self, *arguments: Any, **options: Any) -> None:
        if wire.can_take_over(self.request.connection.stream):  # type: ignore[union-attr]
            await self.shake_hands()
        else:
            await super().get(*arguments, **options)

    async def shake_hands(self) -> None:
        """The server's half of the handshake (RFC 6455 section 4.2.2); the connection is ours then."""
        headers = self.request.headers
        self.set_status(101)
        self.clear_header("Content-Type")
        self.set_header("Upgrade", "websocket")
        self.set_header("Connection", "Upgrade")
        accepted = WebSocketProtocol13.compute_accept_value(headers["Sec-WebSocket-Key"])
        self.set_header("Sec-WebSocket-Accept", accepted)
        offered = headers.get("Sec-WebSocket-Protocol", "")
        chosen = self.select_subprotocol([name.strip() for name in offered.split(",")]) if offered else None
        if chosen is not None:
            self.set_header("Sec-WebSocket-Protocol", chosen)
        done = self.finish()
        stream = self.detach()
        stream.set_nodelay(True)
        await done
        taken = wire.take_over(stream)
        if taken is None:
            return stream.close()
        self.begin(taken)

    def begin(self, taken: wire.Taken) -> None:
        """Start the conversation on a wire of our own."""
        raise NotImplementedError

    def check_origin(self, origin: str) -> bool:
        """True: `prepare` has looked already."""
        return True
