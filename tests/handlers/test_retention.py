"""Tidying up in a real hub: what people see of it, and what a crash between a file and its record leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.__main__ import Hub
from hub.ids import new_id
from hub.media import Media
from hub.retention import DAY_S, HOUR_S, Found, Kind, Report
from store.mongo import MongoStore, connect
from store.space import Space
from tests.handlers.fake_worker import worker
from tests.handlers.running import Api, eventually, fine, one_loop, refused, settings_for, small_video
from tests.handlers.test_live import page
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ahead:
    """The hub's clock some seconds from now."""

    hub: Hub
    seconds: float

    def now(self) -> float:
        return self.hub.rooms.clock.now() + self.seconds

    def wall(self) -> float:
        return self.hub.rooms.clock.wall() + self.seconds


async def tidied(hub: Hub, seconds: float) -> Report:
    """A round of tidying as it would be in so many seconds."""
    sweeper = hub.rooms.sweeper
    clock, sweeper.clock = sweeper.clock, Ahead(hub, seconds)
    try:
        return await sweeper.sweep()
    finally:
        sweeper.clock = clock


# --- what people see --------------------------------------------------------------------------------------------


@one_loop
async def test_p10_a_result_that_was_kept_long_enough_goes_and_all_see_why(api: Api) -> None:
    """P10: who watches is told; the task stays, its video stays, its links open nothing any more."""
    person = await api.user()
    async with worker(api) as maker, page(api, person) as viewer:
        await viewer.ask("subscribe", topic="tasks")
        task = await person.create(maker.model)
        await maker.finish(await maker.take())
        await viewer.events("completed")
        done = await person.get(f"/api/tasks/{task['id']}")
        assert done["result"]["video"] and done["result_expires_at"] > done["ended_at"] and not done["result_gone"]
        assert not (await tidied(api.hub, 29 * DAY_S)).results.number
        assert (await api("GET", done["result"]["video"]["url"])).status == 200
        assert (await tidied(api.hub, 31 * DAY_S)).results.number == 1
        [event] = await viewer.events("updated")
        assert event["data"]["id"] == task["id"] and event["data"]["result"] is None
    gone = await person.get(f"/api/tasks/{task['id']}")
    assert (gone["state"], gone["result"], gone["result_expires_at"]) == ("completed", None, None)
    assert gone["result_gone"]["reason"] == "expired" and gone["version"] == done["version"] + 1
    refused(await api("GET", done["result"]["video"]["url"]), 404, "not_found")
    assert (await api("GET", gone["video"]["content_url"])).body == small_video()
    fine(await person("DELETE", f"/api/tasks/{task['id']}"), 204)


