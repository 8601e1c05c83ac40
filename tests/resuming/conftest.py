"""A hub in a process of its own, for a module's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.resuming.process import HubProcess


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HubProcess]:
    process = HubProcess(mongo_uri, tmp_path_factory.mktemp("hub"))
    await process.start()
    yield process
    process.stop()
