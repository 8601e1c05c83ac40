"""A really running hub for the tests of its edges, and people who use it.

One hub serves a whole module, in the module's own event loop; each test comes with fresh users, so tests do not see
each other. Owns how a test talks HTTP; knows nothing of what the answers should be, but for the one error envelope.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

import handlers.wire
from handlers.app import routes
from handlers.openapi import Document
from hub.__main__ import ROOT, Hub
from hub.account import User
from hub.effects import Save
from hub.errors import Unavailable
from hub.ids import new_id
from hub.interface import Interface, OfferedModel, hash_token, new_token
from hub.media import Media
from hub.settings import Settings
from hub.task import Task
from store.mongo import MongoStore, connect
from store.passwords import Passwords
from tests.handlers.described import Described
from tests.odd_media import PAGODA, folder, write_clip

__all__ = [
    "Answer", "Api", "Person", "api", "fast", "hub", "one_loop", "place", "refused", "running_hub", "small_video",
]

SECRET = "a test's own secret: 6f1d0c3b9e7a4d52"
FRONTEND, FRIEND = "https://videos.test", "https://friend.test"
LIMIT_MB = 3
PATIENCE_S = 10.0
one_loop = pytest.mark.asyncio(loop_scope="module")


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Place:
    """Where a hub may live: an address of a MongoDB and a folder."""

    mongo_uri: str
    folder: Path


@pytest.fixture(scope="module")
def place(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(mongo_uri, tmp_path_factory.mktemp("hub"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(place: Place) -> AsyncIterator[Hub]:
    """A hub with a database of its own."""
    async with running_hub(place) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(hub: Hub, place: Place) -> AsyncIterator[Api]:
    client = Api(hub, place.folder)
    yield client
    client.close()


@pytest.fixture(params=[True, False], ids=["own wire", "tornado"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of serving a websocket keep the same promises."""
    monkeypatch.setattr(handlers.wire, "FAST", request.param)
    return bool(request.param)


@asynccontextmanager
async def running_hub(place: Place, **changes: str) -> AsyncIterator[Hub]:
    """A hub on a free port; `changes` are settings by their names."""
    client = connect(place.mongo_uri)
    store = MongoStore(client, f"edges_{new_id()}", new_id())
    await store.prepare()
    hub = Hub(settings_for(place.folder, **changes), store)
    await hub.start()
    hub.rooms.passwords = fast = Passwords(cost=4)
    hub.parts.callback(fast.close)
    try:
        yield hub
    finally:
        await hub.stop()
        await client.drop_database(store.database.name)
        client.close()


def settings_for(folder: Path, **changes: str) -> Settings:
    return Settings.parse({
        "PORT": "0", "JWT_SECRET": SECRET, "INTERFACE_IDENTIFICATION": "another secret of the tests",
        "FRONTEND_URL": FRONTEND, "CORS_ORIGINS": FRIEND, "DATA_DIR": "data", "UPLOAD_FILE_SIZE_LIMIT": str(LIMIT_MB),
        **changes,
    }, folder)


@functools.cache
def described() -> Described:
    """What /openapi.json says, of a hub with the paths that are usual."""
    return Described(json.loads(Document(routes(Settings.parse({}, Path()), ROOT / "static")).data))


