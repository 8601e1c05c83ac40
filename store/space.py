"""The hub's folders as they are: every file that is one of the hub's own, and the removal of one that may go.

Owns how a file is recognised by its name and place; whatever else lies in the folders is never seen, and so never
touched. Decides nothing: what may go is said by hub/retention.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from hub.media import Media, Purpose
from hub.retention import Found, Kind

from .disk import disk_errors, exclusive
from .files import Files

BATCH = 200  # files looked at in one go of a thread
CONTENT = re.compile(r"([0-9a-f]{64})(\.part)?")
POSTER = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,127})(?:\.strip)?\.jpg(\.part)?")
INCOMING = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,127})(?:\.[a-z0-9.]+)?()")
PREFIX = re.compile(r"[0-9a-f]{2}")


class Space:
    """Walks the folders of `files` and removes from them, in its threads."""

    def __init__(self, files: Files) -> None:
        self.files = files

    async def batches(self) -> AsyncIterator[list[Found]]:
        """All files, some at a time; what comes or goes meanwhile may be missed.

        Raises:
            Unavailable: a folder cannot be read.
        """
        walk = self.walk()
        while batch := await self.files.submit(some, walk):
            yield batch

    def walk(self) -> Iterator[Found]:
        for folder in dict.fromkeys(self.files.folders.values()):
            purposes = tuple(purpose for purpose, place in self.files.folders.items() if place == folder)
            for entry in scan(folder):
                if PREFIX.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield from found_in(folder / entry.name, CONTENT, Kind.CONTENT, purposes)
        yield from found_in(self.files.posters, POSTER, Kind.POSTER)
        yield from found_in(self.files.incoming, INCOMING, Kind.INCOMING)

    async def remove(self, found: Found) -> bool:
        """Remove one file; False where it is gone, or was changed since it was found."""
        return await self.files.submit(self.remove_unchanged, found)

    def remove_unchanged(self, found: Found) -> bool:
        path = Path(found.path)
        with exclusive(path.parent.parent if found.kind is Kind.CONTENT else path.parent), suppress(OSError):
            if changed_at(path.lstat()) == found.changed_at:
                path.unlink()
                return True
        return False

    async def without_file(self, records: Iterable[Media]) -> list[Media]:
        """Those records whose bytes are not there."""
        listed = list(records)
        return await self.files.submit(lambda: [record for record in listed if not self.there(record)])

    def there(self, record: Media) -> bool:
        return self.files.path(record.purpose, record.sha256).is_file()


def some(walk: Iterator[Found]) -> list[Found]:
    """The next files of a walk, none at its end."""
    with disk_errors():
        return list(islice(walk, BATCH))


def found_in(
    folder: Path, names: re.Pattern[str], kind: Kind, purposes: tuple[Purpose, ...] = (),
) -> Iterator[Found]:
    """The files in one folder whose names say that they are the hub's."""
    for entry in scan(folder):
        named = names.fullmatch(entry.name)
        if named is None or kind is Kind.CONTENT and not entry.name.startswith(folder.name):
            continue
        try:
            facts = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False):
                part = Kind.PART if named[2] else kind
                yield Found(part, named[1], entry.path, facts.st_size, changed_at(facts), purposes)
        except FileNotFoundError:
            continue


def scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, none where it is not there."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def changed_at(facts: os.stat_result) -> float:
    """When a file was written or moved last; a rename changes the second of these alone."""
    return max(facts.st_mtime, facts.st_ctime)
