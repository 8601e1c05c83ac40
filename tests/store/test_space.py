"""What lies in the folders: the hub's own files are found, others never seen, and what was touched stays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub import ports
from hub.errors import Unavailable
from hub.media import Media, Previews, Purpose
from hub.retention import Found, Kind
from store.disk import exclusive
from store.files import Files
from store.space import Space

SHA = "ab" + "0" * 62

if TYPE_CHECKING:
    def keeps_the_promise(space: Space) -> ports.Space:
        return space


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    folders = {purpose: tmp_path / purpose for purpose in Purpose if purpose is not Purpose.MASK}
    files = Files({**folders, Purpose.MASK: tmp_path / "result"}, tmp_path / "incoming", tmp_path / "posters")
    yield Space(files)
    files.close()


def lay(folder: Path, *names: str, size: int = 3) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


async def all_of(space: Space) -> list[Found]:
    return [found async for batch in space.batches() for found in batch]


async def test_every_file_of_the_hub_s_is_found_as_what_it_is(space: Space, tmp_path: Path) -> None:
    lay(tmp_path, f"video/ab/{SHA}", f"video/ab/{SHA}.part", f"result/ab/{SHA}", "incoming/upload-1", size=7)
    lay(tmp_path, "incoming/upload-1.hold", "posters/media-1.jpg", "posters/media-1.strip.jpg")
    lay(tmp_path, "posters/media-1.jpg.part")
    found = {(each.kind, each.key, each.size, each.purposes) for each in await all_of(space)}
    results = (Purpose.RESULT, Purpose.MASK)
    assert found == {
        (Kind.CONTENT, SHA, 7, (Purpose.VIDEO,)), (Kind.PART, SHA, 7, (Purpose.VIDEO,)),
        (Kind.CONTENT, SHA, 7, results),
        (Kind.INCOMING, "upload-1", 7, ()), (Kind.INCOMING, "upload-1", 3, ()),
        (Kind.POSTER, "media-1", 3, ()), (Kind.PART, "media-1", 3, ()),
    }
    assert len(await all_of(space)) == 8


async def test_other_people_s_files_are_never_seen(space: Space, tmp_path: Path) -> None:
    """Such as those of another server that has used the same folders."""
    lay(tmp_path, "video/holiday.mp4", f"video/{SHA}", f"video/cd/{SHA}", f"video/ab/{SHA.upper()}", "video/ab/x",
        f"video/ab/{SHA}.mp4", f"video/abc/{SHA}", "posters/.hidden.jpg", "posters/picture.png", "posters/a/b.jpg")
    lay(tmp_path, "video/cc", "elsewhere/ab")
    (tmp_path / "video" / "dd").symlink_to(tmp_path / "elsewhere")
    lay(tmp_path, f"elsewhere/dd{SHA[2:]}")
    lay(tmp_path, "video/ab/y")
    (tmp_path / "video" / "ab" / SHA).symlink_to(tmp_path / "elsewhere" / "ab")
    assert await all_of(space) == []


async def test_a_folder_that_cannot_be_read_is_said(space: Space) -> None:
    space.files.posters.rmdir()
    space.files.posters.write_bytes(b"a file in its place")
    with pytest.raises(Unavailable):
        await all_of(space)


async def test_a_great_many_files_come_in_batches(space: Space, tmp_path: Path) -> None:
    lay(tmp_path / "posters", *(f"media-{number}.jpg" for number in range(503)), size=1)
    assert [len(batch) async for batch in space.batches()] == [200, 200, 103]


async def test_what_was_touched_since_it_was_found_stays(space: Space, tmp_path: Path) -> None:
    lay(tmp_path, f"video/ab/{SHA}")
    [found] = await all_of(space)
    os.utime(found.path, (found.changed_at + 60, found.changed_at + 60))
    assert not await space.remove(found)
    [again] = await all_of(space)
    assert await space.remove(again) and await all_of(space) == []
    assert not await space.remove(again)


async def test_an_equal_content_that_comes_again_is_young_again(space: Space, tmp_path: Path) -> None:
    """Else a round of tidying in another process could take an old orphan away between a seal and its record."""
    incoming = space.files.receive("one")
    await incoming.write(b"the same")
    first = await incoming.seal(Purpose.VIDEO)
    await incoming.discard()
    [found] = await all_of(space)
    os.utime(first, (1.0, 1.0))
    again = space.files.receive("two")
    await again.write(b"the same")
    await again.seal(Purpose.VIDEO)
    await again.discard()
    assert first.stat().st_mtime > 1e9
    assert not await space.remove(found) and first.read_bytes() == b"the same"


async def test_another_process_that_moves_files_is_waited_for(space: Space, tmp_path: Path) -> None:
    lay(tmp_path, f"video/ab/{SHA}")
    [found] = await all_of(space)
    holding = f"""
import pathlib, sys
from store.disk import exclusive
with exclusive(pathlib.Path({str(tmp_path / "video")!r})):
    print("held", flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", holding], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin and other.stdout
        assert await asyncio.to_thread(other.stdout.readline) == "held\n"
        removing = asyncio.ensure_future(space.remove(found))
        assert await asyncio.wait([removing], timeout=0.2) == (set(), {removing})
        other.stdin.write("\n")
        other.stdin.flush()
        assert await removing
    with exclusive(tmp_path / "video"):
        pass  # the lock is free again


async def test_records_without_their_bytes_are_told_apart(space: Space, tmp_path: Path) -> None:
    lay(tmp_path, f"video/ab/{SHA}")
    there = Media("there", "o", Purpose.VIDEO, "n", "", 1, SHA, "", None, 1.0)
    lost = Media("lost", "o", Purpose.BACKGROUND, "n", "", 1, SHA, "", None, 1.0)
    assert await space.without_file([there, lost]) == [lost]


async def test_previews_are_found_under_their_media_s_id(space: Space) -> None:
    await space.files.save_previews("media-1", Previews(b"poster", b"strip"))
    assert [(each.kind, each.key) for each in await all_of(space)] == [(Kind.POSTER, "media-1")] * 2
