"""Looking into results: the right upload, the right bytes, a file that stands for its source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from msgspec.structs import replace as changed

from hub.effects import Save, Verify
from hub.errors import DiskFull, HubError, MediaRefused, Unavailable
from hub.media import Facts, Media, Mismatch, Previews, Purpose
from hub.messages import Artifact
from hub.verify import Unseen, Verifier
from store.files import Files
from store.memory import MemoryStore

from .world import ARTIFACT, FACTS, a_result, a_task

UPLOAD = a_result(name="upload", facts=None, version=1)
MASK = replace(UPLOAD, id="upload-2", purpose=Purpose.MASK)
MASK_ARTIFACT = changed(ARTIFACT, purpose="mask", upload_id="upload-2")


class Room:
    """A verifier over a real store and real files; what the probe would measure is said by the test."""

    def __init__(self, folder: Path) -> None:
        self.files = Files({purpose: folder / purpose for purpose in Purpose}, folder / "incoming", folder / "posters")
        self.store = MemoryStore()
        self.found: dict[Purpose, Facts | HubError] = {Purpose.RESULT: FACTS, Purpose.MASK: FACTS}
        self.verifier = Verifier(self.store, self.files, self.probe)

    async def probe(self, path: Path, purpose: Purpose) -> tuple[Facts, Previews]:
        found = self.found[purpose]
        if isinstance(found, HubError):
            raise found
        return found, Previews(b"jpeg")

    async def look(self, *artifacts: Artifact) -> list[Media] | Mismatch:
        await self.store.commit([Save(UPLOAD, 0), Save(MASK, 0)])
        return await self.verifier(Verify(a_task(), "lease-1", artifacts))

    async def refusal(self, *artifacts: Artifact) -> str:
        verdict = await self.look(*artifacts)
        assert isinstance(verdict, Mismatch)
        return verdict.code


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.files.close()


async def test_a_good_result_gets_its_facts_its_name_and_its_poster(room: Room) -> None:
    assert await room.look(ARTIFACT) == [replace(UPLOAD, facts=FACTS, name="holiday-result.mp4", version=2)]
    assert room.files.poster_path("upload-1").read_bytes() == b"jpeg"


async def test_a_mask_may_be_silent_beside_a_result_that_is_not(room: Room) -> None:
    room.found[Purpose.MASK] = replace(FACTS, audio_codec=None)
    verdict = await room.look(ARTIFACT, MASK_ARTIFACT)
    assert isinstance(verdict, list)
    assert [media.name for media in verdict] == ["holiday-result.mp4", "holiday-mask.mp4"]


@pytest.mark.parametrize("artifacts", [
    (MASK_ARTIFACT,), (ARTIFACT, ARTIFACT), (ARTIFACT, MASK_ARTIFACT, MASK_ARTIFACT),
    (changed(ARTIFACT, purpose="video"),),
])
async def test_there_is_one_file_of_each_purpose_and_one_is_the_result(room: Room, artifacts: tuple[Artifact]) -> None:
    assert await room.refusal(*artifacts) == "result_missing"


@pytest.mark.parametrize("stored", [
    replace(UPLOAD, id="foreign", task_id="another task"), replace(UPLOAD, id="foreign", task_id=None),
    replace(UPLOAD, id="foreign", purpose=Purpose.VIDEO),
])
async def test_p16_only_what_was_uploaded_for_this_task_counts(room: Room, stored: Media) -> None:
    await room.store.commit([Save(stored, 0)])
    assert await room.refusal(changed(ARTIFACT, upload_id="foreign")) == "result_unknown"


async def test_an_upload_that_never_was_is_unknown(room: Room) -> None:
    assert await room.refusal(changed(ARTIFACT, upload_id="invented")) == "result_unknown"


@pytest.mark.parametrize("artifact", [changed(ARTIFACT, sha256="f" * 64), changed(ARTIFACT, upload_id="upload-2")])
async def test_the_upload_is_the_one_that_was_reported(room: Room, artifact: Artifact) -> None:
    assert await room.refusal(artifact) == "result_differs"


async def test_what_does_not_decode_is_refused_with_the_reason(room: Room) -> None:
    room.found[Purpose.RESULT] = MediaRefused("no video in it", code="not_video")
    verdict = await room.look(ARTIFACT)
    assert verdict == Mismatch("result_not_playable", "the result does not decode: no video in it")


async def test_what_does_not_stand_for_its_source_is_refused(room: Room) -> None:
    room.found[Purpose.RESULT] = replace(FACTS, frames=71)
    assert await room.refusal(ARTIFACT) == "result_frames"
    assert not room.files.poster_path("upload-1").exists()


async def test_a_bad_mask_spoils_the_result(room: Room) -> None:
    room.found[Purpose.MASK] = replace(FACTS, frames=1)
    assert await room.refusal(ARTIFACT, MASK_ARTIFACT) == "result_frames"


@pytest.mark.parametrize("failure", [Unavailable("it does not start"), DiskFull("no room")])
async def test_a_probe_that_does_not_work_is_no_verdict(room: Room, failure: HubError) -> None:
    room.found[Purpose.RESULT] = failure
    with pytest.raises(Unseen):
        await room.look(ARTIFACT)


@pytest.mark.parametrize("failure", [DiskFull("no room"), Unavailable("the disk does not take the bytes")])
async def test_a_result_is_good_without_its_poster(
    room: Room, failure: HubError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(media_id: str, previews: Previews) -> None:
        raise failure

    monkeypatch.setattr(room.files, "save_previews", full)
    assert await room.look(ARTIFACT) == [replace(UPLOAD, facts=FACTS, name="holiday-result.mp4", version=2)]
    assert "previews_not_kept" in caplog.text
    caplog.clear()


async def test_p12_a_store_that_cannot_answer_now_is_no_verdict(room: Room) -> None:
    room.store.away = True
    with pytest.raises(Unavailable):
        await room.verifier(Verify(a_task(), "lease-1", (ARTIFACT,)))
