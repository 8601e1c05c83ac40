"""Files over plain HTTP: inputs come, results go, in pieces of a fixed size, whatever their length.

Owns the two transfers with their checks and their retries. All of it blocks and belongs into a thread; `stop` is how
the loop ends it. Links carry a job's token in their query, so no error and no log line here shows more of a link
than its path.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from .errors import AttemptFailed, LeaseGone, Stopped

PIECE = 256 * 1024
TIMEOUT_S = 30.0  # for one read or write on the socket
PATIENCE_S = 300.0  # how long a hub that is away is waited for
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
GONE = frozenset({401, 403, 404, 409})
LONGEST_ANSWER = 64 * 1024
IN_ONE = 4 * 1024 * 1024  # bytes up to which a file goes in one request
TUS = {"Tus-Resumable": "1.0.0"}
ASK_AGAIN = frozenset({403, 404, 409, 410})  # in answer to bytes: ask how far the upload is
LEASE_CODES = frozenset({"lease_lost", "job_token_invalid"})

T = TypeVar("T")
Moved = Callable[[int, int], None]  # bytes so far, bytes in all


class Again(Exception):
    """The same request may work soon, not earlier than in `after` seconds; the text says what happened."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Uploaded(msgspec.Struct):
    """What the hub says about a file that it took."""

    id: str
    sha256: str = ""


