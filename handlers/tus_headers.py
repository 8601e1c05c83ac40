"""What the headers of tus 1.0.0 say, and the refusals of those that say nonsense."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import urlsplit

from hub.errors import Invalid
from hub.media import Media

VERSION = "1.0.0"
BODY = "application/offset+octet-stream"
EXTENSIONS = (
    "creation", "creation-with-upload", "creation-defer-length", "termination", "expiration", "checksum",
    "concatenation",
)
CHECKSUMS = {"sha1": 20, "sha256": 32, "md5": 16}  # algorithm -> bytes
LONGEST_METADATA = 16 * 1024
MOST_PARTS = 1000
PART = re.compile(r"/api/uploads/([0-9a-f-]{36})")


def read_size(header: str, name: str, code: str) -> int:
    """A number of bytes, such as Upload-Length (creation) or Upload-Offset (core).

    Raises:
        Invalid: with `code`.
    """
    if not (header.isascii() and header.isdigit() and len(header) < 18):
        raise Invalid(f"{name} is a number of bytes", code=code)
    return int(header)


def read_length(header: str) -> int:
    """Upload-Length (creation): more than nothing.

    Raises:
        Invalid: code bad_length or empty_file.
    """
    length = read_size(header, "Upload-Length", "bad_length")
    if length == 0:
        raise Invalid("the file is empty", code="empty_file")
    return length


def read_metadata(header: str) -> dict[str, str]:
    """Upload-Metadata (creation): comma-separated names, each with a base64 value.

    Raises:
        Invalid: code bad_metadata.
    """
    if len(header) > LONGEST_METADATA:
        raise Invalid(f"at most {LONGEST_METADATA} bytes of metadata", code="bad_metadata")
    metadata: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise Invalid(f"the value of {name[:50]!r} is not base64 of UTF-8 text", code="bad_metadata") from None
        if name in metadata:
            raise Invalid(f"{name[:50]!r} occurs twice", code="bad_metadata")
        metadata[name] = text
    return metadata


def metadata_of(record: Media) -> str:
    """Upload-Metadata again, of a file that has a record."""
    said = {"filename": record.name, "filetype": record.content_type, "purpose": record.purpose.value}
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items() if value)


def read_checksum(header: str) -> tuple[str, bytes]:
    """Upload-Checksum (checksum): the algorithm and the hash.

    Raises:
        Invalid: code bad_checksum.
    """
    algorithm, _, value = header.partition(" ")
    try:
        checksum = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        checksum = b""
    if len(checksum) != CHECKSUMS.get(algorithm):
        known = ", ".join(CHECKSUMS)
        raise Invalid(f"a checksum is one of {known}, a space and the hash in base64", code="bad_checksum")
    return algorithm, checksum


def read_concat(header: str) -> tuple[bool, tuple[str, ...]]:
    """Upload-Concat (concatenation): whether this is a part, and the ids of the parts that it is made of.

    Raises:
        Invalid: code bad_metadata.
    """
    if header in ("", "partial"):
        return header == "partial", ()
    kind, _, list_of_parts = header.partition(";")
    ids = [PART.search(urlsplit(url).path) for url in list_of_parts.split()[:MOST_PARTS + 1]]
    parts = tuple(found[1] for found in ids if found)
    if kind != "final" or not parts or len(parts) != len(ids) or len(parts) > MOST_PARTS:
        raise Invalid("Upload-Concat is partial, or final;URL URL ... with uploads of this hub", code="bad_metadata")
    return False, parts
