"""How much of a file holds when the hub dies, and when the power fails, which leaves what is in a copy of the disk."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.errors import DiskFull, HubError
from store import disk as disk_module
from store import hold as hold_module
from store import incoming as incoming_module
from store.files import PIECE, Files
from store.incoming import Incoming
from tests.resuming.test_disk import MIB, image, mounted, settle_sizes
from tests.store.test_files import DATA, digest_of, make, on_disk
from tests.store.test_incoming import fail, files

__all__ = ["files", "image"]

LONG = b"what nobody takes for a hole. " * (7 * MIB // 30)  # fewer bytes than the hub has the disk begin with itself
WHOLE_RANGE = 1 | 2 | 4  # sync_file_range(2): wait, write, wait


@pytest.fixture
def power_cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever looks now finds that the machine has been started again."""
    cut_power(monkeypatch)
    yield


def cut_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "boot_id", lambda: "another-boot")


@contextmanager
def left_of(image: Path, files: Files, at: Path) -> Iterator[Files]:
    """The folders as they would be found if the power failed now."""
    settle_sizes(files.posters)
    copy = image.with_name("copy")
    shutil.copyfile(image, copy)
    with mounted("-o", "loop", copy, at=at) as disk:
        left = make(disk)
        yield left
        left.close()


def write_later_pages_first(file: int, start: int) -> None:
    """What the kernel may do by itself: it goes round the pages of a file, and begins where it was last."""
    count = os.fstat(file).st_size - start
    assert not disk_module.libc.sync_file_range(file, ctypes.c_int64(start), ctypes.c_int64(count), WHOLE_RANGE)


@pytest.mark.parametrize("acknowledged", [0, 1, 1000, 4096, MIB + 5])
async def test_p1_p3_fault_19_zeros_that_a_power_cut_leaves_do_not_count(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, acknowledged: int,
) -> None:
    """P1, P3, fault 19: the file comes back as long as it was, with a hole where nobody had synced."""
    with mounted("-o", "loop", image, at=tmp_path / "disk") as disk:
        files = make(disk)
        incoming = files.receive("u1", algorithms=())  # whoever has read a new file and closes it has ext4 write it
        if acknowledged:
            await incoming.write(LONG[:acknowledged])
            assert await incoming.pause() == acknowledged
        await incoming.hold()
        await incoming.write(LONG[acknowledged:])
        await incoming._flush()
        await incoming._settle()
        write_later_pages_first(incoming._file, 4 * MIB)
        with left_of(image, files, tmp_path / "after") as left:
            bytes_left = left.receive("u1").path.read_bytes()
            assert len(bytes_left) == len(LONG) and bytes_left != LONG, "there is no hole: this shows nothing"
            cut_power(monkeypatch)
            again = left.receive("u1")
            assert await again.recover() == acknowledged == again.path.stat().st_size
            await again.write(LONG[acknowledged:])
            assert await again.finish() == digest_of(LONG)
            assert again.path.read_bytes() == LONG
        await incoming.discard()
        files.close()


# --- which crash it was -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [0, 1000, PIECE])
async def test_p1_a_killed_hub_loses_nothing_that_came(files: Files, told: int) -> None:
    """P1: under the same boot the kernel has all that was written, whether or not it was synced."""
    await leave(files.receive("u1"), told)
    assert await files.receive("u1").recover() == 3 * PIECE


@pytest.mark.parametrize("told", [0, 1000, PIECE])
async def test_p1_p2_what_was_told_holds_after_a_power_cut(
    files: Files, monkeypatch: pytest.MonkeyPatch, told: int,
) -> None:
    """P1, P2: no byte less, and no byte more; and what the next life takes under the new boot survives its crash."""
    await leave(files.receive("u1"), told)
    cut_power(monkeypatch)
    again = files.receive("u1")
    assert await again.recover() == told
    await again.write(DATA[told:5 * PIECE])
    await again._settle()
    assert await files.receive("u1").recover() > told


async def leave(incoming: Incoming, told: int) -> None:
    """Let it have three pieces of which so many bytes were told, and nobody who ends it."""
    if told:
        await incoming.write(DATA[:told])
        assert await incoming.pause() == told
    await incoming.hold()
    await incoming.write(DATA[told:3 * PIECE])
    await incoming._flush()
    await incoming._settle()


