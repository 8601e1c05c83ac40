"""Stock Tornado as a peer of fan-out: write_message to everybody, and long polls as in Tornado's chat demo.

    python -m bench.peers.fanout_tornado VIEWERS "one", "own" or "poll"
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.locks import Condition
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from bench.publishing import obey_forever, stamp

SIZE = 300  # bytes of one event, as the hub's
rooms: dict[int, set[Any]] = {}
history: deque[tuple[int, str]] = deque(maxlen=1000)
news = Condition()


class Socket(WebSocketHandler):
    """One viewer of one topic."""

    def check_origin(self, origin: str) -> bool:
        return True

    def open(self, topic: str) -> None:
        self.set_nodelay(True)
        self.topic = int(topic)
        rooms.setdefault(self.topic, set()).add(self)

    def on_message(self, message: str | bytes) -> None:
        self.write_message('{"type": "subscribed"}')

    def on_close(self) -> None:
        rooms[self.topic].discard(self)


class Poll(RequestHandler):
    """Waits for what comes after the cursor."""

    async def get(self) -> None:
        said = self.get_argument("cursor")
        cursor = int(said) if said.isdigit() else 0
        while not (missed := [text for number, text in history if number > cursor]):
            if cursor == 0:
                break
            await news.wait()
        self.write('{"cursor": "%d", "events": [%s]}' % (history[-1][0] if history else 1, ",".join(missed[-1:])))


def text() -> str:
    head = '{"v":1,"type":"progressed","data":{"t":"' + stamp() + '","x":"'
    return head + "x" * (SIZE - len(head) - 3) + '"}}'


def publish(topic: int) -> None:
    said = text()
    for socket in rooms.get(topic, ()):
        socket.write_message(said)


def publish_to_polls(topic: int) -> None:
    history.append(((history[-1][0] if history else 1) + 1, text()))
    news.notify_all()


async def serve(viewers: int, way: str) -> None:
    listening = bind_sockets(0, "127.0.0.1", backlog=4096)
    HTTPServer(Application([(r"/ws/(\d+)", Socket), (r"/poll", Poll)])).add_sockets(listening)
    print(json.dumps({"port": listening[0].getsockname()[1]}), flush=True)
    await obey_forever(publish_to_polls if way == "poll" else publish, viewers if way == "own" else 1)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
