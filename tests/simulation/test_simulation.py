"""A thousand bad days in each run of the gate, always the same ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_thousand_bad_days_break_no_promise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--schedules", "1000", "--processes", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.startswith("1000 days, ")
