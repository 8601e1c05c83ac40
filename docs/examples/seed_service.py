"""An interface service in the older dialect: the reference models behind one POST. From the project's folder:

INTERFACE_IDENTIFICATION=... PYTHONPATH=. .venv/bin/python docs/examples/seed_service.py http://127.0.0.1:8100

HUB_URL is the hub's address. With SHARED=no files are fetched and sent by URL instead of by the shared folder.
"""

import json
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from worker.reference import replace_background

HUB = os.environ.get("HUB_URL", "http://localhost:6001")
IDENTIFICATION = os.environ.get("INTERFACE_IDENTIFICATION", "")
SHARED = os.environ.get("SHARED", "yes") == "yes"


def send(url: str, body: bytes | dict[str, object], again: bool = False) -> None:
    """Once, and no matter if it fails; or again until there is an answer, because the hub may be away for a while."""
    said = body if isinstance(body, bytes) else json.dumps({"Identification": IDENTIFICATION, **body}).encode()
    request = Request(url, said, {"Content-Type": "video/mp4" if said is body else "application/json"})
    while True:
        try:
            return urlopen(request, timeout=60).close()
        except Exception as error:
            if not again or getattr(error, "code", 500) < 500:
                return print(error, file=sys.stderr)
        time.sleep(5)


def fetch(url: str, path: Path) -> Path:
    path.write_bytes(urlopen(url, timeout=60).read())
    return path


def work(order: dict[str, str]) -> None:
    def report(status: str, progress: float, message: str = "") -> None:
        said = {"taskId": order["taskId"], "workerUrl": order["workerUrl"], "status": status, "message": message}
        send(order["callbackUrl"], {**said, "progress": round(progress, 1)}, again=status != "processing")
    with tempfile.TemporaryDirectory() as folder:
        video, output = Path(order["videoPath"]), Path(order["foregroundPath"])
        background = Path(order["backgroundPath"]) if order["backgroundPath"] else None
        try:
            if not SHARED:
                video, output = fetch(order["videoUrl"], Path(folder, "video")), Path(folder, "result.mp4")
                background = background and fetch(order["backgroundUrl"], Path(folder, "background"))
            replace_background(video, background, output, order["modelName"], {},
                               lambda phase, percent, frames: frames % 30 or report("processing", percent, phase),
                               lambda: False)
            if not SHARED:
                send(order["resultUploadUrl"], output.read_bytes(), again=True)
            report("completed", 100)
        except Exception as error:
            report("failed", 0, str(error))


class Process(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        threading.Thread(target=work, args=(order,), daemon=True).start()
        answer = json.dumps({"status": "accepted", "compositeVideoPath": SHARED and order["foregroundPath"]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", urlsplit(sys.argv[1]).port or 80), Process)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        send(f"{HUB}/api/tasks/interface/heartbeat", {"interfaceAddress": sys.argv[1]})
        time.sleep(60)
