"""What is kept about a token, and when it is not believed any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from handlers.identity import Identities
from hub.account import Revocation, User, with_access
from hub.clock import SystemClock
from hub.effects import Save
from hub.errors import Unauthorized
from hub.ids import new_id
from store.memory import MemoryStore
from store.tokens import Tokens


class SlowStore(MemoryStore):
    """Answers one question of a kind as things stood when it was asked, but only when it is let go."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__()
        self.kind = kind
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def get(self, kind: type[Any], id: str) -> Any:
        found = await super().get(kind, id)
        if kind is self.kind:
            self.asked.set()
            await self.let_go.wait()
        return found


@pytest.mark.parametrize(("kind", "signed_out"), [(Revocation, True), (Revocation, False), (User, False)])
async def test_p16_an_answer_from_before_a_sign_out_is_not_kept(kind: type[Any], signed_out: bool) -> None:
    store, clock = SlowStore(kind), SystemClock()
    tokens = Tokens(b"k" * 64, 3600)
    identities = Identities(store, tokens, clock)
    user = User(new_id(), "a@example.org", "Ann", "user", "hash", clock.wall())
    await store.commit([Save(user, 0)])
    token, jti, expires = tokens.issue(user, clock.wall())
    asking = asyncio.create_task(identities.session(token))
    await store.asked.wait()
    if signed_out:
        await store.commit([Save(Revocation(jti, expires), 0)])
        identities.forget(jti)
    else:
        await store.commit([Save(with_access(user, "user", True, 1), 1)])
        identities.forget_user(user.id)
    store.let_go.set()
    await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(Unauthorized):
        await identities.session(token)
