"""A few rounds of chaos in each run of the gate, and the thirty that take their time."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .processes import ROOT


def chaos(*words: str, streamed: bool = False) -> dict[str, Any]:
    """What rounds in a process of their own have printed last; what they print appears at once where `streamed`.

    They end by themselves: a round waits for nothing without a limit.
    """
    lines: list[str] = []
    command = [sys.executable, "-u", "-m", "tests.chaos", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if streamed:
                print(line, end="", flush=True)
        code = process.wait()
    assert code == 0, "".join(lines)
    last: dict[str, Any] = json.loads(lines[-1])
    return last


def test_p5_p6_p9_p15_three_rounds_of_kill_9() -> None:
    done = chaos("--rounds", "3", "--tasks", "30", "--faults", "3", "--seed", "1")
    assert (done["chaos"]["broken"], done["chaos"]["tasks"]) == ([], 90)
    assert {"kill hub", "kill mongod", "kill worker"} <= done["faults"].keys()


@pytest.mark.chaos
def test_p5_p6_p9_p15_thirty_rounds_of_kill_9() -> None:
    done = chaos("--rounds", "30", "--tasks", "200", streamed=True)
    assert (done["chaos"]["broken"], done["chaos"]["tasks"]) == ([], 6000)
    assert {"kill hub", "kill mongod", "kill worker"} <= done["faults"].keys()
