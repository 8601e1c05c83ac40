"""`python -m worker`, as an operator runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from hub.messages import Bye, Failed, FailedAck, Hello, Result, ResultAck, Status
from tests.worker.reference_media import quarters, read, write
from worker.reference import MODELS
from worker.testing import FakeHub

ROOT = Path(__file__).resolve().parents[2]


async def start(*arguments: str, token: str | None = "token") -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if name != "WORKER_TOKEN"}
    if token is not None:
        environment["WORKER_TOKEN"] = token
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *arguments, cwd=ROOT, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )


async def test_it_offers_the_reference_models_and_leaves_when_told() -> None:
    async with FakeHub() as hub:
        process = await start("--hub", hub.url, "--name", "box-1", "--slots", "2")
        hello = await hub.expect(Hello)
        assert (hello.worker, hello.slots, hello.models) == ("box-1", 2, MODELS)
        hub.put("video", b"this is no video")
        lease = await hub.assign(MODELS[0].name)
        failed = await hub.expect(Failed, lease=lease)
        assert (failed.code, failed.retryable) == ("not_video", False)
        await hub.send(FailedAck(lease=lease))
        process.send_signal(signal.SIGTERM)
        await hub.expect(Bye)
        _, stderr = await process.communicate()
        assert process.returncode == 0
        assert b"secret" not in stderr and hub.token.encode() not in stderr


async def test_a_token_that_the_hub_does_not_know_ends_it_with_one_clear_line() -> None:
    async with FakeHub(token="another") as hub:
        process = await start("--hub", hub.url, token="t0p-s3cret")
        stdout, stderr = await process.communicate()
        assert process.returncode == 2 and stdout == b""
        errors = [line for line in stderr.splitlines() if b"error" in line]
        assert len(errors) == 1 and b"401" in errors[0] and b"t0p-s3cret" not in stderr


async def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    async with FakeHub(token="from a file") as hub:
        process = await start("--hub", hub.url, "--token-file", str(tmp_path / "token"), token=None)
        await hub.expect(Hello)
        process.terminate()
        await process.communicate()
        assert process.returncode == 0


@pytest.mark.parametrize("transport", ["auto", "push"])
async def test_an_address_that_is_none_ends_it_with_one_clear_line(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PUSH_SECRET", "whsec_" + "QUFB" * 8)
    process = await start("--hub", "localhost:6001", "--transport", transport)
    _, stderr = await process.communicate()
    assert process.returncode == 2 and len(stderr.splitlines()) == 1 and b"like http://hub:6001" in stderr


async def test_without_a_token_it_says_what_to_do() -> None:
    process = await start("--hub", "http://127.0.0.1:1", token=None)
    _, stderr = await process.communicate()
    assert process.returncode == 2 and b"set WORKER_TOKEN or give --token-file" in stderr


@pytest.mark.parametrize("transport", ["auto", "poll"])
async def test_it_reaches_a_hub_that_no_websocket_reaches(transport: str) -> None:
    async with FakeHub() as hub:
        process = await start("--hub", hub.poll_url, "--transport", transport)
        await hub.expect(Hello)
        await hub.expect(Status)  # it was welcomed
        process.terminate()
        await hub.expect(Bye)
        await process.communicate()
        assert process.returncode == 0 and hub.connection is None


@pytest.mark.parametrize("arguments, secret, says", [
    (["--transport", "push"], "", b"set WORKER_PUSH_SECRET or give --secret-file"),
    (["--transport", "push"], "whsec_short", b"24 to 64 bytes in base64"),
    (["--transport", "push", "--listen", "6002x"], "whsec_" + "QUFB" * 8, b"--listen takes HOST:PORT"),
    (["--transport", "pigeon"], "", b"'auto', 'websocket', 'poll', 'push'"),
])
async def test_what_makes_no_sense_is_said(
    arguments: list[str], secret: str, says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PUSH_SECRET", secret)
    process = await start("--hub", "http://127.0.0.1:1", *arguments)
    _, stderr = await process.communicate()
    assert process.returncode == 2 and says in stderr
    assert not secret or secret.encode() not in stderr


async def test_the_secret_of_calls_may_come_from_a_file(tmp_path: Path) -> None:
    secret = "whsec_" + "QUFB" * 8
    (tmp_path / "secret").write_text(secret + "\n")
    process = await start(
        "--hub", "http://127.0.0.1:1", "--transport", "push", "--listen", "127.0.0.1:0",
        "--secret-file", str(tmp_path / "secret"),
    )
    assert process.stderr is not None
    line = b""
    while b"listening" not in line:
        line = await asyncio.wait_for(process.stderr.readline(), 20)
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.media
async def test_a_real_video_gets_another_background(tmp_path: Path) -> None:
    write(tmp_path / "video.mp4", [quarters()] * 5)
    async with FakeHub() as hub:
        hub.put("video", (tmp_path / "video.mp4").read_bytes())
        process = await start("--hub", hub.url)
        lease = await hub.assign("chroma-key", {"key_color": "#00ff00"})
        result = await hub.expect(Result, lease=lease)
        await hub.send(ResultAck(lease=lease))
        (tmp_path / "result.mp4").write_bytes(hub.uploads[result.artifacts[0].upload_id])
        assert len(read(tmp_path / "result.mp4").pictures) == result.artifacts[0].frames == 5
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
