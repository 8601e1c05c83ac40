"""How messages travel to the hub and back. A transport carries whole messages in order and knows nothing else.

Owns connecting, and the difference between "come back" (`Lost`) and "do not" (`Refused`). Another way to the hub is
another class with `open`, whose connection has `send`, `receive` and `close`.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from hub.messages import MAX_MESSAGE, SUBPROTOCOL

from .errors import Lost, NoWebSocket, Refused

FINAL_CODES = range(4400, 4500)
FINAL_STATUSES = frozenset({401, 403})
OVERLOADED = 503
PING_S = 20.0


class Connection(Protocol):
    """One connection to the hub."""

    async def send(self, message: bytes) -> None:
        """Raises `Lost` or `Refused` when the connection has ended."""

    async def show(self, picture: bytes) -> None:
        """Send a preview, or lose it; raises `Lost` or `Refused` when the connection has ended."""

    async def receive(self) -> bytes | str:
        """The next message; raises `Lost` or `Refused` when the connection has ended."""

    async def close(self) -> None:
        """Say goodbye to the connection; harmless when it has ended."""


class Transport(Protocol):
    """A way to the hub."""

    async def open(self) -> Connection:
        """A fresh connection; raises `Lost` when there is none now, `Refused` when there will be none."""

    async def close(self) -> None:
        """Nobody will open it again; harmless when nothing is open."""


class WebSocketTransport:
    """GET {hub}/api/workers/session as a websocket, text frames, subprotocol vsh.worker.v1."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        self.url = urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/api/workers/session", "", ""))
        self.token = token

    async def open(self) -> WebSocketConnection:
        try:
            socket = await connect(
                self.url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None,
                additional_headers={"Authorization": f"Bearer {self.token}"}, max_size=MAX_MESSAGE,
                ping_interval=PING_S, ping_timeout=PING_S, close_timeout=2,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            kind = Refused if status in FINAL_STATUSES else Lost if status == OVERLOADED else NoWebSocket
            raise kind(f"the hub answered {status} to the handshake") from error
        except (InvalidHandshake, TimeoutError) as error:
            raise NoWebSocket(f"no handshake: {error or type(error).__name__}") from error
        except OSError as error:
            raise Lost(f"no connection: {error}") from error
        return WebSocketConnection(socket)

    async def close(self) -> None:
        """Nothing is kept between connections."""


class WebSocketConnection:
    """One websocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self.socket.send(message, text=True)
        except ConnectionClosed as closed:
            raise end(closed) from closed

    async def show(self, picture: bytes) -> None:
        try:
            await self.socket.send(picture)
        except ConnectionClosed as closed:
            raise end(closed) from closed

    async def receive(self) -> bytes | str:
        try:
            return await self.socket.recv()
        except ConnectionClosed as closed:
            raise end(closed) from closed

    async def close(self) -> None:
        await self.socket.close()


def end(closed: ConnectionClosed) -> Lost | Refused:
    """What the end of a websocket means: codes from 4400 to 4499 are final (their reason says why)."""
    if closed.rcvd is None:
        return Lost("the connection broke")
    told = f"{closed.rcvd.code} {closed.rcvd.reason}".strip()
    return Refused(told) if closed.rcvd.code in FINAL_CODES else Lost(f"closed by the hub: {told}")
