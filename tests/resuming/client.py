"""A tus client that does one thing at a time and tells what it heard; all of it blocks."""

from __future__ import annotations

import base64
import json
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.odd_media import WEBCAM

TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Heard:
    """An answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])


class Client:
    """Somebody with a token at one hub; raises OSError where the hub is not there."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Heard:
        told = {"Authorization": f"Bearer {self.token}", **TUS}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, told, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Heard(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Heard(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def create(self, length: int) -> str:
        """A new upload of a video; its path."""
        said = {"filename": "v.mp4", "purpose": "video"}
        metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items())
        answer = self("POST", "/api/uploads", b"", Upload_Length=str(length), Upload_Metadata=metadata)
        assert answer.status == 201, answer
        return answer.headers["location"]

    def patch(self, path: str, offset: int, content: bytes, **headers: str) -> Heard:
        return self(
            "PATCH", path, content, Upload_Offset=str(offset), Content_Type="application/offset+octet-stream",
            **headers,
        )

    @contextmanager
    def hanging_patch(self, path: str, offset: int, content: bytes, missing: int) -> Iterator[None]:
        """Send bytes and say that `missing` more come, which they never do."""
        host, port = self.url.removeprefix("http://").split(":")
        lines = [
            f"PATCH {path} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {self.token}",
            "Tus-Resumable: 1.0.0", f"Upload-Offset: {offset}", f"Content-Length: {len(content) + missing}",
            "Content-Type: application/offset+octet-stream", "", "",
        ]
        with socket.create_connection((host, int(port))) as line:
            line.sendall("\r\n".join(lines).encode() + content)
            yield

    def offset(self, path: str) -> int:
        answer = self("HEAD", path)
        assert answer.status == 200, answer
        return answer.offset


def padded(size: int, seed: int) -> bytes:
    """A video that plays, and that nobody else has: with a box of noise that players skip (ISO 14496-12, `free`)."""
    content = WEBCAM.read_bytes()
    noise = random.Random(seed).randbytes(size - len(content) - 8)
    return content + (len(noise) + 8).to_bytes(4) + b"free" + noise
