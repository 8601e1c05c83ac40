"""Foreign tus clients against the running hub, over a line that breaks, while the hub is killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.resuming import install
from tests.resuming.client import padded
from tests.resuming.line import Line
from tests.resuming.process import HubProcess

HERE = Path(__file__).parent
MIB = 1024 * 1024
PATIENCE_S = 180.0
CLIENTS: dict[str, tuple[dict[str, object], ...]] = {  # with the options that they are tried with
    "tuspy": ({}, {"chunk_size": 700_001}),
    "tus-js-client": (
        {}, {"chunkSize": 900_000}, {"parallelUploads": 3}, {"uploadDataDuringCreation": True, "chunkSize": 300_000},
    ),
    "uppy": ({}, {"chunkSize": 1_500_000}),
}
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return install.install()
    except install.NotHere as error:
        assert not os.environ.get("REQUIRE_BROWSER"), f"the clients must be here: {error}"
        pytest.skip(str(error))


def command(client: str, folder: Path, endpoint: str, token: str, file: Path, options: dict[str, object]) -> list[str]:
    rest = [endpoint, token, str(file), json.dumps(options)]
    if client == "tuspy":
        return [sys.executable, str(HERE / "tuspy_client.py"), *rest]
    script = HERE / ("uppy.mjs" if client == "uppy" else "tusjs.mjs")
    return [str(shutil.which("node")), str(script), str(folder), *rest]


class Trouble:
    """What goes wrong in one round, at which byte: the line is cut, or the hub is killed and comes back."""

    def __init__(self, hub: HubProcess, line: Line, plan: list[tuple[int, str]]) -> None:
        self.hub = hub
        self.line = line
        self.plan = sorted(plan)
        self.left: list[int] = []  # bytes on the disk at each of them
        self.restart: asyncio.Task[None] | None = None
        line.watch = self.look

    def look(self) -> None:
        if self.plan and (self.restart is None or self.restart.done()) and self.hub.arrived() >= self.plan[0][0]:
            _, kind = self.plan.pop(0)
            if kind == "kill":
                self.hub.kill()
            self.left.append(self.hub.arrived())
            self.line.cut()
            if kind == "kill":
                self.restart = asyncio.create_task(self.hub.start())


async def play(hub: HubProcess, folder: Path, client: str, seed: int, size: int, where: Path) -> list[str]:
    """One round; what was wrong with it."""
    dice = random.Random(seed)
    options = dice.choice(CLIENTS[client])
    content = padded(size, seed)
    file = where / f"{seed}.mp4"
    file.write_bytes(content)
    token = await asyncio.to_thread(hub.user)
    line = Line(hub.port)
    await line.open()
    trouble = Trouble(hub, line, [
        (dice.randrange(size // 20, size * 9 // 10), kind) for kind in dice.choices(("cut", "kill"), k=2) + ["kill"]
    ])
    story = f"{client} {options}, seed {seed}: "
    try:
        process = await asyncio.create_subprocess_exec(
            *command(client, folder, f"{line.url}/api/uploads", token, file, options),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            said, complained = await process.communicate()
        if trouble.restart is not None:
            await trouble.restart
    finally:
        await line.close()
    if process.returncode:
        return [story + f"the client gave up: {complained.decode()[-1000:]}"]
    url = said.decode().strip().replace(line.url, hub.url)
    wrong = [] if len(trouble.left) == 3 else [f"only {len(trouble.left)} of 3 troubles came"]
    upload = await asyncio.to_thread(get, url, token)
    if upload.get("state") != "ready" or upload.get("sha256") != hashlib.sha256(content).hexdigest():
        wrong.append(f"what arrived is not what was sent: {upload}")
    wrong += line.fallen
    created = [path for method, path, _ in line.said if method == "POST"]
    if len(created) != (4 if "parallelUploads" in options else 1):
        wrong.append(f"it was begun {len(created)} times")
    again = [(path, offset) for method, path, offset in line.said if method == "PATCH" and offset == 0]
    if len(again) != len(set(again)) and "parallelUploads" not in options:
        wrong.append(f"it started again from 0: {line.said}")
    if hub.arrived():
        wrong.append("something is left of it")
    return [story + each for each in wrong]


def get(url: str, token: str) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})) as answer:
        return dict(json.load(answer))


@pytest.mark.parametrize(("client", "seed"), [
    ("tuspy", 1), ("tuspy", 2), ("tus-js-client", 3), ("tus-js-client", 4), ("uppy", 5),
])
async def test_p1_p3_a_foreign_client_gets_its_file_there(
    hub: HubProcess, folder: Path, tmp_path: Path, client: str, seed: int
) -> None:
    """P1, P3, faults 1 and 15: the line is cut and the hub killed, and no byte that was acknowledged is sent again."""
    assert await play(hub, folder, client, seed, 6 * MIB, tmp_path) == []


@pytest.mark.chaos
@pytest.mark.parametrize("client", CLIENTS)
async def test_p1_p3_thirty_rounds_of_foreign_clients(
    hub: HubProcess, folder: Path, tmp_path: Path, client: str
) -> None:
    """P1, P3: ten rounds for each of the three clients."""
    wrong = []
    for seed in range(100, 110):
        wrong += await play(hub, folder, client, seed, 24 * MIB, tmp_path)
    assert wrong == []
