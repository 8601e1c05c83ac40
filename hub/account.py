"""Who a user is, and how often somebody may try to sign in as one.

Owns the user record, the rules for e-mail addresses, names and new passwords, and the sign-in limit. Never sees a
password longer than it takes to check its length: hashing is store/passwords, tokens are store/tokens.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from .clock import rfc3339
from .errors import FieldError, Invalid, RateLimited

Role = Literal["user", "admin"]

EMAIL_BYTES = 254  # what fits between the angle brackets of an SMTP path (RFC 5321 section 4.5.3.1.3)
NAME_LENGTH = 100
PASSWORD_LENGTH = 8
PASSWORD_BYTES = 1024
MOST_WEIGHT = 100
CONTROLS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
JOINERS = "\u200c\u200d"  # Persian and Indic words and emoji families need them


class User(Struct, frozen=True):
    """One account.

    `email` is the key that `email_key` makes, unique among users; `created_at` is seconds since the epoch; tokens
    carry the `token_epoch` they were issued in, so raising it ends them all. A `disabled` user cannot sign in. Beside
    others who wait, one of twice the `weight` (1..100) gets twice as much of the workers' time.
    """

    id: str
    email: str
    name: str
    role: Role
    password_hash: str
    created_at: float
    token_epoch: int = 0
    disabled: bool = False
    weight: int = 1
    version: int = 1


class Revocation(Struct, frozen=True):
    """A token that was signed out: `id` is its jti; after `expires_at` (seconds since the epoch) it is moot."""

    id: str
    expires_at: float
    version: int = 1


def new_user(id: str, email: str, name: str, role: Role, password_hash: str, now: float) -> User:
    """An account as it is created; without a name it is called by the first half of its e-mail address.

    Raises:
        Invalid: the e-mail address or the name is none.
    """
    key = email_key(email)
    return User(id, key, clean_name(name) or key.partition("@")[0][:NAME_LENGTH], role, password_hash, now)


def with_password(user: User, password_hash: str) -> User:
    """The user with another password; all tokens issued before are void."""
    return replace(
        user, password_hash=password_hash, token_epoch=user.token_epoch + 1, version=user.version + 1,
    )


def with_access(user: User, role: Role, disabled: bool, weight: int) -> User:
    """The user with another role or weight, or shut out or let in again; who is shut out is signed out everywhere.

    A weight counts for what is ordered from now on.

    Raises:
        Invalid: the weight is not from 1 to 100.
    """
    if not 1 <= weight <= MOST_WEIGHT:
        raise refused("/weight", "invalid", f"a weight is from 1 to {MOST_WEIGHT}")
    epoch = user.token_epoch + (disabled and not user.disabled)
    return replace(
        user, role=role, disabled=disabled, weight=weight, token_epoch=epoch, version=user.version + 1,
    )


def public(user: User) -> dict[str, Any]:
    """What may be shown of a user."""
    return {
        "id": user.id, "email": user.email, "name": user.name, "role": user.role,
        "created_at": rfc3339(user.created_at),
    }


def email_key(text: str) -> str:
    """The one spelling of an e-mail address: trimmed, case folded, NFC.

    Raises:
        Invalid: no local part, @ and domain; over 254 bytes; or spaces, control or direction characters inside.
    """
    key = unicodedata.normalize("NFC", text[: 4 * EMAIL_BYTES].strip(" \t").casefold())
    local, _, domain = key.partition("@")
    strange = any(unprintable(character) or character.isspace() for character in key)
    if not local or not domain or "@" in domain or strange:
        raise refused("/email", "invalid_email", "this is not an e-mail address")
    if len(key.encode()) > EMAIL_BYTES or len(text) > 4 * EMAIL_BYTES:
        raise refused("/email", "too_long", f"an e-mail address has at most {EMAIL_BYTES} bytes")
    return key


def clean_name(text: str) -> str:
    """A display name, trimmed and in NFC; may be empty.

    Raises:
        Invalid: over 100 characters, or control or direction characters inside.
    """
    if len(text) > 4 * NAME_LENGTH:
        raise refused("/name", "too_long", f"a name has at most {NAME_LENGTH} characters")
    name = unicodedata.normalize("NFC", text.strip(" \t"))
    if any(unprintable(character) and character not in JOINERS for character in name):
        raise refused("/name", "invalid_name", "a name has neither control nor direction characters")
    if len(name) > NAME_LENGTH:
        raise refused("/name", "too_long", f"a name has at most {NAME_LENGTH} characters")
    return name


def check_new_password(text: str) -> None:
    """Let a password pass that somebody wants to have.

    Raises:
        Invalid: code password_too_short (under 8 characters) or password_too_long (over 1,024 bytes in UTF-8).
    """
    if len(text.encode(errors="surrogatepass")) > PASSWORD_BYTES:
        raise refused("/password", "password_too_long", f"a password has at most {PASSWORD_BYTES} bytes")
    if len(text) < PASSWORD_LENGTH:
        raise refused("/password", "password_too_short", f"a password has at least {PASSWORD_LENGTH} characters")


def unprintable(character: str) -> bool:
    """Whether a character is a control, formatting (direction), surrogate, private or line-separating one."""
    return unicodedata.category(character) in CONTROLS


def refused(pointer: str, code: str, detail: str) -> Invalid:
    """One bad field as an error; passwords name their own code, all else is plain `invalid`."""
    outer = code if code.startswith("password") else Invalid.code
    return Invalid(detail, code=outer, fields=(FieldError(pointer, code, detail),))


class Allowance:
    """So many attempts at once for each key, growing back one every `interval` seconds.

    Keeps one number for a key: when its whole allowance will be back (the generic cell rate algorithm). At most
    `keys` of them: the ones not seen for longest are forgotten first.
    """

    def __init__(self, attempts: int, interval: float, keys: int = 20_000) -> None:
        self.attempts = attempts
        self.interval = interval
        self.keys = keys
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def wait(self, key: str, now: float) -> float:
        """Seconds until `key` has an attempt left; 0 if it has one now."""
        owed = self._whole_at.get(key, now) - now
        return max(0.0, owed - (self.attempts - 1) * self.interval)

    def take(self, key: str, now: float) -> None:
        """Use one attempt up."""
        self._whole_at[key] = max(self._whole_at.get(key, now), now) + self.interval
        self._whole_at.move_to_end(key)
        if len(self._whole_at) > self.keys:
            self._whole_at.popitem(last=False)

    def give_back(self, key: str, now: float) -> None:
        """Undo one `take`."""
        whole_at = self._whole_at.pop(key, now) - self.interval
        if whole_at > now:
            self._whole_at[key] = whole_at


class SignInLimiter:
    """How often a sign-in may fail, for each e-mail address and for each network address.

    An account has 10 attempts and gets one back a minute, wherever they come from; a network address has 50 and gets
    one back every 6 s, so that one forgetful person does not lock out a whole office. An attempt counts from its
    start, so many at once are not a way around, and is given back if it succeeds. `now` is seconds of a clock that
    never jumps; e-mail is an `email_key`, address as text ("" if unknown).
    """

    def __init__(self, emails: Allowance | None = None, addresses: Allowance | None = None) -> None:
        self.emails = emails or Allowance(10, 60.0)
        self.addresses = addresses or Allowance(50, 6.0)

    def admit(self, email: str, address: str, now: float) -> None:
        """Count an attempt before its password is looked at.

        Raises:
            RateLimited: too many failed; `retry_after` says when the next one may be tried. Nothing was counted.
        """
        network = network_of(address)
        wait = max(self.emails.wait(email, now), self.addresses.wait(network, now))
        if wait > 0:
            raise RateLimited("too many failed sign-ins", retry_after=wait)
        self.emails.take(email, now)
        self.addresses.take(network, now)

    def succeeded(self, email: str, address: str, now: float) -> None:
        """The attempt was good (or could not be judged): it does not count."""
        self.emails.give_back(email, now)
        self.addresses.give_back(network_of(address), now)


def network_of(address: str) -> str:
    """What one household or server has: an IPv4 address, or the /64 around an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
        parsed = parsed.ipv4_mapped
    return str(parsed)
