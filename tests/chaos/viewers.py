"""People who watch: each has a live websocket that comes back with its cursor, and believes nothing unchecked.

Owns what a viewer's page would show, and every complaint about how it came to show that.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from hub.messages import COMPLETED, DELETED, PROGRESSED, UPDATED

TOPIC = "tasks"
AGAIN_S = 0.2
PING_S = 1.5
ENDED = {"completed", "failed", "cancelled"}


class Viewer:
    """One browser that watches the tasks of its user; `picture` is what it shows: task views by id."""

    def __init__(self, name: str, url: str, token: str) -> None:
        self.name = name
        self.url = url.replace("http", "ws", 1) + "/api/live"
        self.token = token
        self.picture: dict[str, dict[str, Any]] = {}
        self.fresh: set[str] = set()  # what a snapshot has shown and no event since
        self.epoch, self.offset = "", 0
        self.complaints: list[str] = []
        self.connections = self.snapshots = self.recoveries = self.events = 0
        self.subscribed = asyncio.Event()

    async def watch(self) -> None:
        """Watch, and come back whenever the connection is gone."""
        while True:
            with suppress(OSError, WebSocketException, TimeoutError, ConnectionAbortedError):
                async with connect(
                    self.url, proxy=None, compression=None, ping_interval=PING_S, ping_timeout=PING_S, open_timeout=4,
                    close_timeout=1,
                ) as socket:
                    self.connections += 1
                    await self.read(socket)
            self.subscribed.clear()
            await asyncio.sleep(AGAIN_S)

    async def read(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "auth", "id": 1, "token": self.token}))
        subscribe: dict[str, Any] = {"type": "subscribe", "id": 2, "topic": TOPIC}
        if self.epoch:
            subscribe["after"] = f"{self.epoch}:{self.offset}"
        await socket.send(json.dumps(subscribe))
        async for raw in socket:
            message = json.loads(raw)
            match message["type"]:
                case "authed":
                    pass
                case "subscribed":
                    self.begin(message)
                case "error":
                    if message["code"] != "unavailable":  # the database is away just now
                        self.complain(f"was refused: {message}")
                    return
                case _:
                    self.see(message)

    def begin(self, reply: dict[str, Any]) -> None:
        """What was missed, or a picture that replaces the one there was."""
        if reply["recovered"]:
            self.recoveries += 1
            for event in reply["events"]:
                self.see(event)
            here = (self.epoch, self.offset)
            if here != (reply["epoch"], reply["offset"]):
                self.complain(f"was recovered up to {here}, the topic is at {reply['epoch']}:{reply['offset']}")
        else:
            self.snapshots += 1
            shown = {view["id"]: view for view in reply["snapshot"]["items"]}
            for id, known in self.picture.items():
                if id not in shown:
                    self.complain(f"sees {id} vanish in a snapshot")
                elif shown[id]["version"] < known["version"]:
                    self.complain(f"sees a snapshot of {id} with version {shown[id]['version']}, "
                                  f"{known['version']} was shown")
            self.picture, self.fresh = shown, set(shown)
        self.epoch, self.offset = reply["epoch"], reply["offset"]
        self.subscribed.set()

    def see(self, event: dict[str, Any]) -> None:
        """One event: the next one, and newer than what is shown."""
        self.events += 1
        if (event["epoch"], event["offset"]) != (self.epoch, self.offset + 1):
            self.complain(f"got {event['epoch']}:{event['offset']} after {self.epoch}:{self.offset}")
        self.epoch, self.offset = event["epoch"], event["offset"]
        kind, data = event["type"], event["data"]
        known = self.picture.get(data["id"])
        if kind == DELETED:
            self.complain(f"is told that {data['id']} is deleted")
            return
        if known is None:
            self.picture[data["id"]] = data
            return
        same = kind == UPDATED or data["id"] in self.fresh  # news of its place in line, or in the snapshot already
        if data["version"] < known["version"] or (data["version"] == known["version"] and not same):
            self.complain(f"sees {kind} of {data['id']}: version {data['version']} after {known['version']}")
        if known["state"] in ENDED and not (data["id"] in self.fresh and data.get("state") == known["state"]):
            self.complain(f"sees {kind} of {data['id']}, which is {known['state']}")
        if kind == PROGRESSED and known["attempt"] == data["attempt"] and data["progress"] < known["progress"]:
            if known["state"] == "processing" and data["id"] not in self.fresh:
                self.complain(f"sees the progress of {data['id']} go back from {known['progress']}")
        if kind == COMPLETED and data["result"] is None:
            self.complain(f"sees {data['id']} completed without a result")
        self.fresh.discard(data["id"])
        self.picture[data["id"]] = {**known, **data}

    def complain(self, what: str) -> None:
        self.complaints.append(f"viewer {self.name} {what}")
