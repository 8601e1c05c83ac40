"""Settings from the environment, from dotenv files and from the secrets made for development."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.settings import LEAST_BYTES, REQUIRED_SECRETS, BadSettings, template
from store.environment import development_secrets, load, settings

SECRETS = {"JWT_SECRET": "Zk3v9pQ1xT7mR5wY8nB2cL6dH4gJ0sAf", "INTERFACE_IDENTIFICATION": "q8W2eR5tY7uI9oP1"}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=7000\nDB_NAME=other\n")
    got = settings({"PORT": "7001", "DB_NAME": ""}, tmp_path)
    assert (got.port, got.db_name) == (7001, "other")


@pytest.mark.parametrize(("environ", "port"), [
    ({}, "1"), ({"NODE_ENV": "development"}, "1"), ({"NODE_ENV": "test"}, "1"), ({"NODE_ENV": "production"}, "2"),
    ({"APP_ENV": "Production"}, "2"), ({"NODE_ENV": "development", "APP_ENV": "production"}, "2"),
])
def test_production_has_its_own_file(tmp_path: Path, environ: dict[str, str], port: str) -> None:
    (tmp_path / ".env").write_text("PORT=1")
    (tmp_path / ".env.production").write_text("PORT=2")
    assert load(environ, tmp_path)["PORT"] == port


def test_files_as_people_write_them(tmp_path: Path) -> None:
    lines = [
        "\ufeffDB_NAME=n", "# a comment", "export PORT=7000 # more",
        "DB_PASSWORD='p$HOME#${PORT}'", "", 'DB_USER="u"', "LONELY", "",
    ]
    (tmp_path / ".env").write_bytes("\r\n".join(lines).encode())
    assert load({}, tmp_path) == {"DB_NAME": "n", "PORT": "7000", "DB_PASSWORD": "p$HOME#${PORT}", "DB_USER": "u"}


def test_a_line_that_is_no_setting_is_named_without_its_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\nJWT_SECRET 'my very own'\n\nDB_NAME=\"open\n")
    with pytest.raises(BadSettings) as bad:
        load({}, tmp_path)
    assert bad.value.problems == [".env, line 2: is no NAME=value", ".env, line 4: is no NAME=value"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff")
    (tmp_path / ".env.production").mkdir()
    for environ, name in (({}, ".env"), ({"APP_ENV": "production"}, ".env.production")):
        with pytest.raises(BadSettings) as bad:
            load(environ, tmp_path)
        assert bad.value.problems[0].startswith(f"{name}: cannot be read")


def test_the_template_starts_production_once_the_secrets_are_given(tmp_path: Path) -> None:
    (tmp_path / ".env.production").write_text(template())
    with pytest.raises(BadSettings) as bad:
        settings({"NODE_ENV": "production"}, tmp_path)
    assert [problem.partition(":")[0] for problem in bad.value.problems] == [*REQUIRED_SECRETS]
    got = settings({"NODE_ENV": "production", **SECRETS}, tmp_path)
    assert (got.production, got.jwt_secret) == (True, SECRETS["JWT_SECRET"])
    assert not (tmp_path / ".data").exists()


def test_development_makes_its_secrets_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first, second = settings({}, tmp_path), settings({}, tmp_path)
    assert first == second
    assert len(first.jwt_secret.encode()) >= LEAST_BYTES["JWT_SECRET"]
    assert first.jwt_secret != first.interface_identification
    kept = tmp_path / ".data" / "secrets.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == ["secrets.json"]


def test_secrets_made_in_development_would_do_in_production(tmp_path: Path) -> None:
    assert settings({"NODE_ENV": "production", **development_secrets(tmp_path)}, tmp_path).production


def test_given_secrets_are_not_replaced(tmp_path: Path) -> None:
    got = settings({"JWT_SECRET": "mine"}, tmp_path)
    assert got.jwt_secret == "mine"
    assert got.interface_identification == development_secrets(got.data_dir)["INTERFACE_IDENTIFICATION"]
    settings(SECRETS | {"DATA_DIR": "untouched"}, tmp_path)
    assert not (tmp_path / "untouched").exists()


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b"null", b'{"JWT_SECRET": 1}', b"\xff", json.dumps({
    "JWT_SECRET": "short", "INTERFACE_IDENTIFICATION": "x" * 16}).encode()])
def test_row_30_spoilt_secrets_are_put_aside_with_a_word(
    tmp_path: Path, spoilt: bytes, caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "secrets.json").write_bytes(spoilt)
    made = development_secrets(tmp_path)
    assert development_secrets(tmp_path) == made
    assert (tmp_path / "secrets.spoilt").read_bytes() == spoilt
    [record] = caplog.records
    assert "new secrets are made" in record.getMessage()
    assert not any(secret in caplog.text for secret in made.values())
    caplog.clear()


def test_hubs_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starts:
        made = list(starts.map(development_secrets, [tmp_path] * 8))
    assert all(each == made[0] for each in made)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings) as bad:
        settings({"DATA_DIR": "file/below"}, tmp_path)
    assert bad.value.problems == ["DATA_DIR: cannot keep development secrets there (NotADirectoryError)"]
