"""Interface services as the hub registered them: a name, a hashed token, and whether they may work.

Owns the record and how a token is made and recognised. Never knows whether the service is connected: see session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal

from .errors import Invalid
from .messages import Model

Dialect = Literal["worker", "push", "seed"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Interface:
    """One registered interface service; `id` is its name, the token itself is never stored.

    `dialect` says how it is spoken to: a "worker" connects by itself; "push" and "seed" services are called at
    `address` (scheme, host and port) and `path`, "seed" ones in the older dialect. `pending` services wait to be let
    in by an admin, `paused` ones get no new tasks. `models` and `slots` are for services that cannot say them.
    """

    id: str
    token_hash: str
    created_at: float
    enabled: bool = True
    paused: bool = False
    pending: bool = False
    note: str = ""
    dialect: Dialect = "worker"
    address: str | None = None
    path: str = "/process"
    models: tuple[str, ...] = ()
    slots: int = 1
    version: int = 1


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that some interface service has offered at least once; `id` is the model's name."""

    id: str
    alias: str
    description: str
    version: int = 1


def new_token() -> str:
    """A token with 256 random bits; shown once, stored only as its hash."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """SHA-256 as hex: enough for a token that is random and long, and quick to look up."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def register(name: str, token: str, now: float, note: str = "") -> Interface:
    """A new interface service.

    Raises:
        Invalid: the name is empty, longer than 64 or holds more than letters, digits, dot, dash, underscore.
    """
    if not NAME.fullmatch(name):
        raise Invalid("an interface's name has 1 to 64 letters, digits, dots, dashes or underscores")
    return Interface(name, hash_token(token), now, note=note)


def offered(model: Model) -> OfferedModel:
    """What is remembered of a model that a worker offers."""
    return OfferedModel(model.name, model.alias, model.description)
