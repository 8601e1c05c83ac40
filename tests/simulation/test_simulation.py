"""Two thousand bad days in each run of the gate, always the same ones; and that they find what is broken."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )


def test_two_thousand_bad_days_break_no_promise() -> None:
    done = simulate("--schedules", "2000", "--processes", "2")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.startswith("2000 days, ")


@pytest.mark.parametrize(("breakage", "complaint"), [
    ("no-fence", "the stored version of"), ("newest-first", "nobody starves: "), ("shown-too-early", "P9: "),
])
def test_a_broken_rule_is_found_and_the_day_can_be_seen_again(breakage: str, complaint: str) -> None:
    found = simulate("--breakage", breakage, "--schedules", "1000", "--processes", "1")
    assert found.returncode == 1, found.stdout[-2000:] + found.stderr[-2000:]
    *_, broken, again = found.stdout.splitlines()
    assert broken.startswith(f"broken: {complaint}")
    words = shlex.split(again.removeprefix("again:"))
    assert words[:3] == ["python", "-m", "tests.simulation"] and words[-2:] == ["--breakage", breakage]
    replayed = simulate(*words[3:])
    assert replayed.returncode == 1 and replayed.stdout.rstrip().endswith(broken.removeprefix("broken: "))


def test_what_can_be_broken_is_listed() -> None:
    listed = simulate("--breakages")
    assert listed.returncode == 0 and "old-lease" in listed.stdout
