"""The hub as the fan-out benchmark's server: whole and real, but for its store, which is in memory, and its events.

Publishes into the hub's own topics when it is told to on its standard input (see bench/publishing.py). Prints one line
of JSON with its port and what each viewer says first.

    python -m bench.fanout_hub VIEWERS "one" or "own" [plain]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import handlers.wire
from hub import logs
from hub.__main__ import Hub
from hub.account import User
from hub.effects import Save
from hub.ids import new_id
from hub.media import Facts
from hub.messages import PROGRESSED
from hub.settings import Settings
from hub.task import Source, Task
from hub.topics import Topic
from store.memory import MemoryStore

from .publishing import obey_forever, stamp
from .stage import free_port

FACTS = Facts(640, 360, "30000/1001", 72, 2.4, 0, "h264", "yuv420p", "mp4", "aac")


async def serve(viewers: int, own: bool) -> None:
    folder, store = Path(tempfile.mkdtemp(prefix="fanout-")), MemoryStore()
    settings = Settings.parse({
        "PORT": str(free_port()), "JWT_SECRET": "the secret of a benchmark, of 32 bytes", "DATA_DIR": "data",
        "INTERFACE_IDENTIFICATION": "another secret of it", "MAX_VIEWERS_PER_USER": "1000000",
    }, folder)
    hub = Hub(settings, store)
    user = User(new_id(), "bench@example.org", "Bench", "user", "none", 0.0)
    source = Source(new_id(), "v.mp4", 1000, "a" * 64, "video/mp4", FACTS)
    tasks = [Task(new_id(), user.id, "m", source, None, 0.0) for _ in range(viewers if own else 1)]
    await store.commit([Save(user, 0), *(Save(task, 0) for task in tasks)])
    await hub.start()
    topics = hub.runner.topics
    watched: list[Topic] = [topics.get(f"task:{task.id}") for task in tasks] if own else [topics.get("tasks", user.id)]
    token, _, _ = hub.rooms.tokens.issue(user, hub.rooms.clock.wall())
    print(json.dumps({
        "port": hub.port, "token": token, "topics": [topic.name for topic in watched],
        "cursor": watched[0].cursor,
    }), flush=True)

    def publish(number: int) -> None:
        data = {
            "id": tasks[0].id, "attempt": 1, "version": 7, "phase": "segment", "progress": 41.5, "message": "",
            "t": stamp(),
        }
        watched[number].publish(PROGRESSED, data, "2026-01-31T12:00:00.000Z", None)

    await obey_forever(publish, len(watched))
    await hub.stop()


if __name__ == "__main__":
    logs.configure("console", "error")
    handlers.wire.FAST = "plain" not in sys.argv
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2] == "own"))
