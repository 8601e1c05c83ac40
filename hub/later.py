"""A part of an event that is put together when somebody reads it first: mostly nobody does.

Owns the waiting: what is needed to make the part is kept, then what was made. Never knows what it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from .messages import encoder


class Later(Struct, gc=False, eq=False):
    """Something whose JSON is made once, by `make`, for all events that it is in.

    `make` gives the same whenever it is called: it has records and numbers of the moment in which this was made, and
    looks nothing up. `size` is about how many bytes it holds.
    """

    make: Callable[[], Any] | None
    size: int
    made: Raw = Raw()

    def read(self) -> Raw:
        """Its JSON."""
        if self.make is not None:
            self.made, self.make = Raw(encoder.encode(self.make())), None
        return self.made
