"""Where settings come from: the process environment, the .env file, and the secrets made for development.

Reads and writes these files and nothing else; what the texts mean is decided in hub/settings.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from hub.settings import LEAST_BYTES, REQUIRED_SECRETS, BadSettings, Settings

log = logging.getLogger(__name__)


def settings(environ: Mapping[str, str], root: Path) -> Settings:
    """The settings of the hub whose project is at `root`; in development missing secrets are made and kept.

    Raises:
        BadSettings: with every problem at once.
    """
    values = load(environ, root)
    read = Settings.parse(values, root)
    missing = [name for name in REQUIRED_SECRETS if not values.get(name, "").strip()]
    if read.production or not missing:
        return read
    made = development_secrets(read.data_dir)
    return Settings.parse({**values, **{name: made[name] for name in missing}}, root)


def load(environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """The texts of `.env` (`.env.production` when NODE_ENV or APP_ENV is production) under those of `environ`.

    A value that is empty in the environment does not hide the file's. `$` in a value stands for itself.

    Raises:
        BadSettings: the file cannot be read, or a line in it is no NAME=value.
    """
    modes = {environ.get(name, "").strip().lower() for name in ("NODE_ENV", "APP_ENV")}
    path = root / (".env.production" if "production" in modes else ".env")
    given = {name: value for name, value in environ.items() if value.strip()}
    return {**read_file(path), **given}


def read_file(path: Path) -> dict[str, str]:
    """The NAME=value pairs of a dotenv file, without interpolation; {} where there is no such file."""
    try:
        with path.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{path.name}: cannot be read ({type(error).__name__})"]) from None
    bad = [each.original for each in bindings if each.error]
    if bad:
        lines = [each.line + leading_lines(each.string) for each in bad]
        raise BadSettings([f"{path.name}, line {line}: is no NAME=value" for line in lines])
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


def leading_lines(text: str) -> int:
    """How many lines are empty before the first that says something."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def development_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets of a hub in development: made at the first start, the same ever after.

    They live in `data_dir`/secrets.json, readable by its owner only; a spoilt file is put aside and new ones are made.

    Raises:
        BadSettings: the folder cannot be written.
    """
    path = data_dir / "secrets.json"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        kept = read_secrets(path)
        if kept is None:
            keep_secrets(path, {name: secrets.token_urlsafe(LEAST_BYTES[name]) for name in REQUIRED_SECRETS})
            kept = read_secrets(path)
    except OSError as error:
        raise BadSettings([f"DATA_DIR: cannot keep development secrets there ({type(error).__name__})"]) from None
    if kept is None:
        raise BadSettings([f"DATA_DIR: {path.name} in it changes while it is read"])
    return kept


def read_secrets(path: Path) -> dict[str, str] | None:
    """The kept secrets, or None where there are none (any more)."""
    try:
        found = json.loads(path.read_bytes())
        kept = {name: str(found[name]) for name in REQUIRED_SECRETS}
        if any(len(kept[name].encode()) < LEAST_BYTES[name] for name in kept):
            raise ValueError("a secret is too short")
        return kept
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        os.replace(path, path.with_suffix(".spoilt"))
        log.warning("%s was spoilt and is now secrets.spoilt; new secrets are made, so everybody signs in again", path)
        return None


def keep_secrets(path: Path, made: Mapping[str, str]) -> None:
    """Write `made` whole or not at all, and let whoever comes first win."""
    descriptor, draft = tempfile.mkstemp(prefix="secrets.", dir=path.parent)  # 0600 from the start
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
