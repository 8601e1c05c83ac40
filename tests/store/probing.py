"""What the tests of the probe share: a running probe, and how a refusal is looked at."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio

from hub.errors import MediaRefused
from hub.media import Purpose
from store.probe import Probe
from store.probe_wire import REFUSALS

__all__ = ["decoding_under", "pixels_of", "probe", "refused", "size_of", "write"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probe() -> AsyncIterator[Probe]:
    probe = Probe()
    await probe.start()
    yield probe
    await probe.stop()


async def refused(probe: Probe, path: Path, purpose: Purpose = Purpose.VIDEO) -> MediaRefused:
    with pytest.raises(MediaRefused) as caught:
        await probe(path, purpose)
    assert caught.value.code in REFUSALS
    assert caught.value.detail
    return caught.value


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pixels_of(jpeg: bytes) -> Any:
    """Height x width x RGB."""
    with av.open(io.BytesIO(jpeg), "r", format="jpeg_pipe") as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")


def size_of(jpeg: bytes) -> tuple[int, int]:
    height, width, _ = pixels_of(jpeg).shape
    return width, height


def decoding_under(pid: int) -> list[int]:
    """The decoding children of a fork server, which is two processes where it has its own process namespace."""
    below = pids_under(pid)
    if below and "\t1\n" in Path(f"/proc/{below[0]}/status").read_text().partition("NSpid:")[2][:40]:
        return pids_under(below[0])  # that one is process 1 in there
    return below


def pids_under(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
