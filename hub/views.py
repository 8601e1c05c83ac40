"""Records as the outside sees them: the JSON of tasks, media and models.

Owns the outside's field names and the signed addresses in them. Never decides and never looks anything up: all
that a view needs is in the record or in its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from .clock import rfc3339
from .estimate import Span
from .interface import OfferedModel
from .media import Facts, Media, Purpose
from .outlook import Outlook
from .retention import Report
from .task import Output, Source, State, Task
from .verdict import Verdict

LINK_STEP_S, LINK_LIFE_S = 3600, 12 * 3600
FACTS = ("width", "height", "fps", "frames", "duration", "rotation", "codec", "has_audio", "variable_frame_rate")
SIGNED = 4096  # signed addresses that are remembered: within the hour they are the same again


class Views:
    """Makes views; `sign` adds an expiry and a signature to a path, the folders are the first part of addresses.

    `keep_s` is for how long results are kept, 0 for ever.
    """

    def __init__(self, sign: Callable[[str, int], str], videos: str, backgrounds: str, keep_s: float = 0.0) -> None:
        self.sign = sign
        self.address = lru_cache(SIGNED)(self.make_address)
        self.keep_s = keep_s
        self.folders = {Purpose.VIDEO: videos, Purpose.BACKGROUND: backgrounds}

    def link(self, path: str, name: str, wall: float) -> str:
        """A signed address for `path`, the same one for up to an hour so that browsers can cache what it serves."""
        return self.address(path, name, (int(wall) // LINK_STEP_S + 1) * LINK_STEP_S + LINK_LIFE_S)

    def make_address(self, path: str, name: str, expires: int) -> str:
        """A signed address that is good until `expires`; `name` follows the path and is not part of what is signed."""
        address, _, query = self.sign(path, expires).partition("?")
        return f"{address}/{quote(name, safe='')}?{query}" if name else f"{address}?{query}"

    def media(self, media: Media, wall: float) -> dict[str, Any]:
        """A video or background of a user's."""
        return {
            "id": media.id,
            "name": media.name,
            "size": media.size,
            "sha256": media.sha256,
            "md5": media.md5,
            **facts(media.facts),
            "state": "ready" if media.facts else "checking",
            "content_url": self.content(media.purpose, media.id, media.name, wall),
            "poster_url": self.link(f"/posters/{media.id}", "", wall),
            "strip_url": self.strip(media.id, wall) if media.purpose is Purpose.VIDEO else None,
            "created_at": rfc3339(media.created_at),
        }

    def strip(self, media_id: str, wall: float) -> str:
        """Where eight pictures of a video are, side by side in one JPEG."""
        return self.link(f"/posters/{media_id}/strip", "", wall)

    def content(self, purpose: Purpose, media_id: str, name: str, wall: float) -> str:
        return self.link(f"/{self.folders[purpose]}/{media_id}", name, wall)

    def source(self, source: Source, purpose: Purpose, wall: float) -> dict[str, Any]:
        """An input of a task."""
        return {
            "id": source.media_id,
            "name": source.name,
            "size": source.size,
            **facts(source.facts),
            "content_url": self.content(purpose, source.media_id, source.name, wall),
            "poster_url": self.link(f"/posters/{source.media_id}", "", wall),
        }

    def output(self, task: Task, output: Output, wall: float) -> dict[str, Any]:
        """An accepted result of a task."""
        url = self.link(f"/output/{task.id}", output.name, wall)
        return {
            "url": url, "download_url": f"{url}&download=1", "name": output.name,
            "size": output.size, "sha256": output.sha256, "frames": output.frames,
        }

    def task(self, task: Task, wall: float, outlook: Outlook, cursor: str) -> dict[str, Any]:
        """A task, whole."""
        names = {Purpose.RESULT.value: "video"}
        result = {names.get(o.purpose, o.purpose): self.output(task, o, wall) for o in task.outputs}
        return {
            "id": task.id,
            "state": task.state.value,
            **running(task),
            "model": task.model,
            "video": self.source(task.video, Purpose.VIDEO, wall),
            "background": self.source(task.background, Purpose.BACKGROUND, wall) if task.background else None,
            "options": task.options,
            "priority": task.priority,
            **waiting(outlook),
            "worker": task.worker if task.state is not State.WAITING else None,
            "result": result if result and task.results_gone_at is None else None,
            **self.kept(task),
            "problem": {"code": task.problem.code, "detail": task.problem.detail} if task.problem else None,
            "created_at": rfc3339(task.created_at),
            "started_at": rfc3339(task.started_at) if task.started_at else None,
            "ended_at": rfc3339(task.ended_at) if task.ended_at else None,
            "cursor": cursor,
        }

    def kept(self, task: Task) -> dict[str, Any]:
        """For how long a task's results will be kept, or why they are not there any more."""
        gone = task.results_gone_at
        until = task.ended_at + self.keep_s if self.keep_s and task.outputs and gone is None and task.ended_at else None
        return {
            "result_expires_at": rfc3339(until) if until else None,
            "result_gone": {"reason": "expired", "at": rfc3339(gone)} if gone else None,
        }


def running(task: Task) -> dict[str, Any]:
    """The part of a task that changes while it runs: all that a progress event carries besides the id."""
    return {
        "attempt": task.attempt, "version": task.version, "phase": task.phase,
        "progress": round(task.progress, 2), "message": task.message,
    }


def waiting(outlook: Outlook) -> dict[str, Any]:
    """The part of a task that changes while it waits: `eta` is seconds until it is done, nulls are not known."""
    return {"position": outlook.position, "blocked_by": outlook.blocked_by, "eta": span(outlook.eta)}


def span(seconds: Span | None) -> dict[str, float] | None:
    """A time that is only roughly known."""
    return {"p50": round(seconds.p50, 1), "p90": round(seconds.p90, 1)} if seconds else None


def verdict(told: Verdict) -> dict[str, Any]:
    """What a model would do with a video."""
    return {"name": told.model, "seconds": span(told.seconds), "ready": told.ready, "reason": told.reason}


def progressed(task: Task) -> dict[str, Any]:
    """A progress event's data."""
    return {"id": task.id, **running(task)}


def facts(known: Facts | None) -> dict[str, Any]:
    """What the probe measured, or nulls while it has not."""
    if known is None:
        return dict.fromkeys(FACTS)
    return {
        "width": known.width, "height": known.height, "fps": known.fps, "frames": known.frames,
        "duration": known.duration, "rotation": known.rotation, "codec": known.codec, "has_audio": known.has_audio,
        "variable_frame_rate": known.variable,
    }


def space(report: Report | None) -> dict[str, Any] | None:
    """What the last round of tidying found; null before the first one."""
    if report is None:
        return None
    gone = {name: getattr(report, name) for name in ("orphans", "results", "leftovers")}
    return {
        "at": rfc3339(report.at), "used": report.used, "refused": report.refused, "missing": report.missing_count,
        "missing_ids": [record.id for record in report.missing],
        **{name: {"number": each.number, "size": each.size} for name, each in gone.items()},
    }


def model(record: OfferedModel, workers_ready: int, rate: Span | None) -> dict[str, Any]:
    """A model that users can choose; how long it takes is null until it is known."""
    return {
        "name": record.id, "alias": record.alias, "description": record.description,
        "workers_ready": workers_ready, "seconds_per_megapixel_frame": round(rate.p50, 5) if rate else None,
        "max_pixels": record.max_pixels or None, "max_frames": record.max_frames or None,
    }
