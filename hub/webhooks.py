"""How a pushed request proves that it comes from the hub (Standard Webhooks 1.0.0, symmetric scheme v1).

Owns the secret that one interface service shares with the hub, and the signature made with it. Never keeps a secret: it
is derived from the hub's own each time, so nothing of it is stored.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

from .interface import Interface
from .links import derived_key

PREFIX = "whsec_"


def push_secret(hub_secret: bytes, interface: Interface) -> str:
    """What an interface service checks the hub's requests with; another token makes another secret."""
    key = derived_key(hub_secret, f"push {interface.id}{interface.token_hash}")
    return PREFIX + b64encode(key).decode()


def signed_headers(secret: str, id: str, now_wall: float, body: bytes) -> dict[str, str]:
    """The headers of one attempt to deliver `body`: `id` stays the same when the attempt is repeated."""
    timestamp = str(int(now_wall))
    key = b64decode(secret.removeprefix(PREFIX))
    signature = b64encode(hmac.digest(key, f"{id}.{timestamp}.".encode() + body, "sha256")).decode()
    return {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
