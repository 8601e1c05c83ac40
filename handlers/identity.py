"""Who is asking: from a Bearer token to a user or a registered interface service.

Keeps answers for a few seconds so that a busy page does not ask the database with each request.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hub.account import Revocation, User
from hub.errors import Forbidden, Unauthorized
from hub.interface import Interface, hash_token
from hub.ports import Claims, Clock, Store, Tokens

KEPT_S, KEPT = 3.0, 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """Whose token it is and what it says, believed `until` (seconds) without asking again."""

    user: User
    claims: Claims
    until: float


class Identities:
    """Recognises tokens. A revoked token is refused at once here, and within seconds by other hubs."""

    def __init__(self, store: Store, tokens: Tokens, clock: Clock) -> None:
        self.store = store
        self.tokens = tokens
        self.clock = clock
        self.known: OrderedDict[str, Known] = OrderedDict()
        self.changes = 0  # how often something was to be forgotten

    async def user(self, token: str) -> User:
        """The user that a token stands for; raises like `session`."""
        user, _ = await self.session(token)
        return user

    async def session(self, token: str) -> tuple[User, Claims]:
        """The user that a token stands for, and what it says.

        Raises:
            Unauthorized: no token, or one that is expired, revoked, forged or of a deleted user.
            Forbidden: an interface service's token.
        """
        if token and "." not in token:
            if await self.store.find(Interface, token_hash=hash_token(token)) is not None:
                raise Forbidden("an interface service's token does not sign a user in")
        kept, now = self.known.get(token), self.clock.now()
        if kept is not None and kept.until > now and kept.claims.exp > self.clock.wall():
            return kept.user, kept.claims
        claims, changes = self.tokens.read(token, self.clock.wall()), self.changes
        user = await self.store.get(User, claims.sub)
        if user is None or user.disabled or user.token_epoch != claims.epoch:
            raise Unauthorized("this token is not valid any more")
        if await self.store.get(Revocation, claims.jti) is not None:
            raise Unauthorized("you have signed out")
        if changes == self.changes:  # else the answers may be from before that
            self.known[token] = Known(user, claims, now + KEPT_S)
        if len(self.known) > KEPT:
            self.known.popitem(last=False)
        return user, claims

    def forget(self, jti: str) -> None:
        """Ask the store next time."""
        self.changes += 1
        for token in [token for token, kept in self.known.items() if kept.claims.jti == jti]:
            del self.known[token]

    def forget_user(self, user_id: str) -> None:
        """Ask the store next time, whichever token it is."""
        self.changes += 1
        for token in [token for token, kept in self.known.items() if kept.user.id == user_id]:
            del self.known[token]

    async def interface(self, token: str) -> Interface:
        """The registered interface service that a token stands for.

        Raises:
            Unauthorized: no token or an unknown one.
            Forbidden: a user's token, or a service that an admin has disabled.
        """
        if token.count(".") == 2:
            self.tokens.read(token, self.clock.wall())
            raise Forbidden("a user's token does not open a worker session")
        found = await self.store.find(Interface, token_hash=hash_token(token)) if token else None
        if found is None:
            raise Unauthorized("this is no interface service's token")
        if not found.enabled:
            raise Forbidden("an admin has disabled this interface service")
        return found
