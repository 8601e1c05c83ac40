from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from worker.errors import AttemptFailed, LeaseGone, Stopped
from worker.files import Uploaded, Wire, fetch, upload
from worker.testing import FakeHub

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", CONTENT)
        yield hub


def wire(patience_s: float = 10.0, stop: threading.Event | None = None) -> Wire:
    return Wire(stop or threading.Event(), patience_s=patience_s, first_pause_s=0.01)


async def fetched(hub: FakeHub, target: Path, sha256: str = SHA256, size: int = len(CONTENT)) -> bytes:
    await asyncio.to_thread(fetch, hub.inputs["video"].url, target, sha256, size, wire())
    return target.read_bytes()


async def uploaded(hub: FakeHub, source: Path, patience_s: float = 10.0) -> Uploaded:
    url = f"{hub.files.url}/api/uploads?job=secret"
    return await asyncio.to_thread(upload, url, source, "résult.mp4", "video/mp4", "result", wire(patience_s))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "result.mp4"
    path.write_bytes(CONTENT)
    return path


async def test_an_input_is_fetched_and_checked(hub: FakeHub, tmp_path: Path) -> None:
    assert await fetched(hub, tmp_path / "video") == CONTENT


@pytest.mark.parametrize("sha256, size", [
    ("0" * 64, len(CONTENT)), (SHA256, len(CONTENT) - 1), (SHA256, len(CONTENT) + 1),
])
async def test_an_input_that_is_not_what_was_promised_is_corrupt(
    hub: FakeHub, tmp_path: Path, sha256: str, size: int
) -> None:
    with pytest.raises(AttemptFailed) as failure:
        await fetched(hub, tmp_path / "video", sha256, size)
    assert (failure.value.code, failure.value.retryable) == ("input_corrupt", True)


@pytest.mark.parametrize("trouble", [503, 500, 429, 0])
async def test_trouble_that_passes_is_waited_for(hub: FakeHub, tmp_path: Path, source: Path, trouble: int) -> None:
    hub.answers.extend([trouble, trouble, None, trouble])
    assert await fetched(hub, tmp_path / "video") == CONTENT
    assert (await uploaded(hub, source)).sha256 == SHA256


async def test_an_input_that_is_not_there_is_no_reason_to_wait(hub: FakeHub, tmp_path: Path) -> None:
    hub.answers.append(404)
    with pytest.raises(AttemptFailed, match="input_unavailable.*404"):
        await fetched(hub, tmp_path / "video")


