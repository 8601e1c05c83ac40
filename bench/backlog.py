"""Tasks that wait in the store before the hub starts: other users' tasks, put there in bulk."""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import replace

from hub.ids import new_id
from hub.media import Facts
from hub.task import Source, Task
from store.documents import KINDS, to_document
from store.mongo import MongoStore

LATER = "later"  # the model they are for; nobody serves it until a benchmark lets a worker offer it
OWNERS = 10  # where the inputs of many more are refused in a row, the hub suspects the workers
AT_ONCE = 5000


async def fill(store: MongoStore, tasks: int) -> None:
    """Put `tasks` waiting tasks of ten users into the store, the oldest first, then make the indexes."""
    now = time.time() - tasks / 1000
    owners = [new_id() for _ in range(OWNERS)]
    facts = Facts(1280, 720, "30000/1001", 300, 10.01, 0, "h264", "yuv420p", "mp4", "aac")
    video = Source(new_id(), "holiday on the beach.mp4", 4_000_000, "0" * 64, "video/mp4", facts)
    collection: Any = store.database[KINDS[Task].collection]
    for first in range(0, tasks, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, tasks))
        await collection.insert_many([
            to_document(Task(
                new_id(int(1000 * now) + number), owners[number % OWNERS], LATER, replace(video, media_id=new_id()),
                None, now + number / 1000,
            ))
            for number in numbers
        ], ordered=False)
    await store.prepare()
