"""Proofs that the hub itself wrote a link or a job token.

Owns the keys derived from the hub's secret and the two signed texts. Knows neither users nor files: what a proven
path or lease allows is decided by those who ask.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from urllib.parse import quote, unquote_to_bytes

from .errors import Forbidden, Unauthorized

EXPIRES = re.compile(r"[0-9]{1,12}", re.ASCII)
LONGEST_TOKEN = 256


def derived_key(secret: bytes, use: str) -> bytes:
    """32 bytes for one use out of the one secret, so that a proof for one use says nothing for another (RFC 5869)."""
    root = hmac.digest(b"video-segmentation-hub", secret, "sha256")
    return hmac.digest(root, use.encode() + b"\x01", "sha256")


class Links:
    """Signs and verifies links to one object and tokens for one lease; `base_url` is where the hub is reached."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._link_key = derived_key(secret, "link")
        self._job_key = derived_key(secret, "job token")

    def sign(self, path: str, expires_at: int) -> str:
        """The absolute URL that opens `path` (from "/", percent-encoded or plain) until `expires_at`, epoch seconds."""
        path = canonical(path)
        signature = mac(self._link_key, f"{expires_at}\n{path}")
        return f"{self.base_url}{path}?expires={expires_at}&signature={signature}"

    def verify(self, path: str, expires: str, signature: str, now: float) -> None:
        """Let a request for `path` pass whose query held `expires` and `signature`; `now` is epoch seconds.

        Raises:
            Forbidden: code link_invalid (not written by the hub for this path) or link_expired.
        """
        if not EXPIRES.fullmatch(expires):
            raise Forbidden("the link is not one of the hub's", code="link_invalid")
        try:
            expected = mac(self._link_key, f"{int(expires)}\n{canonical(path)}")
        except UnicodeEncodeError:
            raise Forbidden("the link is not one of the hub's", code="link_invalid") from None
        if not same(expected, signature):
            raise Forbidden("the link is not one of the hub's", code="link_invalid")
        if now >= int(expires):
            raise Forbidden("the link has expired; ask for a new one", code="link_expired")

    def job_token(self, lease_id: str) -> str:
        """A token that speaks for one lease; whether the lease still lives is the task's to say."""
        return f"{lease_id}.{mac(self._job_key, lease_id)}"

    def lease_of(self, token: str) -> str:
        """The lease that a job token speaks for.

        Raises:
            Unauthorized: code job_token_invalid: the hub did not write this token.
        """
        lease_id, _, proof = token.rpartition(".") if len(token) <= LONGEST_TOKEN and token.isascii() else ("", "", "")
        if not lease_id or not same(mac(self._job_key, lease_id), proof):
            raise Unauthorized("the job token is not one of the hub's", code="job_token_invalid")
        return lease_id


def canonical(path: str) -> str:
    """One spelling of a path's percent-encoding; an encoded slash stays encoded (RFC 3986 section 6.2.2)."""
    return "/".join(quote(unquote_to_bytes(part), safe="") for part in path.split("/"))


def mac(key: bytes, text: str) -> str:
    """HMAC-SHA-256 of `text` in base64url without padding, 43 characters."""
    return urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).rstrip(b"=").decode()


def same(expected: str, given: str) -> bool:
    """Compare in a time that says nothing about where they differ."""
    return hmac.compare_digest(expected.encode(), given.encode(errors="surrogatepass"))
