"""One real MongoDB for a whole test run; each test takes a database of its own in it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from store.embedded import Embedded


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an embedded MongoDB that serves every test of this run, whatever event loop the test has.

    Nobody watches over this mongod: a test that kills one starts one.
    """
    mongod = Embedded(tmp_path_factory.mktemp("hub"))
    run(mongod.start())
    try:
        yield mongod.uri
    finally:
        run(mongod.stop())


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` in a loop of its own; naming the factory leaves the loop that is set for the tests as it is."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work)