@one_loop
async def test_fault_30_admins_see_the_space_and_what_is_missing(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    admin, person = await api.user("admin"), await api.user()
    video = await person.upload_video(small_video() + b"\0\0\0\x08free")
    [path] = [Path(api.folder, name) for name in api.files() if name.endswith(video["sha256"])]
    path.unlink()
    report = await tidied(api.hub, HOUR_S / 2)
    space = (await admin.get("/api/admin/stats"))["space"]
    assert space["used"] == report.used and space["used"]["video"] > 0 and space["used"]["posters"] > 0
    assert (space["missing"], space["missing_ids"], space["refused"]) == (1, [video["id"]], False)
    assert space["orphans"] == {"number": report.orphans.number, "size": report.orphans.size}
    assert "records_without_file" in caplog.text and video["id"] in caplog.text
    caplog.clear()
    refused(await api("GET", video["content_url"]), 404, "not_found")
    fine(await person("DELETE", f"/api/videos/{video['id']}"), 204)


@one_loop
async def test_a_task_is_not_tried_again_without_its_inputs(api: Api) -> None:
    person, model = await api.user(), api.offer_model()
    video, background = await person.upload_video(), await person.upload_background()
    task = await person.create(model, video["id"], background_id=background["id"])
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    assert not (await tidied(api.hub, 900 * DAY_S)).orphans.number
    assert fine(await person("POST", f"/api/tasks/{task['id']}/retry", b""))["state"] == "waiting"
    assert not (await tidied(api.hub, 900 * DAY_S)).orphans.number
    fine(await person("POST", f"/api/tasks/{task['id']}/cancel", b""))
    fine(await person("DELETE", f"/api/backgrounds/{background['id']}"), 204)
    async with api.unchanged():
        refused(await person("POST", f"/api/tasks/{task['id']}/retry", b""), 404, "not_found")


@one_loop
async def test_p3_uploads_during_rounds_of_tidying_keep_their_bytes(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3: the same content comes and goes beside rounds whose clock is so far ahead that all files look old.

    Then the lock of each content alone keeps apart who seals and records from who tidies up.
    """
    person = await api.user()
    content = small_video() + b"\0\0\0\x10free" + new_id()[:8].encode()
    ended = asyncio.Event()

    async def tidy() -> int:
        rounds = 0
        while not ended.is_set():
            await tidied(api.hub, 2 * HOUR_S)
            rounds += 1
        return rounds

    monkeypatch.setattr(api.hub.rooms.sweeper, "space", ContentsAlone(api.hub.rooms.files))
    tidying = asyncio.create_task(tidy())
    try:
        for _ in range(10):
            video = await person.upload_video(content)
            assert (await api("GET", video["content_url"])).body == content
            fine(await person("DELETE", f"/api/videos/{video['id']}"), 204)
    finally:
        ended.set()
        assert await tidying > 0


class ContentsAlone(Space):
    """Sees what a lock guards; all else is guarded by its age."""

    async def batches(self) -> AsyncIterator[list[Found]]:
        async for batch in super().batches():
            yield [found for found in batch if found.kind is Kind.CONTENT]


# --- a crash between a file and its record ----------------------------------------------------------------------


CRASH = """
import os, signal, sys
from hub.effects import Delete, Save
from hub.media import Media
from hub.runner import Runner

def deadly(effect):
    return isinstance(effect, Save) and getattr(effect.record, "name", "") == "deadly.mp4" \\
        or isinstance(effect, Delete) and effect.kind is Media

carry_out, moment = Runner.carry_out, sys.argv.pop()

async def crash(self, effects):
    now = any(map(deadly, effects))
    if now and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    await carry_out(self, effects)
    if now and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

Runner.carry_out = crash
from hub.__main__ import cli
cli()
"""


class Doomed:
    """A hub in a process of its own that ends, as by kill -9, right before or after it records or forgets a file."""

    def __init__(self, mongo_uri: str, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.uri, self.folder, self.database = mongo_uri, folder, f"doomed_{new_id()}"
        self.token = ""
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, moment: str) -> None:
        settings = settings_for(self.folder)
        environment = {
            **os.environ, "MONGODB_URI": self.uri, "DB_NAME": self.database, "PORT": self.url.rpartition(":")[2],
            "DATA_DIR": str(settings.data_dir), "UPLOAD_VIDEOS_DIR": str(settings.upload_videos_dir),
            "UPLOAD_BACKGROUNDS_DIR": str(settings.upload_backgrounds_dir), "OUTPUT_DIR": str(settings.output_dir),
            "JWT_SECRET": settings.jwt_secret, "INTERFACE_IDENTIFICATION": settings.interface_identification,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CRASH, "run", moment], cwd=ROOT, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        await eventually(lambda: self.ask("GET", "/readyz") is not None, 60)

    def ask(self, method: str, path: str, body: bytes | None = None, type: str = "application/json") -> Any:
        """The JSON of an answer, None where there is none: the hub has died over it, or does not answer yet."""
        headers = {"Content-Type": type} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except OSError:
            return None

    async def died(self) -> bool:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 30) == -signal.SIGKILL

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def doomed(mongo_uri: str, tmp_path: Path) -> Iterator[Doomed]:
    made = Doomed(mongo_uri, tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize(("deed", "moment"), [
    ("upload", "before"), ("upload", "after"), ("delete", "before"), ("delete", "after"),
])
async def test_p3_fault_2_a_crash_leaves_a_whole_record_or_an_orphan_that_is_removed(
    doomed: Doomed, deed: str, moment: str
) -> None:
    """P3: kill -9 of a real hub between bytes and record, both ways; the next hub has all or, within hours, nothing."""
    await doomed.start(moment)
    account = json.dumps({"email": "ann@example.org", "password": "a sentence that works"}).encode()
    doomed.token = (await asyncio.to_thread(doomed.ask, "POST", "/api/auth/register", account))["token"]
    content = small_video() + b"\0\0\0\x08free"
    name = "deadly.mp4" if deed == "upload" else "kept.mp4"
    path = f"/api/videos?name={name}"
    answer = await asyncio.to_thread(doomed.ask, "POST", path, content, "video/mp4")
    if deed == "delete":
        assert await asyncio.to_thread(doomed.ask, "DELETE", f"/api/videos/{answer['id']}") is None
    assert await doomed.died()
    client = connect(doomed.uri)
    store = MongoStore(client, doomed.database, new_id())
    hub = Hub(settings_for(doomed.folder), store)
    await hub.start()
    try:
        records = await store.page(Media, 10)
        files = {path.name for path in doomed.folder.rglob("*") if path.is_file() and "mongo" not in path.parts}
        whole = (deed, moment) in (("upload", "after"), ("delete", "before"))
        assert len(records) == whole
        assert any(len(name) == 64 for name in files), "the bytes are there in any case"
        report = await tidied(hub, 2 * HOUR_S)
        assert (report.missing_count, report.orphans.number) == (0, 0 if whole else 3)
        for record in records:
            assert hub.rooms.files.path(record.purpose, record.sha256).read_bytes() == content
            assert hub.rooms.files.poster_path(record.id).exists() and hub.rooms.files.strip_path(record.id).exists()
        left = {path.name for path in doomed.folder.rglob("*") if path.is_file()}
        assert left >= files if whole else not any(len(name) == 64 or name.endswith(".jpg") for name in left)
    finally:
        await hub.stop()
        await client.drop_database(doomed.database)
        client.close()