# --- answers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @functools.cached_property
    def json(self) -> Any:
        return json.loads(self.body)


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check the whole error envelope (RFC 9457); the problem."""
    assert answer.headers.get("content-type") == "application/problem+json", answer
    problem: dict[str, Any] = answer.json
    assert (answer.status, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["type"] == f"urn:vsh:problem:{code}"
    assert problem["title"] and problem["detail"] and problem["instance"].startswith("/")
    assert UUID(problem["request_id"]).version == 7
    assert problem.keys() <= {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
    for field in problem.get("errors", []):
        assert field["pointer"] == "" or field["pointer"].startswith("/")
        assert field["code"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert "traceback" not in answer.body.decode().lower()
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    return problem


def fine(answer: Answer, status: int = 200) -> Any:
    """Check that this went well; the JSON."""
    assert answer.status == status, (answer.status, answer.body[:500])
    return answer.json if answer.body else None


# --- clients ----------------------------------------------------------------------------------------------------


class Api:
    """What everybody can do: send requests to the hub. `folder` holds all of its files.

    Every answer must be one that /openapi.json describes.
    """

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.http = AsyncHTTPClient(force_instance=True, defaults={"decompress_response": False}, max_clients=100)

    def close(self) -> None:
        self.http.close()

    async def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        *, json_body: Any = None, token: str = "",
    ) -> Answer:
        sent = dict(headers or {})
        if token:
            sent.setdefault("Authorization", f"Bearer {token}")
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent.setdefault("Content-Type", "application/json")
        answer = await self.http.fetch(HTTPRequest(
            self.hub.url + path, method, sent, body, follow_redirects=False, allow_nonstandard_methods=True,
            request_timeout=60,
        ), raise_error=False)
        told = Answer(answer.code, {k.lower(): v for k, v in answer.headers.get_all()}, answer.body)
        described().check(sent.get("X-HTTP-Method-Override", method), path, told)
        return told

    async def user(self, role: Any = "user") -> Person:
        """Somebody new, signed in; nobody knows the password."""
        id = new_id()
        user = User(id, f"{id}@test.example", "Somebody", role, "no hash at all", self.hub.rooms.clock.wall())
        await self.hub.rooms.store.commit([Save(user, 0)])
        token, _, _ = self.hub.rooms.tokens.issue(user, self.hub.rooms.clock.wall())
        return Person(self, user, token)

    async def interface(self, enabled: bool = True) -> tuple[str, str]:
        """A registered interface service: its name and its token."""
        name, token = f"worker-{new_id()}", new_token()
        record = Interface(name, hash_token(token), self.hub.rooms.clock.wall(), enabled)
        await self.hub.rooms.store.commit([Save(record, 0)])
        return name, token

    def offer_model(self) -> str:
        """A model that was offered once, by a worker that is not here."""
        name = f"model-{new_id()}"
        self.hub.rooms.runner.core.models[name] = OfferedModel(name, "", "")
        return name

    @asynccontextmanager
    async def connection(self, data: str | bytes = b"") -> AsyncIterator[Ends]:
        """A TCP connection on which `data` was sent; it is cut at the end, and nothing in it may take long."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.hub.port)
        try:
            writer.write(data.encode("latin-1") if isinstance(data, str) else data)
            async with asyncio.timeout(PATIENCE_S):
                yield reader, writer
        finally:
            writer.transport.abort()

    async def raw(self, data: str | bytes) -> bytes:
        """What comes back for these bytes until the hub hangs up."""
        async with self.connection(data) as (reader, _):
            try:
                return await reader.read()
            except ConnectionError:
                return b""

    # --- what is left behind ------------------------------------------------------------------------------------

    def files(self) -> set[str]:
        """All files of the hub, by their path."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    async def counts(self) -> list[int]:
        return [await self.hub.rooms.store.count(kind) for kind in (Media, Task, User)]

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """Check that what happens inside leaves nothing behind, neither on disk nor in the database."""
        files, counts = self.files(), await self.counts()
        yield
        await eventually(lambda: self.files() == files)
        assert await self.counts() == counts


class Person:
    """A signed-in user."""

    def __init__(self, api: Api, user: User, token: str) -> None:
        self.api = api
        self.user = user
        self.token = token

    async def __call__(self, method: str, path: str, *arguments: Any, **options: Any) -> Answer:
        return await self.api(method, path, *arguments, token=self.token, **options)

    async def get(self, path: str) -> Any:
        return fine(await self("GET", path))

    async def upload(
        self, content: bytes, kind: str = "videos", type: str = "video/mp4", name: str = "v.mp4"
    ) -> Answer:
        return await self("POST", f"/api/{kind}?name={name}", content, {"Content-Type": type})

    async def upload_video(self, content: bytes | None = None) -> dict[str, Any]:
        """A video of three pictures, unless told otherwise."""
        video: dict[str, Any] = fine(await self.upload(content or small_video()), 201)
        return video

    async def upload_background(self) -> dict[str, Any]:
        sent = await self.upload(PAGODA.read_bytes(), "backgrounds", "image/jpeg", "p.jpg")
        background: dict[str, Any] = fine(sent, 201)
        return background

    async def create(self, model: str, video: str | None = None, **fields: Any) -> dict[str, Any]:
        """A task for a model that somebody has offered."""
        video = video or (await self.upload_video())["id"]
        answer = await self("POST", "/api/tasks", json_body={"video_id": video, "model": model, **fields})
        task: dict[str, Any] = fine(answer, 201)
        return task


async def everything(person: Person, path: str, **query: str) -> list[dict[str, Any]]:
    """All pages of a list, two at a time."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        extra = "".join(f"&{name}={value}" for name, value in query.items())
        page = await person.get(f"{path}?limit=2{cursor}{extra}")
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"


@functools.cache
def small_video() -> bytes:
    """The smallest video that is one: three pictures of 64 x 64."""
    path = folder() / "small.mp4"
    write_clip(path, size=(64, 64), frames=3)
    return path.read_bytes()


def metadata(**values: str) -> str:
    """Upload-Metadata with these values."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


async def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait for a condition that nothing announces."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError("it did not come to pass") from None


async def database_is_back(hub: Hub) -> None:
    """Wait until the hub's database answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await hub.rooms.store.ping()
            except Unavailable:
                await asyncio.sleep(0.1)
