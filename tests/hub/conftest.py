"""What the core's and the runner's tests begin with, unless they say otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hub import runner as running

from .stage import Stage


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A started runner; time passes only when the test says so."""
    monkeypatch.setattr(running, "TICK_S", 3600)
    stage = Stage()
    await stage.start()
    yield stage
    stage.store.open.set()
    stage.store.away = False
    await stage.runner.stop()
