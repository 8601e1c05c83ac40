"""Every way in which work or a connection ends badly, as this side of the wire sees it.

    AttemptFailed    this attempt is over; the hub is told `code` and `detail`, and whether another may do better
    └── BadInput     the input is to blame: nobody else should try
    LeaseGone        the task is not this worker's any more: drop it, report nothing
    Stopped          raised inside a task function when its work is not wanted any more
    Lost             the connection is gone, come back
    └── NoWebSocket  something on the way to the hub lets no websocket through
    Refused          the hub does not want this worker: a bad token, or a close code from 4400 to 4499

Owns the tree; never logs and never decides what follows.
"""

from __future__ import annotations


class AttemptFailed(Exception):
    """One attempt at a task ended without a result: `code` is stable, `detail` is for people, and may be any object."""

    retryable = True
    usual_code = "worker_error"

    def __init__(self, code: str = "", detail: object = "") -> None:
        self.code = str(code) or self.usual_code
        self.detail = str(detail)
        super().__init__(f"{self.code}: {self.detail}" if self.detail else self.code)


class BadInput(AttemptFailed):
    """The input can never be processed, here or elsewhere."""

    retryable = False
    usual_code = "bad_input"


class LeaseGone(Exception):
    """The hub says that this task's links are not valid any more."""


class Stopped(Exception):
    """The work is not wanted any more: it was cancelled, or another worker has it."""


class Lost(Exception):
    """There is no connection now; the text says why."""


class NoWebSocket(Lost):
    """There was an answer, or silence, but no websocket; another transport may get through."""


class Refused(Exception):
    """The hub does not want this worker, and coming back will not change that; the text says why."""
