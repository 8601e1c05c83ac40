"""How the peers get here: into build/peers, which git does not see, and never into the system.

Redis is the system's own where there is one, else Debian's packages unpacked beside the others. What cannot be had
has a reason, and the benchmark goes on without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent.parent / "build" / "peers"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
BULLMQ, IOREDIS = "6.7.0", "6.0.0"
WS, UWS = "8.23.0", "20.57.0"
DEBIAN = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
PATIENCE = 180  # seconds for one step
COMPLAIN = "console.error(String(error).replace(/\\s+/g, ' ').slice(-190)); process.exit(1)"


class NotHere(Exception):
    """A peer cannot be had; the text says why."""


@dataclass(slots=True)
class Programs:
    """What is installed: redis-server, the folder that BullMQ is in, and Celery's Python; `reasons` for what is not."""

    redis: Path
    redis_environment: dict[str, str]
    environment: dict[str, str]
    bullmq: Path | None = None
    celery: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def install_all() -> Programs:
    """Install what is not here yet.

    Raises:
        NotHere: there is no Redis, so no peer can run.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "PYTHON"))}
    redis, redis_environment = install_redis(environment)
    programs = Programs(redis, redis_environment, environment)
    version = output([str(redis), "--version"], redis_environment).split("v=")[-1].split()[0]
    try:
        programs.bullmq = install_bullmq()
        programs.versions["bullmq"] = f"bullmq {BULLMQ}, ioredis {IOREDIS}, Redis {version}"
    except NotHere as error:
        programs.reasons["bullmq"] = str(error)
    try:
        programs.celery = install_celery()
        celery = output([str(programs.celery), "-m", "celery", "--version"], environment).split()[0]
        programs.versions["celery"] = f"celery {celery}, Redis {version}"
    except NotHere as error:
        programs.reasons["celery"] = str(error)
    return programs


def install_redis(environment: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """A redis-server and the environment that it runs in."""
    found = shutil.which("redis-server")
    if found:
        return Path(found), environment
    unpacked = CACHE / "redis"
    if not unpacked.exists():
        fresh = CACHE / "redis.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        run(["apt-get", "download", "-q", *DEBIAN], fresh)
        for package in sorted(fresh.glob("*.deb")):
            run(["dpkg", "-x", package.name, "."], fresh)
        fresh.rename(unpacked)
    libraries = ":".join(str(folder) for folder in (unpacked / "usr" / "lib").glob("*-linux-gnu*"))
    return unpacked / "usr" / "bin" / "redis-server", {**environment, "LD_LIBRARY_PATH": libraries}


def install_bullmq() -> Path:
    """The folder whose node_modules holds BullMQ."""
    return install_npm(f"bullmq-{BULLMQ}-{IOREDIS}", f"bullmq@{BULLMQ}", f"ioredis@{IOREDIS}")


def install_websockets() -> Path:
    """The folder whose node_modules holds Node's ws and uWebSockets.js (a build of it that the registry has)."""
    return install_npm(f"websockets-{WS}-{UWS}", f"ws@{WS}", f"@btc-vision/uwebsockets.js@{UWS}")


def install_npm(name: str, *packages: str) -> Path:
    """The folder of that name whose node_modules holds `packages`, installed if they are not there yet.

    Raises:
        NotHere: npm did not work.
    """
    folder = CACHE / name
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run(["npm", "install", "--prefix", ".", "--no-audit", "--no-fund", "--ignore-scripts", *packages], folder)
        (folder / "installed").touch()
    return folder


def loads(folder: Path, package: str) -> None:
    """Let a Node package pass that runs here.

    Raises:
        NotHere: with what it says.
    """
    run(["node", "-e", f"try {{ require({package!r}) }} catch (error) {{ {COMPLAIN} }}"], folder)


def install_celery() -> Path:
    """The Python that has Celery."""
    folder = CACHE / "celery"
    wanted = REQUIREMENTS.read_text()
    installed = folder / "installed"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], CACHE)
        run([
            str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "-r", str(REQUIREMENTS),
        ], CACHE)
        installed.write_text(wanted)
    return folder / "bin" / "python"


def run(command: list[str], folder: Path) -> None:
    """Run one step of an installation.

    Raises:
        NotHere: it did not work.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, timeout=PATIENCE, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(f"{command[0]}: {type(error).__name__}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotHere(f"{Path(command[0]).name} ended with {done.returncode}: {last[:200]}")


def output(command: list[str], environment: dict[str, str]) -> str:
    """What a program says of itself.

    Raises:
        NotHere: it does not run.
    """
    try:
        return subprocess.run(
            command, env=environment, timeout=PATIENCE, capture_output=True, text=True, check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(f"{Path(command[0]).name} does not run: {error}") from None
