"""Interface services as the hub registered them: a name, a hashed token, and whether they may work.

Owns the record and how a token is made and recognised. Never knows whether the service is connected: see session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from . import parsing
from .errors import FieldError, Invalid
from .messages import Model

Dialect = Literal["worker", "push", "seed"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PATH = re.compile(r"/[!-~]{0,200}")
DEFAULT_PATH = "/process"
MOST_SLOTS, MOST_MODELS, LONGEST_NOTE = 64, 100, 500


class Interface(Struct, frozen=True):
    """One registered interface service; `id` is its name, the token itself is never stored.

    `dialect` says how it is spoken to: a "worker" connects by itself; "push" and "seed" services are called at
    `address` (scheme, host and port) and `path`, "seed" ones in the older dialect. `pending` services wait to be let
    in by an admin, `paused` ones get no new tasks, nor do `draining` ones, who are also asked to finish and leave.
    `models` and `slots` are for services that cannot say them; a model is its name, or its name, a colon and what
    people call it. A service in the older dialect that `talks` has spoken of a task before its end.
    """

    id: str
    token_hash: str
    created_at: float
    enabled: bool = True
    paused: bool = False
    draining: bool = False
    pending: bool = False
    note: str = ""
    dialect: Dialect = "worker"
    address: str | None = None
    path: str = DEFAULT_PATH
    models: tuple[str, ...] = ()
    slots: int = 1
    talks: bool = False
    version: int = 1

    @property
    def rests(self) -> bool:
        """Whether an admin, or the hub, wants this service to get no new tasks."""
        return self.paused or self.draining


class OfferedModel(Struct, frozen=True):
    """A model that some interface service has offered at least once, the first time `by` this one.

    `id` is the model's name; a limit of 0 is none.
    """

    id: str
    alias: str
    description: str
    version: int = 1
    max_pixels: int = 0
    max_frames: int = 0
    by: str = ""


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


def changed(record: Interface, **changes: Any) -> Interface:
    """The record one version on, with some fields as an admin wants them; an address is in its one spelling already.

    Raises:
        Invalid: a field has a value that it cannot have; the error points at it.
    """
    after = replace(record, **changes, version=record.version + 1)
    if after.dialect not in get_args(Dialect):
        raise refused("dialect", f"one of {', '.join(get_args(Dialect))}")
    if (after.address is None) != (after.dialect == "worker"):
        raise refused("address", "given for the dialects push and seed, and for these only")
    if not PATH.fullmatch(after.path) or set(after.path) & set("?#"):
        raise refused("path", "a path such as /process")
    if not 1 <= after.slots <= MOST_SLOTS:
        raise refused("slots", f"from 1 to {MOST_SLOTS}")
    if len(after.models) > MOST_MODELS or not all_models(after.models):
        raise refused("models", f"up to {MOST_MODELS} names of models, each perhaps with a colon and an alias")
    if len(after.note) > LONGEST_NOTE or not after.note.isprintable():
        raise refused("note", f"one line of at most {LONGEST_NOTE} characters")
    return after


def standing(record: Interface) -> str:
    """One word for what an admin wants of a service."""
    words = {"disabled": not record.enabled, "pending": record.pending, "paused": record.paused}
    return next((word for word, holds in (*words.items(), ("draining", record.draining)) if holds), "enabled")


def all_models(texts: Collection[str]) -> bool:
    """Whether each text names a model, and no two the same."""
    try:
        names = {parsing.model(text).partition(":")[0] for text in texts}
    except ValueError:
        return False
    return len(names) == len(texts)


def refused(field: str, expected: str) -> Invalid:
    """One bad field as an error."""
    detail = f"{field} has to be {expected}"
    return Invalid(detail, fields=(FieldError(f"/{field}", "invalid", detail),))


def offered(model: Model, others: Iterable[Model]) -> OfferedModel:
    """What is remembered of a model that a worker offers, beside `others` who offer it: the widest limits count."""
    offers = [model, *others]
    return OfferedModel(
        model.name, model.alias, model.description,
        max_pixels=widest(offer.max_pixels for offer in offers),
        max_frames=widest(offer.max_frames for offer in offers),
    )


def widest(limits: Iterable[int]) -> int:
    """The largest of these limits, of which 0 is none."""
    known = set(limits)
    return 0 if 0 in known else max(known)
