"""The runner's eyes: what a worker sent is looked into before it counts.

Owns the way from a `Verify` effect to media records or a reason. Never decides what happens to the task.
"""

from __future__ import annotations

from msgspec.structs import replace

from .effects import Verify
from .errors import HubError, MediaRefused, Unavailable
from .media import RESULT_PURPOSES, Media, Mismatch, Purpose, compare, result_name
from .messages import Artifact
from .ports import Files, Probe, Store
from .task import Task


class Verifier:
    """Decodes results and compares them with their source."""

    def __init__(self, store: Store, files: Files, probe: Probe) -> None:
        self.store = store
        self.files = files
        self.probe = probe

    async def __call__(self, effect: Verify) -> list[Media] | Mismatch:
        """Media records, one version on and with facts, that stand for the result; or why it is not accepted.

        Raises:
            Unavailable: the store or the probe cannot answer now.
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
        except Unavailable:
            raise
        except HubError as error:
            return Mismatch(error.code, error.detail)
        source = task.video.facts
        if record.purpose is not Purpose.RESULT:
            source = replace(source, audio_codec=None)  # nobody listens to a mask
        mismatch = compare(source, facts)
        if mismatch is not None:
            return mismatch
        await self.files.save_previews(record.id, previews)
        name = result_name(task.video.name, record.purpose, facts.container)
        return replace(record, facts=facts, name=name, version=record.version + 1)
