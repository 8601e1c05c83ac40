"""Passwords as bcrypt hashes, made away from the event loop.

Owns the hash format. Decides nothing: whether a password may be chosen, and how often it may be tried, is hub/account.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from hub.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

SCHEME = "hmac-sha256:"  # says what bcrypt was given, so that a later scheme can tell its hashes apart


class Passwords:
    """Hashes and compares passwords with `threads` threads.

    `cost` is bcrypt's (2^cost rounds, 12 takes about 0.3 s); at most `waiting` requests are under way at once.
    """

    def __init__(self, cost: int = 12, threads: int = 2, waiting: int = 64) -> None:
        self.cost = cost
        self.waiting = waiting
        self._under_way = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")

    async def hash(self, password: str) -> str:
        """The text to keep instead of the password.

        Raises:
            Unavailable: too many are waiting.
        """
        return await self._away(lambda: SCHEME + bcrypt.hashpw(prehash(password), bcrypt.gensalt(self.cost)).decode())

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether `stored` was made from `password`.

        Without a stored hash (an unknown user), or with a spoilt one, the answer is no, after the same time.

        Raises:
            Unavailable: too many are waiting.
        """
        return await self._away(lambda: self._compare(password, stored))

    def close(self) -> None:
        """Let go of the threads; what waits is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _compare(self, password: str, stored: str | None) -> bool:
        key = prehash(password)
        if stored is not None:
            try:
                if not stored.startswith(SCHEME):
                    raise ValueError("unknown scheme")
                return bcrypt.checkpw(key, stored.removeprefix(SCHEME).encode())
            except ValueError:
                log.error("a stored password hash is malformed, its user cannot sign in")
        bcrypt.hashpw(key, bcrypt.gensalt(self.cost))
        return False

    async def _away(self, work: Callable[[], T]) -> T:
        if self._under_way >= self.waiting:
            raise Unavailable("too many sign-ins at once")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._under_way -= 1


def prehash(password: str) -> bytes:
    """44 ASCII bytes for any password, because bcrypt takes 72 without NUL.

    Keyed, so that bare SHA-256 digests leaked elsewhere are no passwords here; NFC, because keyboards differ in how
    they compose an accented letter (RFC 8265 section 4.2.2).
    """
    text = unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
    return b64encode(hmac.digest(b"video-segmentation-hub password", text, "sha256"))
