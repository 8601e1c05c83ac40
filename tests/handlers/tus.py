"""What a tus client says and hears, request by request, also over several lives of a hub."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub.__main__ import Hub
from hub.ids import new_id
from store.mongo import MongoStore, connect
from tests.handlers.running import Answer, Api, Person, Place, fine, metadata, settings_for
from tests.odd_media import WEBCAM

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


async def whole(api: Api, person: Person, url: str) -> None:
    """Check that the webcam's video has arrived."""
    async with asyncio.timeout(20):
        while (upload := await person.get(url))["state"] == "checking":
            await asyncio.sleep(0.02)
    assert (upload["state"], upload["sha256"]) == ("ready", hashlib.sha256(WEBCAM.read_bytes()).hexdigest())


@asynccontextmanager
async def lives(place: Place, folder: Path) -> AsyncIterator[Callable[[], Any]]:
    """Hubs one after the other on the same files and database; call it for the next one's Api."""
    client = connect(place.mongo_uri)
    store = MongoStore(client, f"lives_{new_id()}", new_id())
    await store.prepare()
    running: list[tuple[Hub, Api]] = []

    async def end() -> None:
        for hub, api in running:
            api.close()
            await hub.stop()
        running.clear()

    async def next_life() -> Api:
        await end()
        hub = Hub(settings_for(folder), store)
        await hub.start()
        running.append((hub, Api(hub, folder)))
        return running[0][1]

    try:
        yield next_life
    finally:
        await end()
        await client.drop_database(store.database.name)
        client.close()


def moved(person: Person, api: Api) -> Person:
    """The same person at the next hub."""
    return Person(api, person.user, person.token)
