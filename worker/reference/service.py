"""The reference service: this package's segmentation as a worker of the hub.

Owns the joint between a job and `replace_background`; knows neither pictures nor the wire.
"""

from __future__ import annotations

from dataclasses import asdict

from worker.client import Worker
from worker.job import Job, Stats

from . import MODELS, BadInput, replace_background


def replace(job: Job) -> Stats:
    """One job, in the model's own process."""
    try:
        stats = replace_background(
            job.inputs["video"], job.inputs.get("background"), job.output, job.model, job.options,
            job.report, lambda: job.cancelled, job,
        )
    except BadInput as error:
        raise job.BadInput(error.code, error.detail) from error
    return asdict(stats)


def reference_worker(name: str | None = None, slots: int = 1) -> Worker:
    """A worker that offers all of this package's models."""
    worker = Worker(MODELS, name=name, slots=slots)
    worker.task(*worker.models)(replace)
    return worker
