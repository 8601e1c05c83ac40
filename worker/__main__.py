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

from .client import DRAIN_S, PushTransport
from .reference.service import reference_worker


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hub", "url", required=True, metavar="URL", help="Where the hub is, such as http://localhost:6001.")
@click.option("--name", help="The name that the token was registered for; this machine's name by default.")
@click.option("--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Jobs at the same time.")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds the token; otherwise it is taken from the environment variable WORKER_TOKEN.",
)
@click.option(
    "--transport", type=click.Choice(["auto", "websocket", "poll", "push"]), default="auto", show_default=True,
    help="How to reach the hub; auto is a websocket, or polls where none gets through. With push the hub calls.",
)
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:6002", show_default=True, help="With push: where.")
@click.option(
    "--secret-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With push: a file that holds the secret of the hub's calls; otherwise WORKER_PUSH_SECRET.",
)
@click.option(
    "--drain-timeout", type=click.FloatRange(0), default=DRAIN_S, show_default=True, metavar="SECONDS",
    help="How long running jobs may take to end after the first Ctrl-C or SIGTERM; the second ends them.",
)
def main(
    url: str, name: str | None, slots: int, token_file: Path | None, transport: str, listen: str,
    secret_file: Path | None, drain_timeout: float,
) -> None:
    """Replace video backgrounds for the hub at URL until told to stop.

    Exits with 0 when it was told to stop, by a signal or by the hub, and with 2 when the hub does not want this worker.
    """
    token = read_secret(token_file, "WORKER_TOKEN")
    if not token:
        raise click.UsageError("there is no token: set WORKER_TOKEN or give --token-file")
    secret = read_secret(secret_file, "WORKER_PUSH_SECRET")
    way = pushed(url, token, secret, listen) if transport == "push" else transport
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    reference_worker(name, slots).run(url, token, transport=way, drain_s=drain_timeout)


def read_secret(file: Path | None, variable: str) -> str:
    """A secret from a file, or from the environment, where nobody finds it afterwards."""
    kept = os.environ.pop(variable, "")
    return (file.read_text() if file is not None else kept).strip()


def pushed(url: str, token: str, secret: str, listen: str) -> PushTransport:
    """The transport for a hub that calls."""
    host, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.UsageError("--listen takes HOST:PORT, such as 0.0.0.0:6002")
    try:
        return PushTransport(url, token, secret, host.strip("[]"), int(port))
    except ValueError as error:
        raise click.UsageError(f"set WORKER_PUSH_SECRET or give --secret-file: {error}") from None


if __name__ == "__main__":
    main()
