"""Which bytes of a file a request asks for, and the body that holds several parts of it (RFC 9110 section 14)."""

from __future__ import annotations

from itertools import pairwise

MOST = 16  # parts in one answer; whoever asks for more gets the whole file, once

Span = tuple[int, int]  # from the first byte up to, and not with, the second


def spans(header: str, size: int) -> list[Span] | None:
    """The spans that a Range header asks for, in its order, without those that a file of `size` bytes does not have.

    None stands for the whole file: there is no such header, it is not of bytes or cannot be read, it asks for more
    than `MOST` parts, or its parts overlap (section 14.2 has the reasons). An empty list cannot be satisfied.
    """
    unit, _, listed = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    asked = [part.strip() for part in listed.split(",", MOST)]
    found = [span(part, size) for part in asked]
    if len(found) > MOST or None in found:
        return None
    kept = [each for each in found if each is not None and each[0] < each[1]]
    if any(earlier[1] > later[0] for earlier, later in pairwise(sorted(kept))):
        return None
    return kept


def span(spec: str, size: int) -> Span | None:
    """One range of a list, empty where the file does not reach so far; None for what is none."""
    first, dash, last = spec.partition("-")
    plain = all(not text or (text.isascii() and text.isdigit() and len(text) < 20) for text in (first, last))
    if not dash or not plain or not (first or last):
        return None
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def content_range(span: Span, size: int) -> str:
    """The Content-Range of a part."""
    return f"bytes {span[0]}-{span[1] - 1}/{size}"


def multipart(parts: list[Span], size: int, content_type: str, boundary: str) -> list[bytes | Span]:
    """The body of multipart/byteranges in its order: what stands between the parts, and the parts (section 14.6)."""
    body: list[bytes | Span] = []
    for part in parts:
        head = f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n"
        body += [head.encode(), part]
    return [*body, f"\r\n--{boundary}--\r\n".encode()]


def length(body: list[bytes | Span]) -> int:
    """How many bytes a body of texts and spans has."""
    return sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in body)
