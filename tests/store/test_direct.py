"""What is written round the page cache: alignment, disks that refuse it or are full, and who has the buffers."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import shutil
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from hub.errors import DiskFull, HubError, NotFound, Unavailable
from store import drawing, hashes, hold
from store import incoming as incoming_module
from store.drawing import BLOCK, BUFFER, THREADS, WORTH
from store.files import Files
from store.incoming import WRITE_BACK, Incoming
from tests.resuming.test_disk import image, mounted, settle_sizes
from tests.store.test_drawing import Ends, connected, ends, files
from tests.store.test_files import digest_of, make, on_disk

__all__ = ["ends", "files", "image"]

DATA = random.Random(8).randbytes(5 * BUFFER)
Write = Callable[[int, Any], int]


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each call wrote round the page cache."""
    counts: list[int] = []
    write = drawing.write_direct

    def counted(file: int, blocks: memoryview) -> int:
        counts.append(write(file, blocks))
        return counts[-1]

    monkeypatch.setattr(incoming_module, "write_direct", counted)
    return counts


def is_direct(file: int) -> bool:
    return bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT)


async def draw(incoming: Incoming, ends: Ends, data: bytes) -> None:
    """Send and draw, a whole buffer at a time while there is so much; stops sending where drawing fails."""
    sending, left = asyncio.create_task(ends.send(data)), len(data)
    ends.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, BUFFER)
    try:
        while left:
            while waiting(ends.ours) < min(BUFFER, left):
                await asyncio.sleep(0.001)
            left -= await incoming.draw(ends.ours.fileno(), left)
    finally:
        sending.cancel()


