"""Bytes that are drawn from a socket into a file, and the hashes that are made behind them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest
import pytest_asyncio

from hub.errors import DiskFull, NotFound
from hub.media import Purpose
from store.drawing import BUFFER, THREADS, Drawer
from store.files import Files
from store.hashes import WORTH
from store.incoming import Incoming
from tests.store.test_files import DATA, digest_of, make, on_disk, small_disk

__all__ = ["small_disk"]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = make(tmp_path)
    yield files
    files.close()


class Ends:
    """A TCP connection of our own: `theirs` sends, `ours` is drawn from."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours = ours
        self.theirs = theirs

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.theirs, data)

    async def draw_all(self, incoming: Incoming, count: int, most: int = 1 << 30) -> None:
        """Draw until `count` bytes came."""
        while count:
            moved = await incoming.draw(self.ours.fileno(), min(most, count))
            count -= moved
            await asyncio.sleep(0 if moved else 0.001)


@asynccontextmanager
async def connected() -> AsyncIterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield Ends(ours, theirs)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    async with connected() as pair:
        yield pair


@pytest.mark.parametrize("most", [1, 5000, 1 << 30])
async def test_what_is_drawn_is_whole_and_in_order(files: Files, ends: Ends, most: int) -> None:
    data = DATA[:300] if most == 1 else DATA
    incoming = files.receive("u1")
    sending = asyncio.create_task(ends.send(data))
    await ends.draw_all(incoming, len(data), most)
    await sending
    assert incoming.size == len(data)
    assert await incoming.draw(ends.ours.fileno(), 10) == 0
    assert await incoming.finish() == digest_of(data)
    path = await incoming.seal(Purpose.VIDEO)
    assert path.read_bytes() == data


async def test_written_and_drawn_bytes_keep_their_order(files: Files, ends: Ends) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:1000])
    await ends.send(DATA[1000:50_000])
    await ends.draw_all(incoming, 49_000)
    await incoming.write(DATA[50_000:400_000])
    assert await incoming.sync() == 400_000
    await ends.send(DATA[400_000:450_000])
    await ends.draw_all(incoming, 50_000)
    assert await incoming.finish() == digest_of(DATA[:450_000])


async def test_the_end_is_told_after_the_last_byte(files: Files, ends: Ends) -> None:
    incoming = files.receive("u1")
    await ends.send(DATA[:5000])
    ends.theirs.close()
    await ends.draw_all(incoming, 5000)
    with pytest.raises(EOFError):
        await incoming.draw(ends.ours.fileno(), 10)
    assert await incoming.finish() == digest_of(DATA[:5000])


async def test_a_reset_is_an_end(files: Files, ends: Ends) -> None:
    incoming = files.receive("u1")
    ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.theirs.close()
    with pytest.raises(EOFError):
        await ends.draw_all(incoming, 10)


async def test_p1_a_full_disk_goes_back_to_the_durable_bytes(small_disk: Files, ends: Ends) -> None:
    ballast = small_disk.posters / "ballast"
    ballast.write_bytes(bytes(100_000))
    incoming = small_disk.receive("u1")
    await ends.send(DATA[:100_000])
    await ends.draw_all(incoming, 100_000)
    await incoming.sync()
    sending = asyncio.create_task(ends.send(DATA[100_000:]))
    with pytest.raises(DiskFull):
        await ends.draw_all(incoming, len(DATA) - 100_000)
    kept = incoming.durable
    assert incoming.size == incoming.path.stat().st_size == kept >= 100_000
    sending.cancel()
    ballast.unlink()
    await incoming.write(DATA[kept:kept + 50_000])
    assert await incoming.finish() == digest_of(DATA[:kept + 50_000])
    await incoming.discard()
    assert on_disk(small_disk) == []


async def test_nothing_is_drawn_into_what_was_discarded(files: Files, ends: Ends) -> None:
    incoming = files.receive("u1")
    await ends.send(DATA[:1000])
    await ends.draw_all(incoming, 1000)
    await incoming.discard()
    with pytest.raises(NotFound):
        await incoming.draw(ends.ours.fileno(), 10)
    assert on_disk(files) == []


async def test_a_drawn_chunk_can_be_checked_kept_and_dropped(files: Files, ends: Ends) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:1000])
    await incoming.sync()
    for algorithm, end in (("sha1", 1_000_000), ("md5", 2_000_000)):
        await incoming.hold(algorithm)
        begin = incoming.durable
        sending = asyncio.create_task(ends.send(DATA[begin:end]))
        await ends.draw_all(incoming, end - begin)
        await sending
        await incoming.sync()
        assert await incoming.check() == hashlib.new(algorithm, DATA[begin:end]).digest()
        await (incoming.keep() if algorithm == "sha1" else incoming.drop())
    assert incoming.size == incoming.path.stat().st_size == 1_000_000
    await incoming.write(DATA[1_000_000:])
    assert await incoming.finish() == digest_of(DATA)


async def test_hashing_goes_on_behind_the_writing(files: Files) -> None:
    """What is hashed before the end is not hashed in the end."""
    incoming = files.receive("u1")
    for _ in range(3):
        await incoming.write(DATA)
    await incoming.sync()
    running = incoming._hashes._running
    async with asyncio.timeout(10):
        while any(each.done < 3 * len(DATA) - WORTH for each in running):
            await asyncio.sleep(0.001)
    assert await incoming.finish() == digest_of(DATA * 3)


async def test_no_descriptor_is_left_of_drawing(files: Files, ends: Ends) -> None:
    before = 0
    for number in range(6):
        before = before or number and len(os.listdir("/proc/self/fd"))  # the first has started threads
        incoming = files.receive(f"u{number}")
        sending = asyncio.create_task(ends.send(DATA))
        await ends.draw_all(incoming, len(DATA))
        await sending
        await (incoming.finish() if number % 2 else incoming.discard())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_job_that_has_failed_is_not_done_with_what_comes_after() -> None:
    """A later piece in the place of an earlier one would make a file of the right size and the wrong bytes.

    Nobody else gets the buffers while another job still has one of them.
    """
    drawer, further, let_go = Drawer(), Event(), Event()
    calls: list[int] = []

    def write(at: int, piece: memoryview) -> None:
        calls.append(at)
        if at:
            assert further.wait(10)
            raise OSError(errno.EIO, "the disk is broken")

    def hash_on(at: int, piece: memoryview) -> None:
        if at == 2 * BUFFER:
            further.set()
            assert let_go.wait(10)

    zeros = os.open("/dev/zero", os.O_RDONLY)
    drawing = drawer.submit(drawer.draw, zeros, 8 * BUFFER, 0, [write, hash_on])
    assert await asyncio.to_thread(further.wait, 10)
    await asyncio.wait([drawing], timeout=0.05)
    assert not drawing.done() and drawer.idle == THREADS - 1
    let_go.set()
    with pytest.raises(OSError, match="the disk is broken"):
        await drawing
    assert calls == [0, BUFFER] and drawer.idle == THREADS
    drawer.close()
    os.close(zeros)