class Refusal(msgspec.Struct):
    """What the hub says when it says no."""

    code: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one transfer is carried out: `stop` ends it, `moved` hears of each piece."""

    stop: threading.Event
    moved: Moved = lambda done, total: None
    patience_s: float = PATIENCE_S
    first_pause_s: float = FIRST_PAUSE_S


def fetch(url: str, target: Path, sha256: str, size: int, wire: Wire) -> None:
    """Fetch `size` bytes into `target` and check them.

    Raises:
        AttemptFailed: `input_corrupt`, these are not the bytes promised; `input_unavailable`, they cannot be had.
        Stopped: `wire.stop` was set.
    """
    def once() -> None:
        with Request(url, wire.stop) as request:
            request.start("GET", {})
            request.end()
            answer = request.answer()
            if answer.status != 200:
                raise AttemptFailed("input_unavailable", f"the hub answered {answer.status}")
            request.save(answer, target, size, sha256, wire.moved)

    insist(once, "input_unavailable", wire)


def upload(url: str, source: Path, name: str, content_type: str, purpose: str, wire: Wire) -> Uploaded:
    """Send a file (tus 1.0.0); its id and its hash come back.

    A small one goes in one request. A larger one goes on where it stopped, if the line or the hub fails.

    Raises:
        AttemptFailed: `upload_refused`, the hub does not take it; `upload_failed`, it could not be sent.
        LeaseGone: its links are not valid any more.
        Stopped: `wire.stop` was set.
    """
    metadata = {"filename": name, "filetype": content_type, "purpose": purpose}
    said = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in metadata.items())
    sending = Sending(url, source, said, wire)
    return insist(sending.once, "upload_failed", wire)


class Sending:
    """One file on its way; `address` is where the hub keeps what it has of it."""

    def __init__(self, url: str, source: Path, metadata: str, wire: Wire) -> None:
        self.url = url
        self.source = source
        self.size = source.stat().st_size
        self.metadata = metadata
        self.wire = wire
        self.address = ""
        self.tried = False  # whether bytes were sent there

    def once(self) -> Uploaded:
        """Send what is missing; what the hub says about it all.

        Raises:
            Again: it is not through; another try goes on from there.
        """
        if self.size <= IN_ONE:
            return self.whole()
        address = self.address or self.begin()
        sha256 = self.go_on(address, self.ask(address) if self.tried else 0)
        with Request(address, self.wire.stop) as request:
            request.start("GET", {})
            request.end()
            return self.uploaded(request.answer(), 200, sha256)

    def whole(self) -> Uploaded:
        """Everything in the creating request."""
        with Request(self.url, self.wire.stop) as request:
            request.start("POST", self.creation() | body_of(self.size))
            sha256 = request.send(self.source, 0, self.size, self.wire.moved)
            return self.uploaded(request.answer(), 201, sha256)

    def creation(self) -> dict[str, str]:
        return {**TUS, "Upload-Length": str(self.size), "Upload-Metadata": self.metadata}

    def begin(self) -> str:
        """A new upload; its address."""
        with Request(self.url, self.wire.stop) as request:
            request.start("POST", self.creation() | {"Content-Length": "0"})
            request.end()
            answer = request.answer()
            self.check(answer, 201)
            location = answer.getheader("Location")
            if not location:
                raise Again("the hub's answer names no upload")
            self.address, self.tried = urljoin(self.url, location), False
            return self.address

    def ask(self, address: str) -> int:
        """How far it is."""
        with Request(address, self.wire.stop) as request:
            request.start("HEAD", TUS)
            request.end()
            answer = request.answer()
            if answer.status in (404, 410):
                self.address = ""
                raise Again("the hub does not know the upload any more")
            self.check(answer, 200)
            offset = answer.getheader("Upload-Offset", "")
            if not (offset.isascii() and offset.isdigit()) or int(offset) > self.size:
                raise Again("the hub's answer names no offset")
            return int(offset)

    def go_on(self, address: str, offset: int) -> str:
        """Send all from `offset` on; the SHA-256 of the whole file."""
        self.tried = True
        with Request(address, self.wire.stop) as request:
            if offset == self.size:
                return request.digest(self.source, offset).hexdigest()
            request.start("PATCH", {**TUS, "Upload-Offset": str(offset)} | body_of(self.size - offset))
            sha256 = request.send(self.source, offset, self.size, self.wire.moved)
            answer = request.answer()
            if answer.status in ASK_AGAIN and code_of(answer) not in LEASE_CODES:
                raise Again(f"the hub answered {answer.status}")
            self.check(answer, 204)
            return sha256

    def uploaded(self, answer: HTTPResponse, wanted: int, sha256: str) -> Uploaded:
        """What the hub says about a file that it has."""
        self.check(answer, wanted)
        try:
            uploaded = msgspec.json.decode(answer.read(LONGEST_ANSWER), type=Uploaded)
        except msgspec.DecodeError as error:
            raise Again(f"the hub's answer makes no sense: {error}") from None
        if not uploaded.sha256:
            raise Again("the hub is not through with the file")
        if uploaded.sha256 != sha256:
            self.address = ""
            raise Again("the file arrived damaged")
        return uploaded

    def check(self, answer: HTTPResponse, wanted: int) -> None:
        if answer.status in GONE:
            raise LeaseGone(f"the hub answered {answer.status} to the upload")
        if answer.status != wanted:
            raise AttemptFailed("upload_refused", f"the hub answered {answer.status}")


def body_of(size: int) -> dict[str, str]:
    """The headers of `size` bytes of a file."""
    return {"Content-Type": "application/offset+octet-stream", "Content-Length": str(size)}


def code_of(answer: HTTPResponse) -> str:
    """The code of a problem, or nothing."""
    try:
        return msgspec.json.decode(answer.read(LONGEST_ANSWER), type=Refusal).code
    except msgspec.DecodeError:
        return ""


def insist(once: Callable[[], T], code: str, wire: Wire) -> T:
    """Try until it works, patience ends or there is no point any more."""
    until = time.monotonic() + wire.patience_s
    pause = wire.first_pause_s
    while True:
        try:
            return once()
        except (InvalidURL, ValueError):
            raise AttemptFailed("bad_link", "a link of this job is no http address") from None
        except (Again, OSError, HTTPException) as error:
            if wire.stop.is_set():
                raise Stopped from None
            wait = max(random.uniform(pause / 2, pause), getattr(error, "after", 0.0))
            if time.monotonic() + wait > until:
                raise AttemptFailed(code, f"{type(error).__name__}: {error}") from error
        if wire.stop.wait(wait):
            raise Stopped
        pause = min(LONGEST_PAUSE_S, pause * 2)


class Request:
    """One HTTP request on a connection of its own."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidURL
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.response: HTTPResponse | None = None
        self.stop = stop

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *error: object) -> None:
        if self.response is not None:
            self.response.close()
        self.connection.close()

    def start(self, method: str, headers: dict[str, str]) -> None:
        self.connection.putrequest(method, self.target, skip_accept_encoding=True)
        for name, value in headers.items():
            self.connection.putheader(name, value)

    def end(self) -> None:
        self.connection.endheaders()

    def send(self, source: Path, offset: int, size: int, moved: Moved) -> str:
        """Send the file from `offset` on as the body, and give the SHA-256 of all of it.

        A hub that hangs up early has answered early.
        """
        digest, done = self.digest(source, offset), offset
        self.end()
        try:
            with source.open("rb") as file:
                file.seek(offset)
                while piece := file.read(PIECE):
                    self.check()
                    digest.update(piece)
                    self.connection.send(piece)
                    done += len(piece)
                    moved(done, size)
        except ConnectionError:
            if self.connection.sock is None:
                raise
        return digest.hexdigest()

    def digest(self, source: Path, until: int) -> hashlib._Hash:
        """The hash of the first bytes of a file."""
        digest, left = hashlib.sha256(), until
        with source.open("rb") as file:
            while left and (piece := file.read(min(PIECE, left))):
                self.check()
                digest.update(piece)
                left -= len(piece)
        return digest

    def answer(self) -> HTTPResponse:
        """The answer's head.

        Raises:
            Again: the hub is overloaded or not well.
        """
        answer = self.response = self.connection.getresponse()
        if answer.status == 429 or answer.status >= 500:
            told = answer.getheader("Retry-After", "")
            after = min(float(told), 60.0) if told.isascii() and told.isdigit() else 0.0
            raise Again(f"the hub answered {answer.status}", after)
        return answer

    def save(self, answer: HTTPResponse, target: Path, size: int, sha256: str, moved: Moved) -> None:
        """Write the body to `target`, never more than `size` bytes of it, and check that it is what it should be."""
        if answer.length is not None and answer.length != size:
            raise AttemptFailed("input_corrupt", f"{answer.length} bytes, {size} were promised")
        digest, done = hashlib.sha256(), 0
        with target.open("wb") as file:
            while piece := answer.read(PIECE):
                self.check()
                done += len(piece)
                if done > size:
                    raise AttemptFailed("input_corrupt", f"more than the {size} bytes promised")
                digest.update(piece)
                try:
                    file.write(piece)
                except OSError as error:
                    raise AttemptFailed("worker_disk", str(error.strerror)) from error
                moved(done, size)
        if done < size:
            raise Again(f"{done} bytes of {size} came")
        if digest.hexdigest() != sha256:
            raise AttemptFailed("input_corrupt", "the hash is not the one promised")

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped
