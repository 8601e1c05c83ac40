"""Is it really the hub that calls? Standard Webhooks 1.0.0, symmetric scheme v1, as the receiver.

Owns the check of a call's signature, its age, and whether the same call was heard before. Never reads a body.
"""

from __future__ import annotations

import binascii
import hmac
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping

PREFIX = "whsec_"
LEAST_KEY, MOST_KEY = 24, 64  # bytes
TOLERANCE_S = 300.0  # how far the two clocks may be apart
MOST_KEPT = 10_000


class Untrusted(Exception):
    """This call does not come from the hub, or not now; the text says why and shows nothing of it."""


class Verifier:
    """Knows the secret that the hub showed when this service was registered ("whsec_..." in base64).

    Raises:
        ValueError: this is no such secret.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        try:
            key = b64decode(secret.strip().removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not LEAST_KEY <= len(key) <= MOST_KEY:
            raise ValueError(f"a secret is {PREFIX} and {LEAST_KEY} to {MOST_KEY} bytes in base64")
        self.key = key
        self.clock = clock
        self.heard: OrderedDict[str, float] = OrderedDict()

    def check(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this call is new; False for one that was heard before. `headers` are asked for in lower case.

        Raises:
            Untrusted: there is no valid signature, or it was made too long ago or ahead of time.
        """
        id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not id or len(id) > 200 or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
            raise Untrusted("the call is not signed")
        try:
            signed = f"{id}.{timestamp}.".encode("ascii") + body
        except UnicodeEncodeError:
            raise Untrusted("the call is not signed") from None
        expected = b64encode(hmac.digest(self.key, signed, "sha256"))
        given = [each.partition(",") for each in headers.get("webhook-signature", "").split()[:10]]
        if not any(kind == "v1" and hmac.compare_digest(expected, value.encode()) for kind, _, value in given):
            raise Untrusted("the signature is not the hub's")
        now = self.clock()
        if abs(now - int(timestamp)) > TOLERANCE_S:
            raise Untrusted("the call is too old, or the clocks differ")
        while self.heard and (len(self.heard) > MOST_KEPT or next(iter(self.heard.values())) < now - 2 * TOLERANCE_S):
            self.heard.popitem(last=False)
        if id in self.heard:
            return False
        self.heard[id] = now
        return True
