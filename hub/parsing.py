"""From the text of a setting to its value.

Owns the small grammars that operators write: numbers, durations, sizes, addresses, origins, paths. A parser takes
the text without surrounding spaces and raises ValueError where it makes no sense; it never looks at anything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

Parser = Callable[[str], Any]
Network = IPv4Network | IPv6Network

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONG_UNITS = {
    "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d", "week": "w",
    "millisecond": "ms", "msec": "ms",
}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)
DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[^,]{1,100})?")
FOLDER_MODE = re.compile(r"[0-3]7[0-7]{2}")
DEFAULT_PORTS = {"http": 80, "https": 443}


def text(value: str) -> str:
    """Any line of printable text."""
    if not value.isprintable():
        raise ValueError("a control character")
    return value


def name(value: str) -> str:
    """A name of up to 63 letters, digits, - and _."""
    if not NAME.fullmatch(value):
        raise ValueError("not a plain name")
    return value


def model(value: str) -> str:
    """A model's name, perhaps with a colon and what people call it."""
    if not MODEL.fullmatch(value) or not value.isprintable():
        raise ValueError("not a model's name")
    return value


def choice(*words: str) -> Parser:
    """One of `words`, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError("not one of the words")
        return value.lower()

    return parse


def yes_or_no(value: str) -> bool:
    """True or false, in the words that people use for them."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    try:
        return words[value.lower()]
    except KeyError:
        raise ValueError("neither yes nor no") from None


def decimal(value: str) -> float:
    """Plain decimal notation: no sign, no exponent, no NaN."""
    if not DECIMAL.fullmatch(value):
        raise ValueError("not a plain number")
    return float(value)


def whole(least: int, most: int) -> Parser:
    """A whole number from `least` to `most`."""

    def parse(value: str) -> int:
        number = decimal(value)
        if not number.is_integer() or not least <= number <= most:
            raise ValueError("outside the range")
        return int(number)

    return parse


def measured(unit: float, least: float, most: float) -> Parser:
    """A number of `unit` base units, from `least` to `most` as written; the value is in base units (float)."""

    def parse(value: str) -> float:
        number = decimal(value)
        if not least <= number <= most:
            raise ValueError("outside the range")
        return number * unit

    return parse


def megabytes(value: str) -> int:
    """Megabytes of 1024 x 1024 bytes, as a whole number of bytes."""
    size = round(decimal(value) * 1024 * 1024)
    if not 1 <= size <= 1 << 50:
        raise ValueError("outside the range")
    return size


def duration(value: str) -> int:
    """Whole seconds out of "7d", "12h", "30 minutes" or plain seconds; one minute to ten years."""
    match = DURATION.fullmatch(value)
    if match is None or len(value) > 40:
        raise ValueError("not a duration")
    unit = match[2].lower() or "s"
    if unit not in UNIT_SECONDS:
        unit = LONG_UNITS.get(unit.removesuffix("s"), "")
    seconds = float(match[1]) * UNIT_SECONDS.get(unit, math.nan)
    if not 60 <= seconds <= 3650 * 86400:
        raise ValueError("not a duration in the range")
    return round(seconds)


def host(value: str) -> str:
    """A host name or address without scheme and port."""
    if not HOST.fullmatch(value):
        raise ValueError("not a host")
    return value


def listed(each: Parser) -> Parser:
    """A comma-separated list, as a tuple in the order written."""

    def parse(value: str) -> tuple[Any, ...]:
        return tuple(each(part.strip()) for part in value.split(",") if part.strip())

    return parse


def network(value: str) -> Network:
    """An address or a CIDR range; host bits are cut off."""
    return ip_network(value, strict=False)


def url(value: str) -> str:
    """An http or https address, with neither user, query nor fragment, and without the slash at its end."""
    split = web_address(value)
    return f"{origin_of(split)}{split.path.rstrip('/')}"


def origin(value: str) -> str:
    """Scheme, host and port as a browser writes them into Origin (RFC 6454 section 6.2)."""
    split = web_address(value)
    if split.path not in ("", "/"):
        raise ValueError("a path does not belong to an origin")
    return origin_of(split)


def web_address(value: str) -> SplitResult:
    """The parts of an http or https address."""
    split = urlsplit(value)
    if split.scheme not in DEFAULT_PORTS or "@" in split.netloc or split.query or split.fragment:
        raise ValueError("not an http or https address")
    if not value.isprintable() or " " in value or not HOST.fullmatch(bracketed(split.hostname or "")):
        raise ValueError("no host")
    return split


def origin_of(split: SplitResult) -> str:
    """Scheme, host and port, the port left out where it is the scheme's own."""
    port = "" if split.port in (None, DEFAULT_PORTS[split.scheme]) else f":{split.port}"
    return f"{split.scheme}://{bracketed(split.hostname or '')}{port}"


def bracketed(name: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def url_path(value: str) -> str:
    """A path below the root, as "a/b": without slashes at its ends, each part plain and not starting with a dot."""
    path = value.strip("/")
    if not all(SEGMENT.fullmatch(part) for part in path.split("/")):
        raise ValueError("not a plain path")
    return path


def directory(value: str) -> Path:
    """A folder; relative ones are below the project's root."""
    if not value.isprintable():
        raise ValueError("a control character")
    return Path(value)


def folder_mode(value: str) -> int:
    """Four octal digits, as chmod takes them, with all rights for the owner."""
    if not FOLDER_MODE.fullmatch(value):
        raise ValueError("not a folder's mode")
    return int(value, 8)


def mongodb_uri(value: str) -> str:
    """A connection string of MongoDB; the driver reads the rest of it."""
    if not value.startswith(("mongodb://", "mongodb+srv://")) or not value.isprintable() or " " in value:
        raise ValueError("not a MongoDB connection string")
    return value
