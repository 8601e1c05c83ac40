"""Accounts: register, login, logout, me, password."""

from __future__ import annotations

from typing import Any

from hub import account
from hub.account import Revocation, User
from hub.clock import rfc3339
from hub.effects import Save
from hub.errors import Conflict, FieldError, Forbidden, Invalid, Unauthorized, Unavailable
from hub.ids import new_id

from . import door
from .base import Endpoint
from .bodies import Form

MAX_FORM = 16 * 1024


class RegisterForm(Form):
    email: str
    password: str
    name: str = ""


class LoginForm(Form):
    email: str
    password: str


class PasswordForm(Form):
    password: str
    new_password: str


class AuthEndpoint(Endpoint):
    """What the account endpoints share."""

    access = "anyone"
    max_body = MAX_FORM

    def signed_in(self, user: User) -> dict[str, Any]:
        """The answer to whoever has just proved who they are."""
        token, _, expires_at = self.rooms.tokens.issue(user, self.rooms.clock.wall())
        return {"user": account.public(user), "token": token, "expires_at": rfc3339(expires_at)}

    def client_address(self) -> str:
        return door.client_address(self.request, self.rooms.settings)

    async def judge(self, email: str, password: str) -> User:
        """The user with this e-mail address and password.

        Raises:
            Unauthorized: code bad_credentials, for an unknown user too.
            Forbidden: code account_disabled.
            RateLimited: too many tries failed.
        """
        limiter, now, address = self.rooms.limiter, self.rooms.clock.now(), self.client_address()
        limiter.admit(email, address, now)
        try:
            user = await self.rooms.store.find(User, email=email)
            right = await self.rooms.passwords.matches(password, user.password_hash if user else None)
        except Unavailable:
            limiter.succeeded(email, address, now)  # nobody judged it, so it does not count
            raise
        if user is None or not right:
            raise Unauthorized("e-mail or password is wrong", code="bad_credentials")
        limiter.succeeded(email, address, now)
        if user.disabled:
            raise Forbidden("an admin has disabled this account", code="account_disabled")
        return user


class Register(AuthEndpoint):
    async def post(self) -> None:
        form = self.form(RegisterForm)
        email = account.email_key(form.email)
        account.check_new_password(form.password)
        self.rooms.runner.check_ready()
        taken = Conflict("this e-mail address is already registered", code="taken", fields=(
            FieldError("/email", "taken", "somebody has registered with it"),
        ))
        if await self.rooms.store.find(User, email=email) is not None:
            raise taken
        password_hash = await self.rooms.passwords.hash(form.password)
        user = account.new_user(new_id(), email, form.name, "user", password_hash, self.rooms.clock.wall())
        try:
            await self.rooms.runner.carry_out([Save(user, 0)])
        except Conflict:
            raise taken from None
        self.answer(self.signed_in(user), 201)


class Login(AuthEndpoint):
    async def post(self) -> None:
        form = self.form(LoginForm)
        try:
            email = account.email_key(form.email)
        except Invalid:
            raise Unauthorized("e-mail or password is wrong", code="bad_credentials") from None
        self.answer(self.signed_in(await self.judge(email, form.password)))


class Logout(Endpoint):
    async def post(self) -> None:
        claims = self.rooms.tokens.read(self.bearer(), self.rooms.clock.wall())
        try:
            await self.rooms.runner.carry_out([Save(Revocation(claims.jti, claims.exp), 0)])
        except Conflict:
            pass  # signed out before: that is what was asked for
        self.rooms.identities.forget(claims.jti)
        self.rooms.audience.sign_out(self.user.id, claims.jti)
        self.set_status(204)


class Me(Endpoint):
    async def get(self) -> None:
        self.answer({"user": account.public(self.user)})


class Password(AuthEndpoint):
    """Change one's own password; every token issued before is void."""

    access = "user"

    async def post(self) -> None:
        form = self.form(PasswordForm)
        account.check_new_password(form.new_password)
        user = await self.judge(self.user.email, form.password)
        after = account.with_password(user, await self.rooms.passwords.hash(form.new_password))
        await self.rooms.runner.carry_out([Save(after, user.version)])
        self.rooms.identities.forget_user(user.id)
        self.rooms.audience.sign_out(user.id)
        self.answer(self.signed_in(after))


ROUTES = [
    (r"/api/auth/register", Register),
    (r"/api/auth/login", Login),
    (r"/api/auth/logout", Logout),
    (r"/api/auth/me", Me),
    (r"/api/auth/password", Password),
]
