"""The files of a fake hub: inputs to fetch, a place for uploads and previews, on threads of their own.

Owns the plain HTTP side of worker/testing; what the hub says and hears is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from .testing import FakeHub


class QuietServer(ThreadingHTTPServer):
    """A worker that hangs up in mid-transfer is nothing to complain about."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FileServer:
    """Inputs to fetch and a place for uploads, on threads of its own."""

    def __init__(self, hub: FakeHub, loop: asyncio.AbstractEventLoop) -> None:
        class Handler(FileHandler):
            fake_hub = hub
            fake_hub_loop = loop

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class FileHandler(BaseHTTPRequestHandler):
    """One HTTP connection."""

    fake_hub: FakeHub
    fake_hub_loop: asyncio.AbstractEventLoop

    def do_GET(self) -> None:
        status, path = self.begin(), urlsplit(self.path).path
        id = path.rpartition("/")[2]
        if status is None and path.startswith("/api/uploads/") and id in self.fake_hub.parts:
            self.reply(200, self.arrived(id))
            return
        found = 200 if path in self.fake_hub.contents else 404
        self.reply(found if status is None else status, self.fake_hub.contents.get(path, b""))

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if self.path == "/api/workers/poll":
            answering = self.fake_hub.polled(self.headers.get("Authorization", ""), body)
            self.reply(*asyncio.run_coroutine_threadsafe(answering, self.fake_hub_loop).result(60))
            return
        if self.path == "/api/workers/previews":
            self.fake_hub_loop.call_soon_threadsafe(self.fake_hub.pictures.put_nowait, body)
            self.reply(204, b"")
            return
        status = self.begin() if len(body) == length else 0
        if status is not None:
            self.reply(status, b"")
            return
        id = f"upload-{next(self.fake_hub.ids)}"
        self.fake_hub.parts[id] = body
        self.fake_hub.lengths[id] = int(self.headers["Upload-Length"])
        self.reply(201, self.arrived(id), Location=f"/api/uploads/{id}?{urlsplit(self.path).query}")

    def do_HEAD(self) -> None:
        self.go_on()

    def do_PATCH(self) -> None:
        """Bytes that go on where the last ones ended; those that came before a cut are kept."""
        id = urlsplit(self.path).path.rpartition("/")[2]
        offset, length = int(self.headers["Upload-Offset"]), int(self.headers["Content-Length"])
        kept = min(length, self.fake_hub.cuts.popleft()) if self.fake_hub.cuts else length
        body = self.rfile.read(kept)
        if len(self.fake_hub.parts.get(id, b"")) == offset:
            self.fake_hub.parts[id] += body
        self.go_on(0 if kept < length else None)

    def go_on(self, status: int | None = None) -> None:
        status = self.begin() if status is None else status
        id = urlsplit(self.path).path.rpartition("/")[2]
        if status is None and id not in self.fake_hub.parts:
            status = 404
        if status is not None:
            self.reply(status, b"")
            return
        self.arrived(id)
        self.reply(200 if self.command == "HEAD" else 204, b"", **{"Upload-Offset": str(len(self.fake_hub.parts[id]))})

    def arrived(self, id: str) -> bytes:
        """What there is to say about an upload; the hub gets it once it is whole."""
        content = self.fake_hub.parts[id]
        if len(content) == self.fake_hub.lengths[id] and id not in self.fake_hub.uploads:
            self.fake_hub.uploads[id] = content
            self.fake_hub_loop.call_soon_threadsafe(self.fake_hub.arrivals.put_nowait, id)
        return msgspec.json.encode({"id": id, "sha256": hashlib.sha256(content).hexdigest(), "state": "checking"})

    def begin(self) -> int | None:
        self.fake_hub.requests.append((f"{self.command} {self.path}", dict(self.headers.items())))
        return self.fake_hub.answer()

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: links carry tokens."""
