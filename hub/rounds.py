"""Rounds: whoever follows a topic with news is visited, and takes at that visit all that is new.

Owns when viewers are told: not with each event but once in a turn of the loop, so that what gathers meanwhile leaves
together, and in slices, so that a crowd does not keep others waiting. Knows no loop: `later` is one's call_soon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .subscriber import Subscriber
    from .topics import Topic

SLICE = 1000  # viewers visited in one turn


class Rounds:
    """Topics with news, and who has still to be visited; without `later` everybody is visited at once."""

    def __init__(self) -> None:
        self.later: Callable[[Callable[[], None]], object] | None = None
        self.news: dict[Topic, None] = {}
        self.waiting: list[Subscriber] = []
        self.under_way = False

    def announce(self, topic: Topic) -> None:
        """A topic that is followed has news."""
        self.news[topic] = None
        if self.later is None:
            while self.go_on():
                pass
        elif not self.under_way:
            self.under_way = True
            self.later(self.turn)

    def turn(self) -> None:
        """One turn of the loop."""
        self.under_way = True
        try:
            more = self.go_on()
        except BaseException:
            self.under_way = False
            raise
        if more and self.later is not None:
            self.later(self.turn)
        else:
            self.under_way = False

    def go_on(self) -> bool:
        """Visit some of those who wait, or begin the next round; whether there is more to do."""
        if not self.waiting:
            topics, self.news = self.news, {}
            for topic in topics:
                topic.piece = None
                self.waiting.extend(topic.followers)
        visited, self.waiting = self.waiting[-SLICE:], self.waiting[:-SLICE]
        for subscriber in visited:
            subscriber.news()
        return bool(self.waiting or self.news)
