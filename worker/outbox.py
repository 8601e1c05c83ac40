"""What was said to the hub and heard from it, by number, across any number of connections.

Owns the numbering of both directions and the messages that the hub has not acknowledged. Never touches a connection
and never decides what to say.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from hub.messages import Message, Progress, Renew, Status

SUPERSEDED = (Progress, Renew, Status)  # of these only the newest matters, for each lease and phase


class Outbox:
    """The conversation with one hub session.

    `said` and `heard` are the last numbers of the two directions; hello is number 1 and welcome answers it, so a
    fresh session goes on from there.
    """

    def __init__(self) -> None:
        self.said = 1
        self.heard = 0
        self.written = 1
        self.messages: deque[Message] = deque()

    def post(self, message: Message) -> None:
        """Number a message and keep it until it is acknowledged; it takes the place of one that says less."""
        if isinstance(message, SUPERSEDED):
            about = subject(message)
            self.messages = deque(kept for kept in self.messages if subject(kept) != about)
        self.said += 1
        self.messages.append(replace(message, n=self.said))

    def next(self) -> Message | None:
        """The next message to write, or None."""
        for message in self.messages:
            if message.n > self.written:
                self.written = message.n
                return replace(message, ack=self.heard)
        return None

    def hear(self, message: Message) -> bool:
        """Note that a message arrived; False if it is a repeat. Number 0 stands outside the numbering."""
        self.acknowledge(message.ack)
        if message.n == 0:
            return True
        if message.n <= self.heard:
            return False
        self.heard = message.n
        return True

    def acknowledge(self, number: int) -> None:
        """Forget what the hub has handled."""
        while self.messages and self.messages[0].n <= number:
            self.messages.popleft()

    def resume(self, welcome: Message) -> None:
        """The hub knows this session: what it has not handled is due again.

        A welcome may come before what was missed, and must not make that look like a repeat.
        """
        self.acknowledge(welcome.ack)
        self.written = welcome.ack
        if welcome.n == self.heard + 1:
            self.heard = welcome.n

    def restart(self, welcome: Message) -> None:
        """The hub has a new session: numbers start again, nothing that was said counts."""
        self.messages.clear()
        self.said = self.written = 1
        self.heard = welcome.n


def subject(message: Message) -> object:
    """What a message is about; of two about the same, the later one says it all."""
    match message:
        case Progress():
            return Progress, message.lease, message.phase
        case Renew():
            return Renew, message.lease
        case Status():
            return Status
        case _:
            return message.n
