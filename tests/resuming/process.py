"""A hub in a process of its own, on the tests' MongoDB, with its files in a folder of the test's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.ids import new_id
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
START_S = 60.0


class HubProcess:
    """`python -m hub run`; `before` is put before the command, such as a tracer."""

    def __init__(self, mongo_uri: str, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        self.port = free_port()
        self.incoming = folder / "videos" / ".incoming"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ, "PORT": str(self.port), "MONGODB_URI": mongo_uri, "DB_NAME": f"resuming_{new_id()}",
            "DATA_DIR": str(folder / "data"), "UPLOAD_VIDEOS_DIR": str(folder / "videos"),
            "UPLOAD_BACKGROUNDS_DIR": str(folder / "backgrounds"), "OUTPUT_DIR": str(folder / "output"),
            "JWT_SECRET": "a secret of the resuming tests: 3b1f9a", "INTERFACE_IDENTIFICATION": "another: 77c2",
            "USER_STORAGE_LIMIT": "2000", **settings,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, before: Sequence[str] = ()) -> None:
        """Start, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "hub", "run"], cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(self.ready):
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.05)  # another process: there is nothing to wait on but its answer

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it without a warning, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def ended(self) -> None:
        """Wait until it is gone by itself."""
        assert self.process is not None
        async with asyncio.timeout(START_S):
            while self.process.poll() is None:
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def user(self) -> str:
        """Somebody new; the token."""
        form = json.dumps({"email": f"{new_id()}@test.example", "password": "a long password"}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/auth/register", form, {"Content-Type": "application/json"}, method="POST",
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["token"])

    def arrived(self) -> int:
        """Bytes of unfinished uploads on the disk."""
        try:
            return sum(path.stat().st_size for path in self.incoming.iterdir() if not path.suffix)
        except OSError:
            return 0

    def words(self) -> list[dict[str, Any]]:
        """What it has logged of level warning or above."""
        return [line for line in self.log.read_text().splitlines() if "[error" in line or "[warning" in line]
