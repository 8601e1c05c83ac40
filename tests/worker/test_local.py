from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from hub.messages import Bye, Hello
from worker.local import LocalWorker
from worker.testing import FakeHub

ROOT = Path(__file__).resolve().parents[2]


async def test_it_is_a_worker_like_any_other_and_no_secret_is_on_its_command_line() -> None:
    async with FakeHub(token="s3cret") as hub:
        local = LocalWorker(hub.url, "s3cret")
        local.start()
        assert (await hub.expect(Hello)).worker == "local"
        assert local.process is not None
        command = Path(f"/proc/{local.process.pid}/cmdline").read_bytes()
        assert b"worker" in command and b"s3cret" not in command
        await local.stop()
        await hub.expect(Bye)
        assert local.process is None


async def test_it_is_started_again_when_it_dies() -> None:
    async with FakeHub() as hub:
        local = LocalWorker(hub.url, hub.token, first_pause_s=0.01)
        local.start()
        first = await hub.expect(Hello)
        assert local.process is not None
        os.kill(local.process.pid, signal.SIGKILL)
        assert (await hub.expect(Hello)).instance != first.instance
        await local.stop()


async def test_stopping_ends_one_that_does_not_listen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("worker.local.PATIENCE_S", 0.1)
    os.mkfifo(tmp_path / "up")
    deaf = "import signal, sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').close(); signal.pause()"
    command = [sys.executable, "-c", deaf, str(tmp_path / "up")]
    local = LocalWorker("http://127.0.0.1:1", "token", command=command)
    local.start()
    await asyncio.to_thread((tmp_path / "up").read_text)
    assert local.process is not None
    pid = local.process.pid
    await local.stop()
    await local.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_command_that_is_not_there_is_reported_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    local = LocalWorker("http://127.0.0.1:1", "token", command=["/nowhere/python"])
    if shutil.which("setpriv") is None:
        assert await local.run_once() is None
        assert "local_worker_not_started" in caplog.text
        caplog.clear()
    else:
        assert await local.run_once() not in (0, None)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
async def test_it_dies_with_the_hub() -> None:
    script = """
import asyncio, sys
from worker.local import LocalWorker

async def main():
    local = LocalWorker(sys.argv[1], "token")
    local.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
    async with FakeHub() as hub:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, hub.url, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        )
        await hub.expect(Hello)
        parent.kill()
        await hub.expect(Bye)
        await parent.communicate()  # the worker's log goes to the same pipe, so its end is the worker's end
        assert parent.returncode == -signal.SIGKILL
