"""People who order tasks over a line that breaks: they ask again, with the same key, until they have an answer.

Owns what each user was told, which is what the hub is held to in the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from .worker import MODEL

PASSWORD = "correct horse battery"
ANSWER_S, CALM_S = 6.0, 60.0  # how long an answer is waited for, on bad and on quiet days
LONGEST_PAUSE_S = 0.6  # between two orders of one user
AGAIN_S = 0.3
TWICE, UNWANTED = 0.1, 0.06  # shares of the orders that are sent again although answered, and that are cancelled
BUSY = {409, 429, 503}
NO_ANSWER = 599


class Caller:
    """Requests to the hub, as somebody with a token or as nobody."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""
        self.http = AsyncHTTPClient(force_instance=True, max_clients=50)

    async def __call__(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: Mapping[str, str] = {},
        patience: float = ANSWER_S,
    ) -> tuple[int, Any]:
        """Status and JSON of one answer; 599 where there is none."""
        sent = {"Content-Type": "application/json", **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            answer = await self.http.fetch(HTTPRequest(
                self.url + path, method, sent, data, request_timeout=patience, connect_timeout=patience,
                allow_nonstandard_methods=True, follow_redirects=False,
            ), raise_error=False)
        except (HTTPError, OSError):
            return NO_ANSWER, None
        if answer.code == NO_ANSWER or "json" not in answer.headers.get("Content-Type", ""):
            return answer.code, answer.body
        return answer.code, json.loads(answer.body)

    async def must(
        self, status: int, method: str, path: str, body: bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] = {},
    ) -> Any:
        """The JSON of an answer that has to be this one."""
        got, answer = await self(method, path, body, headers, CALM_S)
        assert got == status, (method, path, got, answer)
        return answer


@dataclass(slots=True)
class Told:
    """What users were told: tasks by key, ends that a cancel was answered with, and what should never be said."""

    tasks: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    too_late: dict[str, str] = field(default_factory=dict)
    unheard_of: list[str] = field(default_factory=list)
    again: int = 0
    ordered: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, ordered: int) -> None:
        """Wait until so many orders were accepted."""
        async with self.news:
            await self.news.wait_for(lambda: self.ordered >= ordered)


class User:
    """One user with one video and one token."""

    def __init__(self, name: str, url: str, random: Random, told: Told) -> None:
        self.name = name
        self.call = Caller(url)
        self.random = random
        self.told = told
        self.id = self.video = ""

    async def arrive(self, clip: bytes) -> None:
        account = {"email": f"{self.name}@chaos.example", "password": PASSWORD, "name": self.name}
        answer = await self.call.must(201, "POST", "/api/auth/register", account)
        self.id, self.call.token = answer["user"]["id"], answer["token"]
        video = await self.call.must(201, "POST", "/api/videos?name=clip.mp4", clip, {"Content-Type": "video/mp4"})
        self.video = video["id"]

    async def order_all(self, tasks: int) -> None:
        """Order so many tasks, one after the other, and cancel some of them."""
        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                pause, twice, unwanted = (self.random.random() for _ in range(3))
                await asyncio.sleep(pause * LONGEST_PAUSE_S)
                task = await self.order(f"{self.name}-{number}")
                async with self.told.news:
                    self.told.ordered += 1
                    self.told.news.notify_all()
                if twice < TWICE:
                    await self.order(f"{self.name}-{number}")
                if unwanted < UNWANTED:
                    group.create_task(self.cancel(task, 10 * pause * unwanted))

    async def order(self, key: str) -> str:
        """Ask for one task until the answer is 201; its id."""
        while True:
            body = {"video_id": self.video, "model": MODEL}
            status, answer = await self.call("POST", "/api/tasks", body, {"Idempotency-Key": key})
            if status == 201:
                break
            await self.puzzled(status, answer, f"the order {key}")
        first = self.told.tasks.setdefault(key, answer["id"])
        self.told.owners[first] = self.id
        if answer["id"] != first:
            self.told.unheard_of.append(f"{key} made {first}, and then {answer['id']}")
        return first

    async def cancel(self, task: str, after: float) -> None:
        """Cancel a task until that is answered with 200, or with what it came too late for."""
        await asyncio.sleep(after)
        while True:
            status, answer = await self.call("POST", f"/api/tasks/{task}/cancel")
            code = answer.get("code", "") if isinstance(answer, dict) else ""
            if status == 200:
                self.told.cancelled.add(task)
                return
            if status == 409 and code.startswith("task_"):
                self.told.too_late[task] = code.removeprefix("task_")
                return
            await self.puzzled(status, answer, f"the cancel of {task}")

    async def puzzled(self, status: int, answer: Any, what: str) -> None:
        """No answer, or none that helps: wait a moment before asking again."""
        self.told.again += 1
        if status not in BUSY and status != NO_ANSWER:
            self.told.unheard_of.append(f"{what} was answered with {status}: {answer!r:.300}")
        await asyncio.sleep(AGAIN_S * (0.5 + self.random.random()))
