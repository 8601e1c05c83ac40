"""Bytes in, bytes out: HTTP and websocket edges that decide nothing."""
