"""Users' tokens: JSON web tokens signed with HS256 (RFC 7519, RFC 8725).

Owns what a token says and which ones are believed. Whether its user exists, has changed the password or has signed
out is for whoever reads it to ask: `Claims` holds what is needed.
"""

from __future__ import annotations

from typing import Annotated

import jwt
import msgspec
from jwt.types import Options
from msgspec import Meta

from hub.account import User
from hub.errors import Unauthorized
from hub.ids import new_id
from hub.links import derived_key

ALGORITHM = "HS256"
HEADER = {"alg": ALGORITHM, "typ": "JWT"}
ISSUER = "video-segmentation-hub"
LONGEST = 2048  # characters; ours have about 350, and what is longer is refused before anybody parses it
UNCHECKED: Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[!-~]+\Z")]
Seconds = Annotated[int, Meta(ge=0, le=1 << 40)]


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token says: its user `sub`, its own id `jti`, `iat` and `exp` in seconds since 1970, the token `epoch`."""

    iss: str
    sub: Id
    jti: Id
    iat: Seconds
    exp: Seconds
    epoch: Annotated[int, Meta(ge=0, le=1 << 53)]


class Tokens:
    """Issues and reads tokens; `secret` is the hub's, `lifetime` seconds. The wall clock is given, never read."""

    def __init__(self, secret: bytes, lifetime: int) -> None:
        self.lifetime = lifetime
        self._key = derived_key(secret, "session")

    def issue(self, user: User, now_wall: float) -> tuple[str, str, int]:
        """A token for `user`, its id (jti) and when it ends (epoch seconds)."""
        issued_at = int(now_wall)
        jti, expires_at = new_id(int(now_wall * 1000)), issued_at + self.lifetime
        claims = Claims(ISSUER, user.id, jti, issued_at, expires_at, user.token_epoch)
        return jwt.encode(msgspec.to_builtins(claims), self._key, ALGORITHM, HEADER), jti, expires_at

    def read(self, token: str, now_wall: float) -> Claims:
        """What a token says, if this hub issued it and it has not ended.

        Raises:
            Unauthorized: anything else, whatever is wrong with it.
        """
        if len(token) > LONGEST or not token.isascii():
            raise Unauthorized("the token is not one of the hub's")
        try:
            decoded = jwt.decode_complete(token, self._key, [ALGORITHM], options=UNCHECKED)
            claims = msgspec.convert(decoded["payload"], Claims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, RecursionError):
            raise Unauthorized("the token is not one of the hub's") from None
        if decoded["header"] != HEADER or claims.iss != ISSUER:
            raise Unauthorized("the token is not one of the hub's")
        if claims.exp <= now_wall:
            raise Unauthorized("the token has ended; sign in again")
        return claims
