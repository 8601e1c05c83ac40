"""The smallest worker: gives every video back as it came. Needs WORKER_TOKEN and PYTHONPATH=. in its environment."""

import os
import shutil

from worker.client import Job, Model, Worker

worker = Worker(models=[Model("echo", description="Gives the video back as it came")], name="echo")


@worker.task("echo")
def replace(job: Job) -> None:
    shutil.copy(job.inputs["video"], job.output)


if __name__ == "__main__":
    worker.run(os.environ.get("HUB_URL", "http://localhost:6001"), os.environ["WORKER_TOKEN"])
