"""The front-end's files: the page itself and what it loads."""

from __future__ import annotations

from pathlib import Path

from tornado.web import HTTPError, StaticFileHandler

from .answers import Answering

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Page(Answering, StaticFileHandler):
    """A file of static/. The files are small and are checked with each load, so a new version is seen at once."""

    def prepare(self) -> None:
        if "\x00" in self.path_args[0]:
            raise HTTPError(400)

    def compute_etag(self) -> str | None:
        return StaticFileHandler.compute_etag(self)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-cache")


def routes(folder: Path) -> list[tuple[str, type[Page], dict[str, str]]]:
    """The page at /, its parts under their folders' names."""
    names = "|".join(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    return [
        (r"/()", Page, {"path": str(folder), "default_filename": "index.html"}),
        (rf"/((?:{names})/.+|index\.html|favicon\.svg)", Page, {"path": str(folder)}),
    ]
