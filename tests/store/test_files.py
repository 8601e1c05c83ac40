"""Bytes on a real disk: what is received, sealed, found again, and what is left when the disk says no."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub import ports
from hub.errors import DiskFull, NotFound, Unavailable
from hub.media import Previews, Purpose
from store.files import PIECE, Digest, Files

ROOT = Path(__file__).resolve().parents[2]
DATA = random.Random(7).randbytes(3 * 1024 * 1024 + 17)

if TYPE_CHECKING:
    def keeps_the_promise(files: Files) -> ports.Files:
        return files


def make(folder: Path) -> Files:
    return Files({purpose: folder / purpose for purpose in Purpose}, folder / "incoming")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = make(tmp_path)
    yield files
    files.close()


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest(), len(data))


def on_disk(files: Files) -> list[Path]:
    """Every file that there is, in any of the folders."""
    folders = {files.incoming, files.posters, *files.folders.values()}
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


# --- the way of an upload ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, len(DATA)])
@pytest.mark.parametrize("chunk", [1 << 16, 1 << 22])
async def test_receive_finish_seal(files: Files, size: int, chunk: int) -> None:
    data = DATA[:size]
    incoming = files.receive("u1")
    for start in range(0, size, chunk):
        await incoming.write(memoryview(data)[start:start + chunk])
    assert incoming.size == size
    assert await incoming.finish() == digest_of(data)
    assert incoming.path.read_bytes() == data  # the probe looks at it here
    path = await incoming.seal(Purpose.VIDEO)
    assert path == files.path(Purpose.VIDEO, digest_of(data).sha256)
    assert path.read_bytes() == incoming.path.read_bytes() == data  # both, until there is a record
    await incoming.discard()
    await incoming.discard()
    assert path.read_bytes() == data
    assert on_disk(files) == [path]


async def test_a_chunk_may_be_reused_after_write(files: Files) -> None:
    incoming = files.receive("u1")
    chunk = bytearray(DATA[:PIECE])
    await incoming.write(chunk)
    chunk[:] = bytes(PIECE)
    assert await incoming.finish() == digest_of(DATA[:PIECE])


async def test_equal_contents_are_kept_once(files: Files) -> None:
    async def receive(upload_id: str) -> Path:
        incoming = files.receive(upload_id)
        await incoming.write(DATA)
        path = await incoming.seal(Purpose.VIDEO)
        await incoming.discard()
        return path

    first, *others = await asyncio.gather(*(receive(f"u{number}") for number in range(5)))
    assert others == [first] * 4
    assert on_disk(files) == [first]


async def test_purposes_are_apart(files: Files) -> None:
    paths = set()
    for purpose in (Purpose.VIDEO, Purpose.RESULT):
        incoming = files.receive("u1")
        await incoming.write(b"same")
        paths.add(await incoming.seal(purpose))
        await incoming.discard()
    assert len(paths) == 2
    sha256 = digest_of(b"same").sha256
    await files.delete(Purpose.VIDEO, sha256)
    await files.delete(Purpose.VIDEO, sha256)
    assert on_disk(files) == [files.path(Purpose.RESULT, sha256)]


async def test_discard_leaves_nothing(files: Files) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA)
    await incoming.discard()
    await incoming.discard()
    assert on_disk(files) == []


async def test_sealing_onto_another_file_system(tmp_path: Path) -> None:
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    target = shared / f"files-{os.getpid()}"
    if shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system")
    files = Files({Purpose.VIDEO: target}, tmp_path / "incoming")
    try:
        incoming = files.receive("u1")
        await incoming.write(DATA)
        path = await incoming.seal(Purpose.VIDEO)
        await incoming.discard()
        assert path.read_bytes() == DATA
        assert on_disk(files) == [path]
        await files.delete(Purpose.VIDEO, path.name)
    finally:
        files.close()
        for folder in sorted(target.rglob("*"), reverse=True):
            folder.rmdir()
        target.rmdir()


# --- durability and resuming ------------------------------------------------------------------------------------


async def test_p1_what_was_synced_is_there_after_kill_9(tmp_path: Path) -> None:
    """P1: the offset that was said is never above the bytes that a killed process leaves."""
    script = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.store.test_files import DATA, make
async def main():
    incoming = make(Path({str(tmp_path)!r})).receive("u1")
    for start in range(0, len(DATA), 100_000):
        await incoming.write(DATA[start:start + 100_000])
        print(await incoming.sync(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout
        said = [int(await asyncio.to_thread(hub.stdout.readline)) for _ in range(12)][-1]
        hub.send_signal(signal.SIGKILL)
        hub.stdout.read()
    files = make(tmp_path)
    assert (files.incoming / "u1").read_bytes()[:said] == DATA[:said]
    assert said == 1_200_000
    resumed = files.receive("u1", offset=said)
    await resumed.write(DATA[said:])
    assert await resumed.finish() == digest_of(DATA)
    files.close()


async def test_pause_and_go_on(files: Files) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:1000])
    await incoming.pause()
    assert incoming.durable == 1000
    again = files.receive("u1", offset=1000)
    await again.write(DATA[1000:])
    assert await again.finish() == digest_of(DATA)


async def test_bytes_beyond_the_offset_are_cut_off(files: Files) -> None:
    (files.incoming / "u1").write_bytes(b"abcdef")
    incoming = files.receive("u1", offset=3)
    await incoming.write(b"xyz")
    assert await incoming.finish() == digest_of(b"abcxyz")


async def test_missing_bytes_are_said(files: Files) -> None:
    (files.incoming / "u1").write_bytes(b"ab")
    with pytest.raises(Unavailable):
        await files.receive("u1", offset=3).sync()


async def test_a_cancelled_writer_leaves_a_usable_state(files: Files) -> None:
    """The thread that still writes must be done before its descriptor is closed."""
    incoming = files.receive("u1")

    async def write() -> None:
        while True:
            await incoming.write(DATA)

    writer = asyncio.create_task(write())
    while incoming.size < 4 * len(DATA):
        await asyncio.sleep(0)
    writer.cancel()
    await incoming.discard()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert on_disk(files) == []


async def test_discarding_under_a_writer_ends_it(files: Files) -> None:
    """As when one request deletes what another one still sends."""
    incoming = files.receive("u1")

    async def write() -> None:
        while True:
            await incoming.write(DATA)

    writer = asyncio.create_task(write())
    while incoming.size < 4 * len(DATA):
        await asyncio.sleep(0)
    await incoming.discard()
    with pytest.raises(NotFound):
        await writer
    assert on_disk(files) == []


async def test_p13_the_loop_stays_free(files: Files) -> None:
    """P13: hashing and writing go on while the loop turns."""
    turns = 0
    incoming = files.receive("u1")

    async def receive() -> Digest:
        for _ in range(20):
            await incoming.write(DATA)
        return await incoming.finish()

    work = asyncio.create_task(receive())
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert (await work).size == 20 * len(DATA)
    assert turns >= 20


# --- a disk that says no ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Files]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    files = make(disk)
    yield files
    files.close()
    subprocess.run(["umount", disk], check=True)


async def test_p14_a_full_disk_leaves_nothing_behind(small_disk: Files) -> None:
    incoming = small_disk.receive("u1")
    with pytest.raises(DiskFull) as caught:
        await incoming.write(DATA)
        await incoming.finish()
    assert caught.value.code == "disk_full"
    await incoming.discard()
    assert on_disk(small_disk) == []
    assert (await small_disk.room())[1] > 900_000


async def test_p1_after_a_full_disk_it_goes_on_from_the_durable_offset(small_disk: Files) -> None:
    ballast = small_disk.posters / "ballast"
    ballast.write_bytes(bytes(600_000))
    incoming = small_disk.receive("u1")
    await incoming.write(DATA[:100_000])
    await incoming.sync()
    with pytest.raises(DiskFull):
        await incoming.write(DATA[100_000:900_000])
        await incoming.sync()
    assert incoming.size == incoming.durable == incoming.path.stat().st_size >= 100_000
    ballast.unlink()
    await incoming.write(DATA[incoming.durable:900_000])
    assert await incoming.finish() == digest_of(DATA[:900_000])


async def test_a_poster_that_does_not_fit_leaves_the_old_one(small_disk: Files) -> None:
    await small_disk.save_previews("m1", Previews(b"old"))
    with pytest.raises(DiskFull):
        await small_disk.save_previews("m1", Previews(DATA))
    assert small_disk.poster_path("m1").read_bytes() == b"old"
    assert on_disk(small_disk) == [small_disk.poster_path("m1")]


async def test_p1_a_failed_sync_is_never_tried_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, fault 17: the pages are in doubt, so they are cut off; what was durable before stays."""
    incoming = files.receive("u1")
    await incoming.write(DATA[:1000])
    await incoming.sync()
    real = os.fdatasync

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    await incoming.write(DATA[1000:2000])
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(Unavailable):
        await incoming.sync()
    monkeypatch.setattr(os, "fdatasync", real)
    assert incoming.size == incoming.path.stat().st_size == 1000
    await incoming.write(DATA[1000:])
    assert await incoming.finish() == digest_of(DATA)


