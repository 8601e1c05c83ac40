"""Five hundred damaged and lying files through the real probe: whatever is in them, it ends in facts or a refusal.

The damage is drawn from a seed, so a failure names the file that can be made again: `mutant(number)`.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hub.errors import MediaRefused
from hub.media import Purpose
from store.probe import Probe
from store.probe_wire import REFUSALS
from tests import odd_media
from tests.store.probing import decoding_under, pids_under, probe, write

__all__ = ["probe"]
pytestmark = [pytest.mark.media, pytest.mark.asyncio(loop_scope="module")]

FILES = 500
GROWTH = 32 << 20  # bytes by which the hub, or the process that forks, may grow: 500 leaks of 64 KiB
LIES = (0, 1, 7, 8, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 24, 1 << 30)
NAMES = (
    b"moov", b"stsz", b"stts", b"stsc", b"avcC", b"mdat", b"IHDR", b"IDAT", b"\xff\xc0", b"\xff\xda", b"\x1f\x43",
)
SEEDS: list[tuple[Callable[[], Path], Purpose]] = [  # small real files, each in turn
    (odd_media.silent, Purpose.VIDEO), (odd_media.webm, Purpose.VIDEO), (odd_media.png, Purpose.BACKGROUND),
    (lambda: odd_media.PAGODA, Purpose.BACKGROUND), (lambda: odd_media.WEBCAM, Purpose.VIDEO),
    (odd_media.fragmented, Purpose.VIDEO), (odd_media.vp8, Purpose.VIDEO), (odd_media.phone_jpeg, Purpose.BACKGROUND),
    (odd_media.silent, Purpose.RESULT), (odd_media.webm, Purpose.RESULT),
]


@cache
def original(number: int) -> bytes:
    return SEEDS[number % len(SEEDS)][0]().read_bytes()


def mutant(number: int) -> bytes:
    """The file of this number: one to three kinds of damage, the headers and the index more often than the rest."""
    chance = random.Random(number)
    data = bytearray(original(number))
    for _ in range(chance.randint(1, 3)):
        chance.choice(DAMAGES)(data, chance)
    return bytes(data)


def place(data: bytearray, chance: random.Random) -> int:
    """Somewhere: at the front, near a name that a decoder looks for, or anywhere."""
    known = [at for name in NAMES if (at := data.find(name)) >= 0]
    near = chance.choice([0, *known]) + chance.randrange(64)
    return min(max(0, len(data) - 8), near if chance.random() < 0.7 else chance.randrange(len(data) or 1))


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 8, 64))):
        at = place(data, chance)
        if at < len(data):
            data[at] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    """Truncate, or leave the front out."""
    at = chance.randrange(len(data) or 1)
    if chance.random() < 0.8:
        del data[at:]
    else:
        del data[:at]


def lie_about_size(data: bytearray, chance: random.Random) -> None:
    """A box, chunk, segment or element says another length."""
    at = place(data, chance)
    for form in (">I", "<I", ">H", ">Q"):
        if chance.random() < 0.4 and at + 8 <= len(data):
            value = chance.choice(LIES) & ((1 << 8 * struct.calcsize(form)) - 1)
            struct.pack_into(form, data, at, value)


def splice(data: bytearray, chance: random.Random) -> None:
    """A part comes twice, elsewhere, or from another file."""
    other = original(chance.randrange(len(SEEDS))) if chance.random() < 0.5 else bytes(data)
    start, at = chance.randrange(len(other)), place(data, chance)
    part = other[start:start + chance.choice((8, 200, 5000, 60_000))]
    data[at:at + (0 if chance.random() < 0.5 else len(part))] = part


def overwrite(data: bytearray, chance: random.Random) -> None:
    """A stretch of zeros, of ones, or of noise."""
    at, length = place(data, chance), chance.choice((4, 64, 2000))
    data[at:at + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))


DAMAGES = (flip_bits, flip_bits, cut, lie_about_size, lie_about_size, splice, overwrite)


async def test_p16_five_hundred_damaged_files_end_in_facts_or_a_refusal(probe: Probe, tmp_path: Path) -> None:
    """P16: none hangs or crashes a child, none makes the hub or the fork server grow, none is left behind."""
    server = (await probe.running()).process.pid
    watched = [os.getpid(), server, *pids_under(server)]
    outcomes: dict[int, str] = {}

    async def look(number: int) -> None:
        path = write(tmp_path / str(number), mutant(number))
        try:
            facts, _ = await probe(path, SEEDS[number % len(SEEDS)][1])
            outcomes[number] = "taken" if facts.width * facts.height <= probe.max_picture_pixels else "too large"
        except MediaRefused as refusal:
            outcomes[number] = refusal.code
        path.unlink()

    await asyncio.gather(*(look(number) for number in range(50)))
    before, open_files = [memory_of(pid) for pid in watched], len(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(look(number) for number in range(50, FILES)))
    bad = {number: code for number, code in outcomes.items() if code not in {"taken", *REFUSALS} - BAD_ENDS}
    assert len(outcomes) == FILES and not bad
    assert [after - then for after, then in zip(map(memory_of, watched), before) if after - then > GROWTH] == []
    assert len(os.listdir("/proc/self/fd")) == open_files
    assert (await probe.running()).process.pid == server and decoding_under(server) == []
    counted = Counter(outcomes.values())
    assert counted["taken"] > 50 and len(counted) > 5, counted  # the damage is neither too light nor too heavy
    facts, _ = await probe(odd_media.WEBCAM, Purpose.VIDEO)
    assert facts.frames == 72


BAD_ENDS = {"probe_crashed", "probe_timeout"}


def memory_of(pid: int) -> int:
    """Resident bytes of a process that are its own."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE")


async def test_a_mutant_can_be_made_again() -> None:
    assert mutant(7) == mutant(7) != original(7)
    assert sum(mutant(number) != original(number) for number in range(100)) > 95
