"""The fixtures of the edges' tests."""

from tests.handlers.running import api, fast, hub, place

__all__ = ["api", "fast", "hub", "place"]
