"""How log lines look: structlog everywhere, the standard library's loggers included."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(format: str, level: str) -> None:
    """Log to stderr, as `console` lines or as one JSON object a line; `level` is debug, info, warning or error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    ))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("pymongo", "asyncio", "tornado.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def say(text: str) -> bool:
    """Print a line for whoever started this, and tell whether that was possible: a full disk is no reason to end."""
    try:
        print(text, flush=True)
    except OSError as error:
        structlog.get_logger(__name__).warning("not_printed", error=str(error))
        return False
    return True
