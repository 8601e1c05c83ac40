"""What every test gets: nothing may be logged as a warning or worse unless the test said so."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.mongo import mongo_uri

__all__ = ["mongo_uri"]


def pytest_configure() -> None:
    """Let structlog speak through the standard library, where `caplog` hears it."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level, structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@pytest.fixture(autouse=True)
def no_unexpected_log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A warning that nobody expected fails the test; one that is expected is read and cleared by the test."""
    yield
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    loud = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    assert not loud, f"unexpected log lines: {loud}"
