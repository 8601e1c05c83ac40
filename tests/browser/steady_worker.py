"""A worker that gets on at an even pace, up to the percent that the file named TARGET says, and shows what it is at.

It counts in the file named SHOWN how often it made pictures.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np

from worker.client import Job, Model, Worker

worker = Worker(models=[Model("steady", alias="Steady")], name=os.environ.get("WORKER_NAME"))


@worker.task("steady")
def replace(job: Job) -> None:
    target, shown, percent = Path(os.environ["TARGET"]), Path(os.environ["SHOWN"]), 0.0
    while percent < 100:
        if percent < float(target.read_text() or 0):
            percent += 1
        job.report("segment", percent)
        if job.watched:
            with shown.open("a") as counted:
                counted.write(".")
            job.preview("original", np.full((180, 320, 3), (200, 120, 40), np.uint8), int(percent))
            job.preview("mask", np.eye(180, 320, dtype=np.float32), int(percent))
            job.preview("composite", np.full((180, 320, 3), (40, 120, 200), np.uint8), int(percent))
        time.sleep(0.03)  # the pace
    shutil.copy(job.inputs["video"], job.output)


if __name__ == "__main__":
    worker.run(os.environ["HUB_URL"], os.environ["WORKER_TOKEN"])
