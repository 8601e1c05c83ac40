"""What a tus client says and hears, request by request."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from tests.handlers.running import Answer, Api, Person, fine, metadata

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


async def create(person: Any, length: int | None, purpose: str = "video", **headers: str) -> str:
    """A new upload; its address."""
    told = {**TUS, "Upload-Metadata": metadata(filename="v.mp4", purpose=purpose)}
    told |= {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await person("POST", "/api/uploads", b"", told)
    fine(answer, 201)
    return answer.headers["location"]


async def patch(person: Any, url: str, offset: int, content: bytes, **headers: str) -> Answer:
    told = {**BYTES, "Upload-Offset": str(offset)} | {name.replace("_", "-"): v for name, v in headers.items()}
    answer: Answer = await person("PATCH", url, content, told)
    return answer


async def head(person: Any, url: str) -> Answer:
    answer: Answer = await person("HEAD", url, None, TUS)
    return answer


async def offset_of(person: Any, url: str) -> int:
    """The offset that HEAD tells."""
    answer = await head(person, url)
    assert answer.status == 200, answer
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


async def delete(person: Any, url: str) -> Answer:
    answer: Answer = await person("DELETE", url, None, TUS)
    return answer


def checksum(algorithm: str, content: bytes) -> str:
    """Upload-Checksum of these bytes."""
    digest = hashlib.new(algorithm, content, usedforsecurity=False).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


def begun(person: Person, url: str, offset: int, length: int | None) -> str:
    """The head of a PATCH that is sent by hand; chunked where it has no length."""
    body = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"PATCH {url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Upload-Offset: {offset}\r\n{body}\r\n\r\n"
    )


def incoming(api: Api) -> list[str]:
    """The files that are still coming in."""
    return [name for name in api.files() if ".incoming" in name]
