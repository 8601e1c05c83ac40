"""Previews from the worker's side: small, paced, told by every transport, and free while nobody looks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import cv2
import numpy as np
import pytest

from hub.messages import Hello, Progress, Result, ResultAck, Watching
from tests.worker import tasks
from tests.worker.serving import serving
from worker.child import Child
from worker.job import Job, Order
from worker.polling import HubCaller
from worker.previews import KINDS, LARGEST, PACE_S, Kind, Previews, Shown, packed, small, unpacked
from worker.testing import PATIENCE_S, FakeHub

JPEG = b"\xff\xd8\xff one"


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.put("video", b"moving")
        yield hub


async def next_picture(hub: FakeHub) -> tuple[str, str, int | None, bytes]:
    """Lease, kind, frame and image of the next picture that comes."""
    async with asyncio.timeout(PATIENCE_S):
        header, image = unpacked(await hub.pictures.get())
    return header.lease, header.kind, header.frame, image


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(clock: Clock | None = None) -> tuple[Previews, list[Shown]]:
    """Previews that somebody looks at, and what was sent."""
    sent: list[Shown] = []
    wanted = threading.Event()
    wanted.set()
    return Previews(sent.append, wanted, clock or Clock()), sent


# --- one job ----------------------------------------------------------------------------------------------------


def test_while_nobody_looks_nothing_is_made() -> None:
    sent: list[Shown] = []
    job = Job(Order("t1", 1, "m", {}, {}, None), previews=Previews(sent.append))  # type: ignore[arg-type]
    job.preview("mask", object())  # type: ignore[arg-type]
    assert not job.watched and sent == []


def test_one_of_each_kind_is_shown_and_the_next_when_they_are_due() -> None:
    clock = Clock()
    previews, sent = watched(clock)
    kinds: tuple[Kind, ...] = tasks.KINDS
    for frame in range(200):
        asked = previews.due
        for kind in kinds:
            previews.offer(kind, JPEG, frame)
        assert previews.due is False
        assert asked == (frame in (0, 45, 90, 135, 180))
        clock.now += PACE_S / 45 + 1e-9
    assert [(shown.kind, shown.frame) for shown in sent] == [
        (kind, frame) for frame in (0, 45, 90, 135, 180) for kind in kinds
    ]
    assert len(kinds) / PACE_S < 2, "the hub takes two a second"


def test_a_kind_that_there_is_not_is_an_error_whether_anybody_looks_or_not() -> None:
    for previews in (Previews(), watched()[0]):
        with pytest.raises(ValueError, match="original, mask, composite, not 'face'"):
            previews.offer("face", JPEG, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [np.zeros((2, 2, 2, 2), np.uint8), b"x" * (LARGEST + 1), object()])
def test_a_picture_that_cannot_be_shown_is_left_out_and_the_job_goes_on(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    previews, sent = watched()
    previews.offer("mask", broken, 1)
    previews.offer("original", JPEG, 1)
    assert [shown.kind for shown in sent] == ["original"]
    assert "preview_left_out" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(("picture", "size", "corner"), [
    (np.full((1080, 1920, 3), (200, 40, 10), np.uint8), (180, 320), (200, 40, 10)),
    (np.full((640, 200), 130, np.uint8), (320, 100), (130, 130, 130)),
    (np.full((90, 160), 0.5, np.float32), (90, 160), (127, 127, 127)),
    (np.full((4, 10_000), True), (1, 320), (255, 255, 255)),
    (np.full((90, 160), 1e9, np.float64), (90, 160), (255, 255, 255)),
])
def test_pictures_are_small(picture: Any, size: tuple[int, int], corner: tuple[int, int, int]) -> None:
    image = small(picture)
    shown = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None and shown.shape[:2] == size
    assert np.abs(shown[0, 0].astype(int) - corner).max() < 6
    assert len(image) < 16_000


def test_the_message_is_what_the_protocol_says() -> None:
    raw = packed("l1", Shown("mask", 7, JPEG))
    assert raw[:1] == b"\x01" and raw[5:].startswith(b'{"lease":"l1"')
    header, image = unpacked(raw)
    assert (header.lease, header.kind, header.frame, image) == ("l1", "mask", 7, JPEG)


# --- in a process of its own ------------------------------------------------------------------------------------


async def test_a_job_may_be_watched_from_its_start_and_again(tmp_path: Any) -> None:
    (tmp_path / "video").write_bytes(b"moving pictures")
    child = Child(1, {"show": tasks.show})
    shown: list[Shown] = []
    try:
        for _ in range(2):
            order = Order("t1", 1, "show", {}, {"video": tmp_path / "video"}, tmp_path / "result", watched=True)
            shown.clear()
            await child.run(order, lambda report: child.watch(False), shown.append)
            assert [(each.kind, each.frame) for each in shown] == [(kind, 7) for kind in KINDS]
    finally:
        child.kill()


# --- a whole worker ---------------------------------------------------------------------------------------------


async def ended(hub: FakeHub, lease: str) -> None:
    """The job is done, and the worker may forget it."""
    await hub.expect(Result, lease=lease)
    await hub.send(ResultAck(lease=lease))


@pytest.mark.parametrize("transport", ["websocket", "poll"])
async def test_pictures_come_while_somebody_looks(hub: FakeHub, transport: str) -> None:
    async with serving(hub, transport=transport):
        lease = await hub.assign("show")
        await hub.send(Watching(lease=lease, on=True))
        pictures = [await next_picture(hub) for _ in KINDS]
        assert [picture[:3] for picture in pictures] == [(lease, kind, 7) for kind in KINDS]
        assert all(image.startswith(b"\xff\xd8\xff") for *_, image in pictures)
        await hub.send(Watching(lease="another", on=True))
        await hub.send(Watching(lease=lease, on=False))
        await ended(hub, lease)
    assert hub.pictures.empty()


async def test_without_a_viewer_nothing_is_made_or_sent(hub: FakeHub) -> None:
    async with serving(hub):
        lease = await hub.assign("unseen")
        await ended(hub, lease)
    assert hub.pictures.empty()


async def test_a_hub_that_knows_nothing_of_viewers_any_more_gets_no_pictures(hub: FakeHub) -> None:
    async with serving(hub):
        lease = await hub.assign("show")
        await hub.send(Watching(lease=lease, on=True))
        await hub.expect(Progress, phase="segment")
        hub.forget()
        await hub.drop()
        await hub.expect(Hello)
        assert (await hub.expect(Hello)).running == [lease]
        await ended(hub, lease)
    assert hub.pictures.qsize() <= len(KINDS)


async def test_pictures_that_the_hub_does_not_take_are_replaced_by_newer_ones(hub: FakeHub) -> None:
    async with serving(hub) as worker:
        lease = await hub.assign("show")
        await hub.expect(Progress, phase="fetch")
        session = worker.session
        assert session is not None
        for frame in range(5):
            session.show(lease, Shown("mask", frame, JPEG))  # in one turn: nothing can be sent in between
        session.works[lease].watch(True)
        assert (await next_picture(hub))[:3] == (lease, "mask", 4)
        for kind in KINDS:
            assert (await next_picture(hub))[:3] == (lease, kind, 7)
        session.works[lease].watch(False)
        await ended(hub, lease)


async def test_a_picture_that_cannot_be_posted_is_lost_and_nothing_else() -> None:
    assert await HubCaller("http://127.0.0.1:1", "token").show(b"a picture") is None  # type: ignore[func-returns-value]
