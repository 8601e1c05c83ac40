from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from hub.messages import Bye, Failed, FailedAck, Hello, Result, ResultAck
from tests.worker import tasks
from worker.client import Job, Model, Worker
from worker.testing import FakeHub

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "echo_worker.py"


async def start(script: Path, hub: FakeHub) -> asyncio.subprocess.Process:
    """A worker of its own, as a user would start it."""
    environment = {**os.environ, "HUB_URL": hub.url, "WORKER_TOKEN": hub.token, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(script), env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )


def test_a_task_needs_a_model_that_the_worker_offers() -> None:
    with pytest.raises(ValueError, match="'other' is not among this worker's models: copy"):
        Worker([Model("copy")]).task("other")


async def test_a_model_needs_a_task_function() -> None:
    with pytest.raises(ValueError, match="no task function for: copy"):
        await Worker([Model("copy")]).serve("http://127.0.0.1:1", "token")


@pytest.mark.parametrize("url, token, says", [
    ("localhost:6001", "t", "like http://hub:6001, not 'localhost:6001'"),
    ("ftp://hub", "t", "like http://hub:6001, not 'ftp://hub'"),
    ("http://", "t", "like http://hub:6001, not 'http://'"),
    ("http://hub:port", "t", "like http://hub:6001, not 'http://hub:port'"),
    ("http://[hub", "t", "like http://hub:6001"),
    ("http://ann:s3cret@hub:6001", "t", "not 'hub:6001'"),
    ("https://example.org/hub", "t", "so give https://example.org alone"),
    ("https://example.org/?a=s3cret", "t", "so give https://example.org alone"),
    ("http://127.0.0.1:1", "s3cret\nline", "cannot be the token"),
    ("http://127.0.0.1:1", "s3crét", "cannot be the token"),
    ("http://127.0.0.1:1", "", "cannot be the token"),
])
def test_an_address_or_token_that_cannot_be_right_is_told_in_one_line(
    url: str, token: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker([Model("copy")])
    worker.task("copy")(tasks.copy)
    with pytest.raises(SystemExit) as end:
        worker.run(url, token)
    [line] = [record.getMessage() for record in caplog.records]
    assert end.value.code == 2 and says in line and "s3cr" not in line
    caplog.clear()


async def test_serving_such_a_hub_is_an_error() -> None:
    worker = Worker([Model("copy")])
    worker.task("copy")(tasks.copy)
    with pytest.raises(ValueError, match="a hub's address is like"):
        await worker.serve("localhost:6001", "token")


async def test_hardware_that_cannot_be_told_is_an_error_at_once() -> None:
    worker = Worker([Model("copy")], hardware={"memory": object()})  # type: ignore[dict-item]
    worker.task("copy")(tasks.copy)
    with pytest.raises(TypeError):
        await asyncio.wait_for(worker.serve("http://127.0.0.1:1", "token"), 20)


def test_a_function_inside_a_function_is_refused_with_the_way_out() -> None:
    def local(job: Job) -> None:
        """Cannot be found from another process."""

    with pytest.raises(TypeError, match="at the top level of a module"):
        Worker([Model("copy")]).task("copy")(local)


async def test_a_function_that_cannot_be_found_by_name_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker([Model("copy")])
    worker.task("copy")(tasks.copy)
    monkeypatch.setattr(tasks, "copy", None)
    with pytest.raises(TypeError, match="importable by module and name"):
        await worker.serve("http://127.0.0.1:1", "token")


def test_the_decorator_gives_the_function_back() -> None:
    assert Worker([Model("copy")]).task("copy")(tasks.copy) is tasks.copy


async def test_the_example_works_and_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 20
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        process = await start(EXAMPLE, hub)
        assert (await hub.expect(Hello)).worker == "echo"
        lease = await hub.assign("echo")
        result = await hub.expect(Result, lease=lease)
        assert hub.uploads[result.artifacts[0].upload_id] == b"moving"
        await hub.send(ResultAck(lease=lease))
        process.terminate()
        await hub.expect(Bye)
        await process.communicate()
        assert process.returncode == 0


async def test_a_refused_worker_says_why_in_one_line_and_exits_with_2() -> None:
    async with FakeHub() as hub:
        process = await start(EXAMPLE, hub)
        await hub.expect(Hello)
        await hub.close(4409, "another instance of this worker has joined")
        await process.communicate()
        assert process.returncode == 2


async def test_a_script_that_forgot_the_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(EXAMPLE.read_text().replace('if __name__ == "__main__":', "if True:"))
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        process = await start(script, hub)
        lease = await hub.assign("echo")
        assert (await hub.expect(Failed, lease=lease)).code == "worker_crashed"
        await hub.send(FailedAck(lease=lease))
        process.terminate()
        _, stderr = await process.communicate()
        assert b'put worker.run(...) under if __name__ == "__main__"' in stderr
        assert len([message for message in hub.said if isinstance(message, Hello)]) == 1