def waiting(line: socket.socket) -> int:
    """How many bytes could be read now."""
    return int.from_bytes(fcntl.ioctl(line, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize(("at", "size", "blocks"), [
    (0, BUFFER, BUFFER), (1, BUFFER - 1, BUFFER - BLOCK), (BLOCK - 1, WORTH + 1, WORTH), (BLOCK, WORTH, WORTH),
    (0, WORTH - BLOCK, 0), (0, BUFFER - 1, 0), (1, BUFFER, 0), (0, 0, 0), (7, 1, 0),
])
def test_whole_blocks_up_to_the_end_are_worth_it(at: int, size: int, blocks: int) -> None:
    head, rest = drawing.blocks_of(at, memoryview(DATA)[:size])
    assert (len(head), len(rest)) == (size - blocks, blocks)


# --- where it begins and ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("count", [WORTH - 1, WORTH, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 3 * BUFFER + 17])
async def test_it_may_begin_and_end_anywhere(
    files: Files, ends: Ends, direct: list[int], begin: int, count: int,
) -> None:
    incoming, whole = files.receive("u1"), DATA[:begin + count]
    await incoming.write(whole[:begin])
    await draw(incoming, ends, whole[begin:])
    assert await incoming.finish() == digest_of(whole)
    assert incoming.path.read_bytes() == whole
    assert all(each % BLOCK == 0 for each in direct)
    assert direct or count < BUFFER


@pytest.mark.parametrize("begin", [1, BLOCK + 1, BUFFER, BUFFER + 4321])
async def test_another_life_goes_on_at_any_byte(files: Files, ends: Ends, begin: int) -> None:
    incoming = files.receive("u1")
    await draw(incoming, ends, DATA[:begin])
    await incoming.pause()
    again = files.receive("u1")
    assert await again.recover() == begin
    await draw(again, ends, DATA[begin:])
    assert await again.finish() == digest_of(DATA)
    assert again.path.read_bytes() == DATA


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("near", [0, hashes.NEAR])
async def test_any_mixture_hashes_to_what_it_is(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch, seed: int, near: int,
) -> None:
    monkeypatch.setattr(hashes, "NEAR", near)
    chance, incoming, whole = random.Random(seed), files.receive("u1"), b""
    for _ in range(25):
        piece = DATA[chance.randrange(len(DATA)):][:chance.choice([1, 70_000, 700_000, 3_000_000])]
        match chance.randrange(5):
            case 0 | 1:
                await draw(incoming, ends, piece)
            case 2:
                await incoming.write(piece)
            case 3:
                await incoming.pause()
                continue
            case 4:
                await incoming.pause()
                await incoming.hold(chance.choice([None, "sha1"]))
                await draw(incoming, ends, piece)
                await incoming.drop()
                continue
        whole += piece
    assert await incoming.finish() == digest_of(whole)
    assert incoming.path.read_bytes() == whole


async def test_what_is_hashed_from_memory_is_not_read_again(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nobody_reads(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(files, "submit_hashing", nobody_reads)
    incoming = files.receive("u1")
    await draw(incoming, ends, DATA)
    assert await incoming.finish() == digest_of(DATA)


# --- disks that say no ------------------------------------------------------------------------------------------


@pytest.fixture
def plain_disk(tmp_path: Path) -> Iterator[Files]:
    """A file system that does not know O_DIRECT."""
    with mounted("-t", "ramfs", "none", at=tmp_path / "disk") as disk:
        files = make(disk)
        yield files
        files.close()


async def test_a_disk_that_knows_only_its_cache_gets_the_bytes_through_it(
    plain_disk: Files, ends: Ends, direct: list[int],
) -> None:
    incoming = plain_disk.receive("u1")
    await draw(incoming, ends, DATA)
    assert await incoming.finish() == digest_of(DATA)
    assert incoming.path.read_bytes() == DATA
    assert not any(direct)


def lie_about_direct(monkeypatch: pytest.MonkeyPatch, lie: Callable[[Write, int, Any], int]) -> None:
    """Let what is written round the page cache meet a disk like this."""
    write = os.write

    def lying(file: int, data: Any) -> int:
        return lie(write, file, data) if is_direct(file) else write(file, data)

    monkeypatch.setattr(os, "write", lying)


def error(number: int) -> Callable[..., int]:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return fail


async def test_a_disk_with_larger_blocks_gets_the_bytes_through_the_cache(
    files: Files, ends: Ends, direct: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:
    lie_about_direct(monkeypatch, error(errno.EINVAL))
    incoming = files.receive("u1")
    await draw(incoming, ends, DATA)
    assert await incoming.finish() == digest_of(DATA)
    assert incoming.path.read_bytes() == DATA
    assert direct and not any(direct)


@pytest.mark.parametrize("part", [0, 1000, BLOCK])
async def test_a_short_write_goes_on_through_the_cache(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch, part: int,
) -> None:
    def short(write: Write, file: int, data: Any) -> int:
        fcntl.fcntl(file, fcntl.F_SETFL, 0)
        return write(file, data[:part])

    lie_about_direct(monkeypatch, short)
    incoming = files.receive("u1")
    await draw(incoming, ends, DATA)
    assert await incoming.finish() == digest_of(DATA)
    assert incoming.path.read_bytes() == DATA


async def test_p1_an_io_error_in_mid_draw_goes_back_to_what_was_written_before(
    files: Files, ends: Ends, direct: list[int], monkeypatch: pytest.MonkeyPatch,
) -> None:
    incoming = files.receive("u1")
    await draw(incoming, ends, DATA[:BUFFER + 7])
    await incoming.sync()
    with monkeypatch.context() as failing:
        lie_about_direct(failing, error(errno.EIO))
        with pytest.raises(Unavailable):
            await draw(incoming, ends, DATA[BUFFER + 7:])
    kept = incoming.durable
    assert incoming.size == incoming.path.stat().st_size == kept >= BUFFER + 7
    await incoming.write(DATA[kept:])
    assert await incoming.finish() == digest_of(DATA)


async def test_p1_fault_16_a_disk_that_fills_in_mid_draw(tmp_path: Path, image: Path, ends: Ends) -> None:
    """P1, fault 16: on a real file system; what was durable stays, and it goes on once there is room."""
    with mounted("-o", "loop", image, at=tmp_path / "disk") as disk:
        files = make(disk)
        ballast = files.posters / "ballast"
        incoming = files.receive("u1")
        await draw(incoming, ends, DATA[:BUFFER])
        await incoming.sync()
        left = os.statvfs(disk)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, left.f_bfree * left.f_frsize - 5 * BUFFER // 2)
        with pytest.raises(DiskFull):
            await draw(incoming, ends, DATA[BUFFER:])
            await incoming.sync()
        kept = incoming.durable
        assert incoming.size == incoming.path.stat().st_size == kept >= BUFFER
        assert incoming.path.read_bytes() == DATA[:kept]
        ballast.unlink()
        await incoming.write(DATA[kept:])
        assert await incoming.finish() == digest_of(DATA)
        await incoming.discard()
        assert on_disk(files) == []
        files.close()


BEGUN = WRITE_BACK - BLOCK  # bytes of which the disk is not asked to begin yet


@pytest.mark.parametrize("begin", [1, BLOCK, BUFFER // 2 + 5])
async def test_p1_fault_19_a_power_cut_while_bytes_go_both_ways(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, ends: Ends, begin: int,
) -> None:
    """P1, fault 19: later bytes are on the disk, and those before them, in the page cache, are not; neither counts."""
    with mounted("-o", "loop", image, at=tmp_path / "disk") as disk:
        files = make(disk)
        incoming = files.receive("u1")
        await draw(incoming, ends, DATA[:begin])
        assert await incoming.pause() == begin
        await incoming.write(DATA[begin:][:BUFFER // 3])
        await draw(incoming, ends, DATA[begin:BEGUN][BUFFER // 3:])
        settle_sizes(disk)
        shutil.copyfile(image, tmp_path / "copy")
        await incoming.discard()
        files.close()
    with mounted("-o", "loop", tmp_path / "copy", at=tmp_path / "after") as disk:
        files = make(disk)
        again = files.receive("u1")
        size = again.path.stat().st_size
        assert size > begin and not DATA.startswith(again.path.read_bytes()), "there is no hole: this shows nothing"
        monkeypatch.setattr(hold, "boot_id", lambda: "another-boot")
        assert await again.recover() == begin
        await draw(again, ends, DATA[begin:])
        assert await again.finish() == digest_of(DATA)
        files.close()


# --- who has the buffers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value", "most"), [
    ("TURN", 1, BUFFER), ("TURN", BUFFER, 2 * BUFFER - 1), ("TURN_S", -1, BUFFER),
])
async def test_a_turn_ends_although_there_is_more(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch, name: str, value: int, most: int,
) -> None:
    monkeypatch.setattr(drawing, name, value)
    incoming, left = files.receive("u1"), len(DATA)
    sending = asyncio.create_task(ends.send(DATA))
    while left:
        moved = await incoming.draw(ends.ours.fileno(), left)
        assert moved <= most
        left -= moved
        await asyncio.sleep(0 if moved else 0.001)
    await sending
    assert await incoming.finish() == digest_of(DATA)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_leaves_while_a_write_is_under_way_waits_for_it(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch, cancelled: bool,
) -> None:
    began, go_on = asyncio.Event(), Event()
    loop, put = asyncio.get_running_loop(), Incoming._put

    def slow(self: Incoming, position: int, piece: memoryview) -> None:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(30)
        put(self, position, piece)

    monkeypatch.setattr(Incoming, "_put", slow)
    monkeypatch.setattr(drawing, "TURN", 1)
    incoming = files.receive("u1")
    drawing_ = asyncio.create_task(draw(incoming, ends, DATA))
    await began.wait()
    if cancelled:
        drawing_.cancel()
    leaving = asyncio.create_task(incoming.discard())
    await asyncio.sleep(0)
    assert incoming.path.exists() and not leaving.done() and files.drawer.idle == THREADS - 1
    go_on.set()
    await leaving
    with pytest.raises((asyncio.CancelledError, NotFound) if cancelled else NotFound):
        await drawing_
    assert on_disk(files) == [] and files.drawer.idle == THREADS


async def test_no_two_uploads_have_the_same_buffer(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[int, Incoming] = {}
    put = Incoming._put

    def watched(self: Incoming, position: int, piece: memoryview) -> None:
        assert used.setdefault(id(piece.obj), self) is self
        put(self, position, piece)
        del used[id(piece.obj)]

    monkeypatch.setattr(Incoming, "_put", watched)

    async def receive(number: int) -> None:
        incoming, data = files.receive(f"u{number}"), DATA[number:] + DATA[:number]
        async with connected() as pair:
            await draw(incoming, pair, data)
        assert await incoming.finish() == digest_of(data)

    await asyncio.gather(*(receive(number) for number in range(8)))
    assert files.drawer.idle == THREADS


async def test_a_failed_draw_gives_its_buffers_back(
    files: Files, ends: Ends, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "write", error(errno.EIO))
    for number in range(2 * THREADS):
        with pytest.raises(HubError):
            await draw(files.receive(f"u{number}"), ends, DATA[:1000])
    assert files.drawer.idle == THREADS
