"""The fixtures of the edges' tests."""

from tests.handlers.running import api, hub, place

__all__ = ["api", "hub", "place"]
