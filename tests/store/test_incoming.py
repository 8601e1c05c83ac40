"""A file that comes in over several requests and lives: chunks that are dropped, crashes, faster paths."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import NotFound, Unavailable
from hub.media import Purpose
from store.files import PIECE, Files
from tests.store.test_files import DATA, digest_of, make, on_disk


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = make(tmp_path)
    yield files
    files.close()


# --- chunks that count as a whole or not at all -----------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "sha1", "sha256", "md5"])
@pytest.mark.parametrize("synced", [True, False])
async def test_a_dropped_chunk_leaves_bytes_and_hashes_as_they_were(
    files: Files, algorithm: str | None, synced: bool
) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:PIECE + 5])
    await incoming.pause()
    await incoming.hold(algorithm)
    await incoming.write(bytes(2 * PIECE))
    if synced:
        await incoming.sync()
    await incoming.drop()
    assert incoming.size == incoming.durable == incoming.path.stat().st_size == PIECE + 5
    await incoming.write(DATA[PIECE + 5:])
    assert await incoming.finish() == digest_of(DATA)


@pytest.mark.parametrize("restarted", [True, False])
async def test_the_hash_of_a_chunk_is_of_the_chunk_alone(files: Files, restarted: bool) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:1_000_001])
    await incoming.pause()
    if restarted:
        incoming = files.receive("u1")
        assert await incoming.recover() == 1_000_001
    await incoming.hold("sha256")
    await incoming.write(DATA[1_000_001:])
    await incoming.sync()
    assert await incoming.check() == hashlib.sha256(DATA[1_000_001:]).digest()
    await incoming.keep()
    assert await incoming.finish() == digest_of(DATA)
    await incoming.discard()
    assert on_disk(files) == []


async def test_p1_a_crash_undoes_a_checked_chunk_and_no_other(files: Files) -> None:
    """P1: what was not checked yet does not count, what was told before does."""
    incoming = files.receive("u1")
    await incoming.write(DATA[:1000])
    await incoming.pause()
    await incoming.hold("sha1")
    await incoming.write(DATA[1000:2 * PIECE])
    await incoming.sync()
    again = files.receive("u1")  # as after a crash
    assert await again.recover() == 1000
    await again.hold()
    await again.write(DATA[1000:5000])
    await again.pause()
    assert await files.receive("u1").recover() == 5000


async def test_a_hold_that_was_left_by_an_error_does_not_undo_what_comes_later(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = files.receive("u1")
    await incoming.hold("sha1")
    await incoming.write(DATA[:1000])
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", lambda file: fail(errno.EIO))
        with pytest.raises(Unavailable):
            await incoming.sync()
    await incoming.hold()
    await incoming.write(DATA[:2000])
    await incoming.pause()
    assert await files.receive("u1").recover() == 2000


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


# --- another life -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, PIECE, 10 * PIECE + 3, len(DATA)])
async def test_hashes_go_on_in_another_life(files: Files, first: int) -> None:
    incoming = files.receive("u1")
    await incoming.write(DATA[:first])
    await incoming.pause()
    again = files.receive("u1")
    assert await again.recover() == again.size == first
    for start in range(first, len(DATA), 50_000):
        await again.write(DATA[start:start + 50_000])
    assert await again.finish() == digest_of(DATA)


async def test_nothing_was_there(files: Files) -> None:
    assert await files.receive("u1").recover() == 0
    assert on_disk(files) == []


async def test_a_file_out_of_others(files: Files) -> None:
    for name, part in (("a", DATA[:PIECE + 1]), ("b", DATA[PIECE + 1:])):
        incoming = files.receive(name)
        await incoming.write(part)
        await incoming.pause()
    whole = files.receive("u1")
    await whole.append(files.receive("b").path)  # a first try that did not come to its end
    await whole.restart()
    await whole.append(files.receive("a").path)
    await whole.append(files.receive("b").path)
    assert await whole.finish() == digest_of(DATA)
    with pytest.raises(NotFound) as caught:
        await whole.append(files.receive("c").path)
    assert caught.value.code == "upload_gone"


async def test_p3_a_crash_between_sealing_and_recording_loses_nothing(files: Files) -> None:
    """P3: until it is discarded, the file can still be found under its upload."""
    incoming = files.receive("u1")
    await incoming.write(DATA)
    final = await incoming.seal(Purpose.VIDEO)
    again = files.receive("u1")
    assert await again.recover() == len(DATA)
    assert await again.seal(Purpose.VIDEO) == final
    await again.discard()
    assert on_disk(files) == [final] and final.read_bytes() == DATA


async def test_a_file_system_without_links_gets_a_copy(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda source, final: fail(errno.EPERM))
    incoming = files.receive("u1")
    await incoming.write(DATA)
    final = await incoming.seal(Purpose.VIDEO)
    assert final.read_bytes() == incoming.path.read_bytes() == DATA
