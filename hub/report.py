"""What workers report of the ends of their attempts, in the hub's terms.

Owns when two reports are the same one, and which failure codes a worker can say. Decides nothing about tasks.
"""

from __future__ import annotations

from .messages import Artifact, Failed, Result
from .task import LOST, QUARANTINED, STALLED

HUBS_OWN = frozenset({LOST, STALLED, QUARANTINED})  # failure codes that no worker can say

Report = tuple[Artifact, ...] | str  # what a worker said of an end: its files, or its failure's code


def report_of(message: Result | Failed) -> Report:
    """What makes a report of an end the same report when it is sent again."""
    return tuple(message.artifacts) if isinstance(message, Result) else message.code


def code_of(message: Failed) -> str:
    """A failure's code in one line; the words by which the hub tells what it found itself are not a worker's to say."""
    code = "".join(sign if sign.isprintable() else "_" for sign in message.code)
    return "worker_error" if code in HUBS_OWN else code
