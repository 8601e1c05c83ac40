"""Parts: what tasks have in common is kept once, and what they say stays the same."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from msgspec.structs import replace

from hub import parts
from hub.core import Core
from hub.media import Facts
from hub.parts import NO_OPTIONS, Parts, Pool
from hub.task import Source, Task

from .world import RULES, SOURCE, START, a_task, links


def fresh(number: int, videos: int = 1, users: int = 1) -> Task:
    """A task as it comes out of the store: nothing in it is the same object as in another."""
    video, user = number % videos, number % users
    facts = Facts(
        int("1920"), int("1080"), f"{30000}/1001", 300 + video % 2000, 10.0 + video / 1000, 0, f"h{264}", f"yuv{420}p",
        f"mp{4}", f"aa{'c'}",
    )
    source = Source(
        f"01700000-0000-7000-8000-{video:012x}", f"holiday-{video:06}.mp4", 10**7 + video, f"{video:064x}",
        f"video/mp{4}", facts,
    )
    return Task(
        f"01900000-0000-7000-8000-{number:012x}", f"01800000-0000-7000-8000-{user:012x}", f"model-{1}", source,
        None, START + number / 1000, {}, progress=float("0"), not_before=float("0"), updated_at=float("0"),
    )


@pytest.mark.parametrize(("waiting", "videos"), [(10_000, 10), (20_000, 20_000)])
def test_p14_a_waiting_task_costs_less_than_a_kibibyte(waiting: int, videos: int) -> None:
    """Of 100,000 each costs 430 bytes where there are a few videos among them, and 950 where each has its own."""
    core = Core(RULES, lambda: "id", links)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        core.boot((fresh(number, videos, users=5) for number in range(waiting)), [], START + 1000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(core.tasks) == waiting
    assert (after - before) / waiting < 1024


def test_equal_parts_are_the_same() -> None:
    shared = Parts()
    one, other = fresh(1), fresh(2)
    assert one.video is not other.video and one.owner is not other.owner
    for task in (one, other):
        shared.share(task)
    assert one.video is other.video and one.owner is other.owner and one.model is other.model
    assert one.options is other.options is NO_OPTIONS


def test_videos_that_differ_share_what_they_can() -> None:
    shared = Parts()
    one, other = fresh(1, videos=10), fresh(2, videos=10)
    for task in (one, other):
        shared.share(task)
    assert one.video != other.video
    ours, theirs = one.video.facts, other.video.facts
    assert ours.fps is theirs.fps and ours.width is theirs.width and ours.audio_codec is theirs.audio_codec
    assert one.video.content_type is other.video.content_type


@pytest.mark.parametrize("changes", [
    {}, {"background": SOURCE}, {"options": {"color": "#fff"}},
    {"progress": 12.5, "not_before": 1.5, "updated_at": 2.5},
    {"video": replace(SOURCE, facts=replace(SOURCE.facts, audio_codec=None))},
])
def test_a_task_says_the_same_as_before(changes: dict[str, object]) -> None:
    shared = Parts()
    shared.share(fresh(1))
    task = replace(fresh(2), **changes)  # type: ignore[arg-type]
    expected = replace(fresh(2), **changes)  # type: ignore[arg-type]
    shared.share(task)
    assert task == expected and repr(task) == repr(expected)
    shared.share(task)
    assert repr(task) == repr(expected)


def test_a_video_that_was_renamed_meanwhile_is_not_taken_for_the_old_one() -> None:
    shared = Parts()
    one, other = fresh(1), fresh(2)
    other = replace(other, video=replace(other.video, name="renamed.mp4"))
    for task in (one, other):
        shared.share(task)
    assert (one.video.name, other.video.name) == ("holiday-000000.mp4", "renamed.mp4")


def test_what_is_shared_cannot_be_changed_through_one_task() -> None:
    shared, one = Parts(), a_task(options={"color": "#fff"})
    shared.share(one)
    assert one.options == {"color": "#fff"} and NO_OPTIONS == {}


def test_p14_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "KEPT", 10)
    pool: Pool[str] = Pool()
    for number in range(100):
        assert pool.same(f"value-{number}") == f"value-{number}"
        assert len(pool.known) <= 10
