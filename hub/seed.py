"""The older dialect of deployed interface services, as plain values: what they are told and what they say.

Owns the dialect's words and the record of a task in such a service's hands. Never opens a connection or a file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeGuard
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, field

from .errors import Invalid, Unsupported
from .media import Purpose
from .messages import Artifact, Model

FILE_WORDS = {"compositeVideoPath": Purpose.RESULT, "maskVideoPath": Purpose.MASK}
LONGEST_PATH, LONGEST_TEXT = 4096, 2000
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MOST_FIELDS = 100
THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
LOOPBACK = re.compile(r"(?<=//)(127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)")
DEEPEST = 8  # parts of a path in which a service is looked for
ENTRY_TYPES = {"address": str, "name": str, "path": str, "models": list, "slots": int, "note": str}


class Said(StrEnum):
    """What a service says of a task, in any case of letters."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class SeedJob(Struct, frozen=True):
    """A task that a service has taken: `id` is the lease.

    `files` are the paths that it named when it took the task, `sent` what the hub has of it since, both by
    purpose; `done` is set once it has said that it is completed. Kept in the store, because what a service has said
    once it does not say again to a hub that starts anew.
    """

    id: str
    task_id: str
    worker: str
    files: dict[str, str] = field(default_factory=dict)
    sent: dict[str, Artifact] = field(default_factory=dict)
    done: bool = False
    version: int = 1


class Callback(Struct, frozen=True):
    """One report of a service, checked: `progress` is 0..100 or None where it said none."""

    task_id: str
    worker_url: str | None
    said: Said
    progress: float | None
    message: str


class Refused(Exception):
    """The service does not take the task; the text says why."""


def model_of(text: str) -> Model:
    """A model as it is written down for a service that cannot say it: "name" or "name:what people call it"."""
    name, _, alias = text.partition(":")
    return Model(name, alias)


def read_entries(read: Any) -> list[dict[str, Any]]:
    """The services of an import file, as fields of their records: a list, perhaps in a field `interfaces`.

    Raises:
        ValueError: it is none, or a field is of the wrong type.
    """
    entries = read.get("interfaces") if isinstance(read, dict) else read
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("expected a list of objects")
    return [read_entry(entry) for entry in entries]


def read_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """One service; unknown fields are left alone."""
    found = {name: entry[name] for name in ENTRY_TYPES if entry.get(name) is not None}
    found.setdefault("address", entry.get("interfaceAddress"))
    for name, value in found.items():
        if type(value) is not ENTRY_TYPES[name]:
            raise ValueError(f"{name} of {found['address']} is no {ENTRY_TYPES[name].__name__}")
    if "models" in found:
        found["models"] = tuple(model_text(model) for model in found["models"])
    return found


def model_text(model: Any) -> str:
    """A model as a record has it, out of a text or an object with `name` and `alias`."""
    if isinstance(model, dict):
        return ":".join(str(model[key]) for key in ("name", "alias") if model.get(key))
    return str(model)


def read_reply(status: int, body: bytes) -> dict[str, str]:
    """The files that a service names as it takes a task, by purpose.

    Raises:
        Refused: another status than 200, no JSON object, or one that says anything but accepted.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Refused(f"it answered {status} without a JSON object")
    if status != 200 or str(said.get("status", "")).lower() != "accepted":
        message = said.get("message") or said.get("error") or said.get("status") or "no reason"
        raise Refused(f"it answered {status}: {clean(str(message), 500)}")
    return {
        purpose.value: path for word, purpose in FILE_WORDS.items()
        if names_file(path := said.get(word))
    }


def read_said(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a call as its readers of old took them: JSON or a form, with a byte order mark or odd characters.

    Raises:
        Unsupported: the content type is neither.
        Invalid: code bad_json or bad_request.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind not in (JSON, FORM):
        raise Unsupported(f"send {JSON}")
    text = body.decode("utf-8-sig", "replace")
    try:
        said = json.loads(text) if kind == JSON else dict(parse_qsl(text, True, max_num_fields=MOST_FIELDS))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not valid: {clean(str(error), 200)}", code="bad_json") from None
    if not isinstance(said, dict):
        raise Invalid("the body is no object", code="bad_request")
    return {name: whole(value) if isinstance(value, str) else value for name, value in said.items()}


def whole(text: str) -> str:
    """A text with a question mark in the place of each half of a character."""
    return text.encode("utf-8", "replace").decode()


def names_file(path: Any) -> TypeGuard[str]:
    """Whether a value can be the path of a file; half a character (a lone surrogate) could not even be stored."""
    return isinstance(path, str) and 0 < len(path) <= LONGEST_PATH and not re.search("[\0\ud800-\udfff]", path)


def read_callback(said: Mapping[str, Any], with_lease: bool) -> Callback:
    """What a service reports; `with_lease` where the address that it called says which attempt it is.

    Raises:
        Invalid: code bad_request: a field is missing, or holds what it cannot.
    """
    url = said.get("workerUrl") or None
    if not with_lease or url is not None:
        url = text_of(said, "workerUrl")
    try:
        status = Said(text_of(said, "status").strip().lower())
    except ValueError:
        raise bad("status", f"one of {', '.join(word.upper() for word in Said)}") from None
    message = said.get("message")
    return Callback(
        text_of(said, "taskId"), url, status, percent_of(said.get("progress")),
        "" if message is None else clean(str(message), LONGEST_TEXT),
    )


def text_of(said: Mapping[str, Any], name: str) -> str:
    """A text that must be there.

    Raises:
        Invalid: it is not.
    """
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise bad(name, "a text")
    return value


def percent_of(value: Any) -> float | None:
    """A progress from 0 to 100, also where it is written as a text; None where it is no number.

    Never refused: what comes with it, perhaps that the task has ended, matters more.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return min(max(number, 0.0), 100.0) if math.isfinite(number) else None


def bad(name: str, expected: str) -> Invalid:
    return Invalid(f"{name} is missing or not {expected}", code="bad_request")


def clean(text: str, length: int) -> str:
    """A foreign text in one line, no longer than `length`."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:4 * length]).split())[:length]


def name_of(address: str) -> str:
    """A name for a service that nobody has named: after its host and port."""
    split = urlsplit(address)
    words = [split.hostname or "", str(split.port or ""), split.path]
    name = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(words)).strip("-") or "interface"
    return name[:50]


def spellings(address: str) -> tuple[str, ...]:
    """The addresses under which a service may be known that calls itself this: with less of a path, or by another name
    of this machine."""
    split = urlsplit(address)
    parts = split.path.split("/")[:DEEPEST]
    paths = ["/".join(parts[:count + 1]) for count in range(len(parts))]
    hosts = {LOOPBACK.sub(host, f"{split.scheme}://{split.netloc}") for host in THIS_MACHINE}
    return (address, *(host + path for host in sorted(hosts) for path in paths))


def means(given: str, address: str, path: str) -> bool:
    """Whether a service at `address`, called at `path` there, may call itself `given`."""
    return same_machine(given) in (same_machine(address), same_machine(address + path))


def same_machine(url: str) -> str:
    """A URL with this machine under one of its names."""
    return LOOPBACK.sub(THIS_MACHINE[0], url)


def another_name(name: str, address: str) -> str:
    """The same where that name is taken by another service."""
    return f"{name}-{sha256(address.encode()).hexdigest()[:8]}"
