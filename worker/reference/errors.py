"""The two ways in which this package itself says no; everything else that it raises may be tried again."""

from __future__ import annotations


class BadInput(Exception):
    """The input can never be processed, here or elsewhere: `code` is stable, `detail` is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Stopped(Exception):
    """The caller's `should_stop` said yes."""
