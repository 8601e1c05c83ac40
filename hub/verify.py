"""The runner's eyes: what a worker sent is looked into before it counts.

Owns the way from a `Verify` effect to media records or a reason. Never decides what happens to the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec.structs import replace

from .effects import Verify
from .errors import HubError, MediaRefused, Unavailable
from .media import RESULT_PURPOSES, UNSEEN, Media, Mismatch, Previews, Purpose, compare, result_name
from .messages import Artifact
from .ports import Files, Probe, Store
from .task import Task

log = structlog.get_logger(__name__)

LOOKS, PAUSE_S = 4, 0.2  # that may fail at one result, and the pause, which each of them makes five times as long

Verdict = list[Media] | Mismatch


class Unseen(Exception):
    """The hub itself could not look into a file, which says nothing about it."""


async def look_until_seen(effect: Verify, verify: Callable[[Verify], Awaitable[Verdict]]) -> Verdict:
    """What a result is found to be; where the hub fails to look into it, it tries again, but not for ever.

    A database that does not answer is waited for as long as it takes.
    """
    failed, told = 0, False
    while True:
        try:
            return await verify(effect)
        except Exception as error:
            reason = error
        failed += not isinstance(reason, Unavailable)
        mistake = None if isinstance(reason, HubError | Unseen) else reason
        if failed == LOOKS:
            log.error("verification_failed", task=effect.task.id, detail=str(reason), exc_info=mistake)
            return Mismatch(UNSEEN, "the hub could not look into the result")
        if not told:
            log.warning("verification_delayed", task=effect.task.id, detail=str(reason), exc_info=mistake)
        told = True
        await asyncio.sleep(PAUSE_S * 5 ** failed)


class Verifier:
    """Decodes results and compares them with their source."""

    def __init__(self, store: Store, files: Files, probe: Probe) -> None:
        self.store = store
        self.files = files
        self.probe = probe

    async def __call__(self, effect: Verify) -> Verdict:
        """Media records, one version on and with facts, that stand for the result; or why it is not accepted.

        Raises:
            Unavailable: the store does not answer now.
            Unseen: the probe does not work now.
        """
        purposes = [artifact.purpose for artifact in effect.artifacts]
        if purposes.count(Purpose.RESULT) != 1 or len(set(purposes)) != len(purposes):
            return Mismatch("result_missing", "a result has exactly one file of each purpose, and one is the result")
        accepted: list[Media] = []
        for artifact in effect.artifacts:
            verdict = await self.look(effect.task, artifact)
            if isinstance(verdict, Mismatch):
                return verdict
            accepted.append(verdict)
        return accepted

    async def look(self, task: Task, artifact: Artifact) -> Media | Mismatch:
        """One file: is it here, is it what the worker says, does it stand for the source?"""
        record = await self.store.get(Media, artifact.upload_id)
        if record is None or record.task_id != task.id or record.purpose not in RESULT_PURPOSES:
            return Mismatch("result_unknown", f"no upload {artifact.upload_id} for this task")
        if record.purpose != artifact.purpose or record.sha256 != artifact.sha256:
            return Mismatch("result_differs", "the upload's purpose or hash is not the one reported")
        try:
            facts, previews = await self.probe(self.files.path(record.purpose, record.sha256), record.purpose)
        except MediaRefused as error:
            return Mismatch("result_not_playable", f"the result does not decode: {error.detail or error.code}")
        except HubError as error:
            raise Unseen(str(error)) from error
        source = task.video.facts
        if record.purpose is not Purpose.RESULT:
            source = replace(source, audio_codec=None)  # nobody listens to a mask
        mismatch = compare(source, facts)
        if mismatch is not None:
            return mismatch
        await self.keep(record.id, previews)
        name = result_name(task.video.name, record.purpose, facts.container)
        return replace(record, facts=facts, name=name, version=record.version + 1)

    async def keep(self, media_id: str, previews: Previews) -> None:
        """Keep small pictures of a result, if that can be: a good result is good without them."""
        try:
            await self.files.save_previews(media_id, previews)
        except Exception as error:
            mistake = None if isinstance(error, HubError) else error
            log.warning("previews_not_kept", media=media_id, detail=str(error), exc_info=mistake)
