"""Errands on the command line: tidying up the files of users and workers, also beside a running hub.

Owns the words of `python -m hub media ...` and where the files are. What may go is decided in hub/retention.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from handlers.locks import Locks
from store.files import Files
from store.space import Space

from .clock import SystemClock
from .commands import read_settings, with_store
from .effects import Delete, Effect, Outcome, Save
from .errors import Conflict
from .media import Purpose
from .ports import Store
from .retention import Report
from .settings import Settings
from .sweeper import Sweeper


def make_files(settings: Settings) -> Files:
    """Where bytes live; what is coming in lies beside the videos, so that sealing is a rename."""
    output = settings.output_dir
    return Files(
        {
            Purpose.VIDEO: settings.upload_videos_dir, Purpose.BACKGROUND: settings.upload_backgrounds_dir,
            Purpose.RESULT: output / "results", Purpose.MASK: output / "masks",
            Purpose.FOREGROUND: output / "foregrounds", Purpose.PREVIEW: output / "previews",
        },
        settings.upload_videos_dir / ".incoming",
        settings.data_dir / "posters",
    )


@click.group()
def media() -> None:
    """Files of users and workers."""


@media.command("gc")
@click.option("--dry-run", is_flag=True, help="Change nothing, only say what would go.")
def media_gc(dry_run: bool) -> None:
    """Remove results that were kept for RESULT_KEEP_DAYS, uploads that no task took, and files without a record.

    The running hub does the same every hour. Files younger than an hour are left alone, and so is all that an open task
    or a record needs.
    """
    settings = read_settings()
    files = make_files(settings)
    verb = "would remove" if dry_run else "removed"

    async def errand(store: Store) -> Report:
        async def commit(effects: Sequence[Effect]) -> None:
            changes = [effect for effect in effects if isinstance(effect, Save | Delete)]
            if any(outcome is not Outcome.DONE for outcome in await store.commit(changes)):
                raise Conflict("somebody else was first")

        return await Sweeper(
            store, files, Space(files), SystemClock(), Locks().of, commit, settings.result_keep_days,
            lambda what, size: click.echo(f"{verb} {what} ({size} bytes)"),
        ).sweep(dry_run)

    try:
        report = with_store(settings, errand)
    finally:
        files.close()
    for each in report.missing:
        click.echo(f"no file for {each.purpose} {each.id} {each.name!r} of user {each.owner}")
    if report.missing_count > len(report.missing):
        click.echo(f"... {report.missing_count} records without a file in all")
    click.echo(f"{verb} {report.freed} bytes")
    if report.refused:
        raise click.ClickException("the database knows none of the files; is it this hub's? No file was touched")
