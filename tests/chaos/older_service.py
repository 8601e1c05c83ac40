"""An interface service in the older dialect, in a process of its own: takes one task at a time, and calls back.

It is as careful as deployed ones are: a report that gets no answer is repeated a few times and then given up.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import click

from .worker import OLDER_ATTEMPT, Ledger, mark_of

BEAT_S = 0.5
TRIES, PAUSE_S, TIMEOUT_S = 4, 0.7, 3.0


class Service:
    """One service at `address`, known to the hub by the word `identification`."""

    def __init__(self, hub: str, address: str, identification: str, ledger: Ledger) -> None:
        self.hub = hub
        self.address = address
        self.identification = identification
        self.ledger = ledger
        self.running: set[str] = set()
        self.lock = threading.Lock()

    def tell(self, url: str, **said: Any) -> None:
        """Say something until it is answered, a few times at the most."""
        body = json.dumps({"Identification": self.identification, **said}).encode()
        for _ in range(TRIES):
            try:
                with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=TIMEOUT_S) as answer:
                    answer.read()
                return
            except HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass
            time.sleep(PAUSE_S)

    def beat(self) -> None:
        while True:
            self.tell(f"{self.hub}/api/tasks/interface/heartbeat", interfaceAddress=self.address)
            time.sleep(BEAT_S)

    def take(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order."""
        task = order["taskId"]
        with self.lock:
            self.ledger.note("ordered", task=task, running=len(self.running) + 1, slots=1)
            if self.running:
                return {"status": "fail", "message": "busy"}
            self.running.add(task)
        threading.Thread(target=self.work, args=(order,), daemon=True).start()
        return {"status": "accepted", "compositeVideoPath": order["foregroundPath"]}

    def work(self, order: dict[str, Any]) -> None:
        def report(status: str, progress: float) -> None:
            self.tell(order["callbackUrl"], taskId=order["taskId"], workerUrl=self.address, status=status,
                      progress=progress)

        try:
            report("PROCESSING", 10)
            time.sleep(0.2)
            mark = mark_of(order["taskId"], OLDER_ATTEMPT)
            box = struct.pack(">I4s", 8 + len(mark), b"free") + mark
            Path(order["foregroundPath"]).write_bytes(Path(order["videoPath"]).read_bytes() + box)
        except OSError:
            status = "FAILED"  # the hub has given the task up and taken its folder away
        else:
            status = "COMPLETED"
        finally:
            with self.lock:
                self.running.discard(order["taskId"])
        report(status, 100)


@click.command()
@click.option("--hub", required=True)
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
@click.option("--address", required=True, help="Where the hub reaches this service.")
@click.option("--ledger", type=click.Path(path_type=Path), required=True)
def main(hub: str, host: str, port: int, address: str, ledger: Path) -> None:
    """Serve until killed."""
    service = Service(hub, address, os.environ["INTERFACE_IDENTIFICATION"], Ledger(ledger, "older"))

    class Process(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(service.take(order)).encode()
            with suppress(OSError):  # who asked may be gone
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

    threading.Thread(target=service.beat, daemon=True).start()
    ThreadingHTTPServer((host, port), Process).serve_forever()


if __name__ == "__main__":
    main()
