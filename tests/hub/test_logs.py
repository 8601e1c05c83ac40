"""Log lines: one JSON object each for machines, one readable line for people, from whichever logger they come."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import logging, sys, structlog
from hub import logs
logs.configure(sys.argv[1], sys.argv[2])
structlog.contextvars.bind_contextvars(request_id="r1")
log = structlog.get_logger("hub.test")
log.debug("too_small")
log.info("task_created", task="t1", name="片\\nforged line")
logging.getLogger("pymongo.command").info("chatter")
logging.getLogger("library").warning("said %s", "so")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it_broke")
"""


def lines(format: str, level: str = "info") -> list[str]:
    """What a process of its own writes to stderr; nothing may come to stdout."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, format, level], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_is_one_object_a_line_from_structlog_and_the_standard_library() -> None:
    records: list[dict[str, Any]] = [json.loads(line) for line in lines("json")]
    assert [(record["event"], record["level"], record["logger"]) for record in records] == [
        ("task_created", "info", "hub.test"), ("said so", "warning", "library"), ("it_broke", "error", "hub.test"),
    ]
    assert records[0]["task"] == "t1" and records[0]["name"] == "片\nforged line"
    assert all(record["request_id"] == "r1" and record["timestamp"].endswith("Z") for record in records)
    assert "ZeroDivisionError" in records[2]["exception"]


def test_a_console_line_is_for_people_and_cannot_be_forged() -> None:
    found = lines("console")
    assert not any(line.startswith("forged line") for line in found)
    assert any("task_created" in line and "t1" in line for line in found)
    assert any("ZeroDivisionError" in line for line in found)
    assert not any("\x1b" in line for line in found), "no colours where nobody looks"


def test_only_the_level_that_was_asked_for_is_written() -> None:
    assert [json.loads(line)["event"] for line in lines("json", "error")] == ["it_broke"]
    assert json.loads(lines("json", "debug")[0])["event"] == "too_small"