# --- names, posters, leftovers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", "a.b", "é", "x" * 129, "-x"])
async def test_p16_no_name_leads_out_of_its_folder(files: Files, name: str) -> None:
    with pytest.raises(ValueError):
        files.receive(name)
    with pytest.raises(ValueError):
        files.poster_path(name)
    with pytest.raises(ValueError):
        files.path(Purpose.VIDEO, name)


async def test_previews(files: Files) -> None:
    await files.save_previews("m1", Previews(b"one"))
    assert not files.strip_path("m1").exists()
    await files.save_previews("m1", Previews(b"two", b"strip"))
    assert files.poster_path("m1").read_bytes() == b"two" and files.strip_path("m1").read_bytes() == b"strip"
    await files.delete_previews("m1")
    await files.delete_previews("m1")
    assert on_disk(files) == []


async def test_leftovers_are_cleared_but_those_still_known(files: Files) -> None:
    for name in ("u1", "u2", "u3"):
        (files.incoming / name).write_bytes(b"x")
    left = await files.clear_incoming(keep=["u2", "u4"])
    assert {name: arrived.size for name, arrived in left.items()} == {"u2": 1}
    assert [path.name for path in on_disk(files)] == ["u2"]


async def test_no_descriptor_is_left(files: Files) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        incoming = files.receive(f"u{number}")
        await incoming.write(DATA)
        if number % 2:
            await incoming.seal(Purpose.RESULT)
        await incoming.discard()
    assert len(os.listdir("/proc/self/fd")) == before
