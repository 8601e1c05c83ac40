"""The doors: a crowd is taken in a few at a time, and a hub without descriptors waits for better times."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request

from tests.test_architecture import ROOT

SERVER = """
import asyncio, resource, sys
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from handlers.listening import Listening

class Hello(RequestHandler):
    def get(self):
        self.write("hello")

async def serve():
    doors = bind_sockets(0, "127.0.0.1", backlog=512)
    Listening(HTTPServer(Application([("/", Hello)])), doors)
    print(doors[0].getsockname()[1], flush=True)
    await asyncio.sleep(60)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
asyncio.run(serve())
"""


def test_fault_22_without_descriptors_it_waits_and_says_so_once_a_second() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
            began = time.monotonic()
            said = [server.stdout.readline() for _ in range(2)]
            lasted = time.monotonic() - began
            for each in crowd:
                each.close()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"hello"
        finally:
            server.kill()
    assert all("connections_refused" in line for line in said)
    assert lasted > 0.5, "two lines, and a pause between them"
