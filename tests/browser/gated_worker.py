"""A worker that gives every video back as it came, but not while the file named GATE is there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from worker.client import Job, Model, Worker

worker = Worker(models=[Model("gated", alias="Gated")], name=os.environ.get("WORKER_NAME", "gated"))


@worker.task("gated")
def replace(job: Job) -> None:
    gate = Path(os.environ["GATE"])
    while gate.exists():
        time.sleep(0.05)  # another process: there is nothing to wait on but the file
    shutil.copy(job.inputs["video"], job.output)


if __name__ == "__main__":
    worker.run(os.environ["HUB_URL"], os.environ["WORKER_TOKEN"])
