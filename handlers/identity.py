"""Who is asking: from a Bearer token to a user or a registered interface service.

Keeps answers for a few seconds so that a busy page does not ask the database with each request.
"""

from __future__ import annotations

from collections import OrderedDict

from hub.account import Revocation, User
from hub.errors import Forbidden, Unauthorized
from hub.interface import Interface, hash_token
from hub.ports import Claims, Clock, Store, Tokens

KEPT_S, KEPT = 3.0, 10_000


class Identities:
    """Recognises tokens. A revoked token is refused at once here, and within seconds by other hubs."""

    def __init__(self, store: Store, tokens: Tokens, clock: Clock) -> None:
        self.store = store
        self.tokens = tokens
        self.clock = clock
        self.known: OrderedDict[str, tuple[float, User]] = OrderedDict()

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
        claims = self.tokens.read(token, self.clock.wall())
        now = self.clock.now()
        kept = self.known.get(claims.jti)
        if kept is not None and kept[0] > now:
            return kept[1], claims
        user = await self.store.get(User, claims.sub)
        if user is None or user.disabled or user.token_epoch != claims.epoch:
            raise Unauthorized("this token is not valid any more")
        if await self.store.get(Revocation, claims.jti) is not None:
            raise Unauthorized("you have signed out")
        self.known[claims.jti] = (now + KEPT_S, user)
        if len(self.known) > KEPT:
            self.known.popitem(last=False)
        return user, claims

    def forget(self, jti: str) -> None:
        """Ask the store next time."""
        self.known.pop(jti, None)

    def forget_user(self, user_id: str) -> None:
        """Ask the store next time, whichever token it is."""
        for jti in [jti for jti, (_, user) in self.known.items() if user.id == user_id]:
            del self.known[jti]

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