async def test_a_result_is_sent_in_one_request_that_says_what_it_is(hub: FakeHub, source: Path) -> None:
    sent = await uploaded(hub, source)
    assert hub.uploads[sent.id] == CONTENT and sent.sha256 == SHA256
    request, headers = hub.requests[0]
    assert request == "POST /api/uploads?job=secret"
    assert {name: headers[name] for name in ("Tus-Resumable", "Upload-Length", "Upload-Metadata", "Content-Type")} == {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(CONTENT)),
        "Upload-Metadata": "filename csOpc3VsdC5tcDQ=,filetype dmlkZW8vbXA0,purpose cmVzdWx0",
        "Content-Type": "application/offset+octet-stream",
    }


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More than goes in one request."""
    path = tmp_path / "large.mp4"
    path.write_bytes(CONTENT * 8)
    return path


def patches(hub: FakeHub) -> list[int]:
    """The offsets from which bytes were sent."""
    return [int(headers["Upload-Offset"]) for request, headers in hub.requests if request.startswith("PATCH")]


def said(hub: FakeHub) -> list[str]:
    return [request.split()[0] for request, _ in hub.requests]


async def test_a_large_result_goes_on_where_the_line_broke(hub: FakeHub, large: Path) -> None:
    hub.cuts.extend([3_000_000, 1, 2_000_000])
    sent = await uploaded(hub, large)
    assert hub.uploads[sent.id] == CONTENT * 8 and sent.sha256 == hashlib.sha256(CONTENT * 8).hexdigest()
    assert said(hub).count("POST") == 1 and said(hub)[-2:] == ["PATCH", "GET"]
    assert said(hub).count("HEAD") == 3 and patches(hub) == [5_000_001]  # it notes those that came to their end
    assert all("job=secret" in request for request, _ in hub.requests)


@pytest.mark.parametrize("answers", [
    [None, 503], [None, 409], [None, None, 503], [None, 0, 429, 500], [None, None, 0],
])
async def test_trouble_with_a_large_result_passes(hub: FakeHub, large: Path, answers: list[int | None]) -> None:
    hub.answers.extend(answers)
    sent = await uploaded(hub, large)
    assert hub.uploads[sent.id] == CONTENT * 8
    assert said(hub).count("POST") == 1


async def test_an_upload_that_the_hub_has_forgotten_is_begun_anew(hub: FakeHub, large: Path) -> None:
    hub.cuts.append(1000)
    hub.answers.extend([None, 404])
    sent = await uploaded(hub, large)
    assert hub.uploads[sent.id] == CONTENT * 8
    assert said(hub).count("POST") == 2


@pytest.mark.parametrize("status", [401, 403, 409])
async def test_a_lease_that_ends_in_the_middle_ends_a_large_upload(hub: FakeHub, large: Path, status: int) -> None:
    hub.cuts.append(1000)
    hub.answers.extend([None, status])
    with pytest.raises(LeaseGone):
        await uploaded(hub, large)


async def test_bytes_that_are_too_much_are_refused(hub: FakeHub, large: Path) -> None:
    hub.answers.extend([None, 413])
    with pytest.raises(AttemptFailed, match="upload_refused.*413"):
        await uploaded(hub, large)


@pytest.mark.parametrize("status", [401, 403, 404, 409])
async def test_a_link_that_is_not_valid_any_more_means_that_the_lease_is_gone(
    hub: FakeHub, source: Path, status: int
) -> None:
    hub.answers.append(status)
    with pytest.raises(LeaseGone):
        await uploaded(hub, source)


async def test_a_result_that_the_hub_does_not_want_is_refused(hub: FakeHub, source: Path) -> None:
    hub.answers.append(413)
    with pytest.raises(AttemptFailed, match="upload_refused.*413"):
        await uploaded(hub, source)


async def test_patience_ends(hub: FakeHub, source: Path) -> None:
    hub.answers.extend([503] * 100)
    with pytest.raises(AttemptFailed, match="upload_failed.*503"):
        await uploaded(hub, source, patience_s=0.1)


async def test_a_link_is_never_part_of_an_error(hub: FakeHub, tmp_path: Path) -> None:
    for url in ("ftp://hub/file?job=secret", "http://127.0.0.1:1/file?job=secret", "http://127.0.0.1:1/a b?job=secret",
                "http://127.0.0.1:port/file?job=secret", "file?job=secret"):
        with pytest.raises(AttemptFailed) as failure:
            await asyncio.to_thread(fetch, url, tmp_path / "video", SHA256, 1, wire(patience_s=0.0))
        assert "secret" not in str(failure.value) and failure.value.code in ("bad_link", "input_unavailable")


async def test_a_transfer_ends_when_it_is_told_to(hub: FakeHub, source: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def moved(done: int, total: int) -> None:
        assert done < total
        stop.set()

    for transfer in (
        lambda on: fetch(hub.inputs["video"].url, tmp_path / "video", SHA256, len(CONTENT), on),
        lambda on: upload(f"{hub.files.url}/api/uploads", source, "r", "video/mp4", "result", on),
    ):
        stop.clear()
        with pytest.raises(Stopped):
            await asyncio.to_thread(transfer, Wire(stop, moved))
    assert not hub.uploads


async def test_waiting_for_the_hub_ends_too(source: Path) -> None:
    stop = threading.Event()
    waiting = Wire(stop, first_pause_s=60.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        transfer = asyncio.create_task(asyncio.to_thread(upload, url, source, "r", "video/mp4", "result", waiting))
        connection, _ = await asyncio.to_thread(server.accept)
        connection.close()
        stop.set()
        with pytest.raises(Stopped):
            await asyncio.wait_for(transfer, 20)


class Peer:
    """A hub's end of one upload, byte by byte."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/api/uploads"

    def refuse_early(self) -> None:
        """Answer the head and hang up on the body."""
        connection, _ = self.server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")

    def take(self, size: int) -> None:
        """Begin an upload, swallow its zeros, and answer as if they were kept."""
        digest = hashlib.sha256()
        for _ in range(size // 65536):
            digest.update(bytes(65536))
        said = b'{"id": "u1", "sha256": "%s"}' % digest.hexdigest().encode()
        for answer in (b"201 Created\r\nLocation: /u1", b"204 No Content\r\nUpload-Offset: %d" % size, b"200 OK"):
            connection, _ = self.server.accept()
            with connection:
                seen = connection.recv(65536)
                if seen.startswith(b"PATCH"):
                    done = len(seen.partition(b"\r\n\r\n")[2])
                    while done < size:
                        done += len(connection.recv(65536))
                body = said if answer.startswith(b"200") else b""
                connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (answer, len(body), body))


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.server.close()


def zeros(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def test_an_early_refusal_is_heard_before_the_body_is_through(peer: Peer, tmp_path: Path) -> None:
    source = zeros(tmp_path / "large", 256 * 1024 * 1024)
    furthest = 0

    def moved(done: int, total: int) -> None:
        nonlocal furthest
        furthest = done

    refusing = asyncio.create_task(asyncio.to_thread(peer.refuse_early))
    with pytest.raises(LeaseGone):
        await asyncio.to_thread(
            upload, peer.url, source, "r", "video/mp4", "result", Wire(threading.Event(), moved, first_pause_s=60.0),
        )
    await refusing
    assert furthest < 256 * 1024 * 1024


async def test_p14_a_file_is_never_in_memory_as_a_whole(peer: Peer, tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    source = zeros(tmp_path / "large", size)
    taking = asyncio.create_task(asyncio.to_thread(peer.take, size))
    tracemalloc.start()
    try:
        sent = await asyncio.to_thread(upload, peer.url, source, "r", "video/mp4", "result", wire())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await taking
    assert sent.id == "u1" and peak < 2 * 1024 * 1024
