"""`python -m worker`: runs the reference service against a hub.

Owns its command line and its log. The token comes from the environment or a file, never from the command line, which
everybody on a machine can read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import structlog

from .reference.service import reference_worker


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hub", "url", required=True, metavar="URL", help="Where the hub is, such as http://localhost:6001.")
@click.option("--name", help="The name that the token was registered for; this machine's name by default.")
@click.option("--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Jobs at the same time.")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds the token; otherwise it is taken from the environment variable WORKER_TOKEN.",
)
def main(url: str, name: str | None, slots: int, token_file: Path | None) -> None:
    """Replace video backgrounds for the hub at URL until told to stop.

    Exits with 0 when it was told to stop, and with 2 when the hub does not want this worker.
    """
    token = token_file.read_text() if token_file is not None else os.environ.pop("WORKER_TOKEN", "")
    if not token.strip():
        raise click.UsageError("there is no token: set WORKER_TOKEN or give --token-file")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    reference_worker(name, slots).run(url, token.strip())


if __name__ == "__main__":
    main()
