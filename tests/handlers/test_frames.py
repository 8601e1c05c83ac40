"""Websocket frames, beside what RFC 6455 says of them."""

from __future__ import annotations

import pytest

from handlers.frames import encoded


def test_the_example_of_the_rfc() -> None:
    """Section 5.7, an unmasked text message."""
    assert encoded(b"Hello") == bytes((0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F))


@pytest.mark.parametrize(("size", "head"), [
    (0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65535, b"\x81\x7e\xff\xff"),
    (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
])
def test_a_length_takes_as_few_bytes_as_it_can(size: int, head: bytes) -> None:
    """Section 5.2."""
    frame = encoded(b"x" * size)
    assert frame[:len(head)] == head and frame[len(head):] == b"x" * size
