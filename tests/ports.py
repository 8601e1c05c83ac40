"""Ports for servers that tests start, and start again."""

from __future__ import annotations

import random
import socket

BELOW_THE_SYSTEM_S = range(20_000, 32_000)  # from 32768 on the system gives ports to whoever calls out


def free_port() -> int:
    """A port that nobody listens on now, and that no connection of anybody gets while its server is down."""
    for port in random.sample(BELOW_THE_SYSTEM_S, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
