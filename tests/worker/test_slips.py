"""What authors of task functions get wrong, and what they may not break by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hub.messages import Progress, Result, ResultAck, Watching
from tests.worker.serving import serving
from worker.previews import unpacked
from worker.testing import FakeHub


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        yield hub


async def test_numbers_of_numpys_and_words_among_them_do_no_harm(
    hub: FakeHub, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(hub):
        lease = await hub.assign("numpy_numbers")
        await hub.send(Watching(lease=lease, on=True))
        assert (await hub.expect(Progress, phase="segment")).frames_done == 3
        result = await hub.expect(Result, lease=lease)
        assert (result.artifacts[0].frames, result.stats) == (2, {"frames": 2.0})
        assert unpacked(await asyncio.wait_for(hub.pictures.get(), 20))[0].frame == 7
        await hub.send(ResultAck(lease=lease))
        lease = await hub.assign("list_of_numbers")
        assert (await hub.expect(Result, lease=lease)).stats == {}
        await hub.send(ResultAck(lease=lease))
    said = capfd.readouterr().out
    assert "number_left_out" in said and "not list" in said