async def test_p1_p2_what_a_next_life_found_and_told_holds_too(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, P2: after kill -9 more was told than had been synced; it is synced then, and a power cut leaves it."""
    await leave(files.receive("u1"), 1000)
    assert await files.receive("u1").recover() == 3 * PIECE
    cut_power(monkeypatch)
    assert await files.receive("u1").recover() == 3 * PIECE


async def test_p1_where_the_machine_tells_no_boot_only_what_was_told_counts(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    """P1: no crash is taken for a mere kill then."""
    monkeypatch.setattr(disk_module, "BOOT_ID", tmp_path / "is not there")
    assert disk_module.boot_id() is None
    await leave(files.receive("u1"), 1000)
    assert await files.receive("u1").recover() == 1000


async def test_a_boot_has_a_name_here() -> None:
    assert disk_module.boot_id() == disk_module.boot_id() is not None


async def test_p2_a_dropped_chunk_does_not_come_back(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: nor does what was synced, and perhaps told, go with it; all goes where a file is put together anew."""
    monkeypatch.setattr(incoming_module, "UNSYNCED", PIECE)
    incoming = files.receive("u1")
    await leave(incoming, 1000)
    await incoming.write(DATA[3 * PIECE:])
    assert incoming.durable == 3 * PIECE
    await incoming.drop()
    assert incoming.size == incoming.durable == 3 * PIECE
    cut_power(monkeypatch)
    assert await files.receive("u1").recover() == 3 * PIECE
    await incoming.write(DATA[3 * PIECE:])
    assert await incoming.finish() == digest_of(DATA)
    await incoming.restart()
    assert await files.receive("u1").recover() == 0


async def test_a_checked_chunk_is_not_synced_before_its_end(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "UNSYNCED", PIECE)
    incoming = files.receive("u1")
    await incoming.hold("sha1")
    for start in range(0, len(DATA), PIECE):
        await incoming.write(DATA[start:start + PIECE])
    assert incoming.durable == 0
    await incoming.drop()
    assert await files.receive("u1").recover() == 0


async def test_a_long_request_is_synced_now_and_then(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "UNSYNCED", 2 * PIECE)
    incoming = files.receive("u1")
    for start in range(0, len(DATA), 1000):
        await incoming.write(DATA[start:start + 1000])
    cut_power(monkeypatch)
    assert len(DATA) - 2 * PIECE - 1000 < await files.receive("u1").recover() < len(DATA)


async def test_a_whole_out_of_parts_is_put_together_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: what was put together counts once all of it is synced."""
    part = files.receive("part")
    await part.write(DATA)
    await part.pause()
    whole = files.receive("u1")
    await whole.restart()
    await whole.append(part.path)
    await whole._flush()
    await whole._settle()
    cut_power(monkeypatch)
    assert await files.receive("part").recover() == len(DATA)
    assert await files.receive("u1").recover() == 0


# --- notes that are odd, and disks that do not take them --------------------------------------------------------


@pytest.mark.usefixtures("power_cut")
async def test_p1_bytes_without_a_note_are_those_of_an_older_hub(files: Files) -> None:
    """P1: their offset was told when notes were not known."""
    files.receive("u1").path.write_bytes(DATA)
    assert await files.receive("u1").recover() == len(DATA)


@pytest.mark.parametrize("at", [0, 19, 21, 60, 65])
@pytest.mark.parametrize("power_is_cut", [True, False])
async def test_p3_a_torn_note_says_nothing(
    files: Files, monkeypatch: pytest.MonkeyPatch, at: int, power_is_cut: bool,
) -> None:
    """P3: rather all is sent again than that anything is believed."""
    incoming = files.receive("u1")
    await leave(incoming, 1000)
    note = incoming.path.with_name("u1.hold")
    line = note.read_bytes()
    note.write_bytes(line[:at] + bytes([line[at] ^ 1]) + line[at + 1:])
    if power_is_cut:
        cut_power(monkeypatch)
    again = files.receive("u1")
    assert await again.recover() == 0
    await again.write(DATA)
    assert await again.finish() == digest_of(DATA)


@pytest.mark.parametrize("cut", [0, 1, 20, 66])
async def test_p3_nor_does_one_that_is_cut_off(files: Files, cut: int) -> None:
    """P3: such as an empty one, when the power fails before the first byte is taken."""
    incoming = files.receive("u1")
    await leave(incoming, 1000)
    os.truncate(incoming.path.with_name("u1.hold"), cut)
    assert await files.receive("u1").recover() == 0


@pytest.mark.parametrize("told", [0, 1000])
async def test_p1_fault_16_no_room_for_the_note(files: Files, monkeypatch: pytest.MonkeyPatch, told: int) -> None:
    """P1, fault 16: the bytes do not count then, and it goes on once there is room."""
    incoming = files.receive("u1")
    await leave(incoming, told)
    with monkeypatch.context() as failing:
        failing.setattr(os, "pwrite", lambda *_: fail(errno.ENOSPC))
        with pytest.raises(DiskFull):
            await incoming.sync()
    assert incoming.size == incoming.durable == told
    cut_power(monkeypatch)
    assert await files.receive("u1").recover() == told
    await incoming.write(DATA[told:])
    assert await incoming.finish() == digest_of(DATA)


async def test_p1_a_chunk_that_cannot_be_said_to_count_does_not(
    files: Files, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1: it was synced and its checksum is right, but its note fails."""
    incoming = files.receive("u1")
    await leave(incoming, 1000)
    await incoming.pause()
    await incoming.hold("sha1")
    await incoming.write(DATA[3 * PIECE:])
    await incoming.sync()
    with monkeypatch.context() as failing:
        failing.setattr(os, "pwrite", lambda *_: fail(errno.EIO))
        with pytest.raises(HubError):
            await incoming.keep()
    assert incoming.size == incoming.durable == incoming.path.stat().st_size == 3 * PIECE
    await incoming.write(DATA[3 * PIECE:])
    assert await incoming.finish() == digest_of(DATA)


async def test_what_cannot_be_resumed_has_no_note(files: Files) -> None:
    incoming = files.receive("u1", resumable=False)
    await incoming.write(DATA)
    await incoming.finish()
    assert on_disk(files) == [incoming.path]
    await incoming.discard()
    assert on_disk(files) == []
