"""An interface service in the older dialect: the reference models behind one POST. From the project's folder:

INTERFACE_IDENTIFICATION=... PYTHONPATH=. .venv/bin/python docs/examples/seed_service.py http://127.0.0.1:8100

HUB_URL is the hub's address. With SHARED=no files are fetched and sent by URL instead of by the shared folder.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from worker.reference import replace_background

HUB = os.environ.get("HUB_URL", "http://localhost:6001")
IDENTIFICATION = os.environ.get("INTERFACE_IDENTIFICATION", "")
SHARED = os.environ.get("SHARED", "yes") == "yes"


def tell(url: str, **said: object) -> None:
    body = json.dumps({"Identification": IDENTIFICATION, **said}).encode()
    urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=30).close()


def fetch(url: str, path: Path) -> Path:
    with urlopen(url, timeout=60) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return path


def work(order: dict[str, str]) -> None:
    """One task from start to end."""
    def report(status: str, progress: float, message: str = "") -> None:
        tell(order["callbackUrl"], taskId=order["taskId"], workerUrl=order["workerUrl"], status=status,
             progress=round(progress, 1), message=message)

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
                urlopen(Request(order["resultUploadUrl"], output.read_bytes(), {"Content-Type": "video/mp4"})).close()
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
    own = sys.argv[1]
    server = ThreadingHTTPServer(("", urlsplit(own).port or 80), Process)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        with suppress(OSError):
            tell(f"{HUB}/api/tasks/interface/heartbeat", interfaceAddress=own)
        time.sleep(60)
