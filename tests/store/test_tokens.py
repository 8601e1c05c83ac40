"""Users' tokens: one algorithm, one header, known claims, and 401 for everything else (rows 51 to 59)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.account import User, with_password
from hub.errors import Unauthorized
from hub.links import Links, derived_key
from store.tokens import HEADER, ISSUER, LONGEST, Claims, Tokens

SECRET = b"a secret of the hub for its tests"
KEY = derived_key(SECRET, "session")
NOW = 1_700_000_000.5
LIFETIME = 3600
USER = User("0190a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", "ann@example.org", "Ann", "user", "hash", 0.0, token_epoch=4)
tokens = Tokens(SECRET, LIFETIME)
GOOD = {"iss": ISSUER, "sub": USER.id, "jti": "j", "iat": int(NOW), "exp": int(NOW) + LIFETIME, "epoch": 4}


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Any = HEADER, claims: Any = GOOD, key: bytes = KEY, digest: str = "sha256") -> str:
    """A token with a right signature over whatever is asked for, as only the holder of `key` can make."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims))
    signed = ".".join(b64(part) for part in parts)
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), digest))}"


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != claim}


def test_a_token_says_who_when_and_in_which_epoch() -> None:
    token, jti, expires_at = tokens.issue(USER, NOW)
    assert expires_at == 1_700_003_600
    assert tokens.read(token, NOW) == Claims(ISSUER, USER.id, jti, 1_700_000_000, expires_at, 4)
    assert len(token) < LONGEST


def test_the_forge_of_these_tests_makes_good_tokens() -> None:
    assert tokens.read(forged(), NOW).sub == USER.id


def test_every_token_has_its_own_id() -> None:
    assert len({tokens.issue(USER, NOW)[1] for _ in range(100)}) == 100


def test_row_20_a_token_ends_by_the_wall_clock_alone() -> None:
    token, _, expires_at = tokens.issue(USER, NOW)
    tokens.read(token, expires_at - 0.1)
    tokens.read(token, NOW - 3600)
    for late in (expires_at, NOW + 10 * 365 * 86400):
        with pytest.raises(Unauthorized) as refusal:
            tokens.read(token, late)
        assert refusal.value.code == "unauthorized"


def test_a_token_from_before_a_password_change_shows_its_age() -> None:
    token, _, _ = tokens.issue(USER, NOW)
    assert tokens.read(token, NOW).epoch != with_password(USER, "other").token_epoch


NO_ALGORITHMS = ("none", "None", "NONE", "nOnE", "", None, ["HS256"])
SIGNED, SIGNATURE = tokens.issue(USER, NOW)[0].rsplit(".", 1)
BAD_TOKENS = {
    **{f"51 alg {alg!r}": forged({"alg": alg, "typ": "JWT"}) for alg in NO_ALGORITHMS},
    "51 alg none unsigned": forged({"alg": "none", "typ": "JWT"}).rsplit(".", 1)[0] + ".",
    "51 no alg": forged({"typ": "JWT"}),
    "52 stripped signature": SIGNED + ".",
    "52 two parts": SIGNED,
    "52 cut signature": f"{SIGNED}.{SIGNATURE[:-2]}",
    "52 junk in signature": f"{SIGNED}.!!{SIGNATURE}",
    **{f"53 key {key!r}": forged(key=key) for key in (b"", b"secret", b"change-me", b"\0" * 32, SECRET)},
    "53 key of links": forged(key=derived_key(SECRET, "link")),
    "54 HS512": forged({"alg": "HS512", "typ": "JWT"}, digest="sha512"),
    "54 HS384": forged({"alg": "HS384", "typ": "JWT"}, digest="sha384"),
    "54 RS256": forged({"alg": "RS256", "typ": "JWT"}),
    "54 other typ": forged({"alg": "HS256", "typ": "at+jwt"}),
    **{f"55 no {claim}": forged(claims=without(claim)) for claim in GOOD},
    **{
        f"55 {claim} {value!r}"[:60]: forged(claims={**GOOD, claim: value})
        for claim, values in dict[str, list[Any]]({
            "exp": ["2000000000", "soon", None, True, -1, 1e300, float("nan"), float("inf"), 2**63, [], {}],
            "iat": ["2000000000", None, -1, 10**40],
            "sub": [{"$ne": None}, ["x"], 7, None, "", "a b", "\ud800", "x" * 65, "a\0"],
            "jti": [{}, 7, "", "\udfff"],
            "epoch": ["4", -1, None, 1.5],
            "iss": ["other", None, {}, [ISSUER]],
        }).items()
        for value in values
    },
    "55 unknown claim": forged(claims={**GOOD, "role": "admin"}),
    "55 nbf": forged(claims={**GOOD, "nbf": "soon"}),
    "56 kid path": forged({**HEADER, "kid": "../../dev/null"}),
    "56 kid object": forged({**HEADER, "kid": {}}),
    "56 jku": forged({**HEADER, "jku": "http://127.0.0.1:9/keys"}),
    "56 jwk": forged({**HEADER, "jwk": {"kty": "oct", "k": "AA"}}),
    "56 crit": forged({**HEADER, "crit": ["exp"]}),
    "56 crit empty": forged({**HEADER, "crit": []}),
    "56 b64": forged({**HEADER, "b64": False, "crit": ["b64"]}),
    "56 b64 true": forged({**HEADER, "b64": True}),
    "57 junk": "x" * 60_000,
    "57 dots": "." * 60_000,
    "57 long": forged(claims={**GOOD, "pad": "x" * 60_000}),
    "57 padded": forged(claims=json.dumps(GOOD).encode() + b" " * LONGEST),
    "57 deep header": forged(b"[" * 700),
    "57 deep alg": forged(b'{"alg":' + b"[" * 600),
    "57 deep claims": forged(claims=b'{"a":' * 200),
    "59 surrogate": "\ud800",
    "59 surrogate in signature": f"{SIGNED}.\udfff",
    "59 surrogate in alg": forged(b'{"alg":"\\ud800","typ":"JWT"}'),
    "59 surrogate as name": forged(claims=b'{"\\ud800":1}'),
    "59 not UTF-8": forged(claims=b'"\xff"'),
    "not ASCII": SIGNED + ".é",
    "empty": "",
    "spaces": "   ",
    "claims a list": forged(claims=[]),
    "claims a number of many digits": forged(claims=b"9" * 1000),
    "header a text": forged(b'"HS256"'),
    "a job token": Links(SECRET, "").job_token("lease"),
    "a link's signature": f"{SIGNED}.{Links(SECRET, '').sign('/' + SIGNED, 1).rpartition('=')[2]}",
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=list(BAD_TOKENS))
def test_p16_rows_51_to_59_every_other_token_is_unauthorized(token: str) -> None:
    start = time.perf_counter()
    with pytest.raises(Unauthorized) as refusal:
        tokens.read(token, NOW)
    assert time.perf_counter() - start < 0.3
    assert refusal.value.code == "unauthorized"
    assert refusal.value.__cause__ is None


@given(st.text(max_size=400))
def test_no_text_breaks_the_reading(text: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.read(text, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, *HEADER, "kid"]), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_no_signed_json_breaks_the_reading(header: Any, claims: Any) -> None:
    for token in (forged(header, GOOD), forged(HEADER, claims), forged(header, claims)):
        with pytest.raises(Unauthorized):
            tokens.read(token, NOW)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(at: int, byte: int) -> None:
    good = tokens.issue(USER, NOW)[0]
    at %= len(good)
    changed = good[:at] + chr(byte) + good[at + 1:]
    if changed != good:
        with pytest.raises(Unauthorized):
            tokens.read(changed, NOW)


def test_an_admin_of_another_hub_is_nobody_here() -> None:
    other = Tokens(hashlib.sha256(b"other").digest(), LIFETIME)
    with pytest.raises(Unauthorized):
        tokens.read(other.issue(USER, NOW)[0], NOW)


def test_the_library_reads_what_the_hub_issues() -> None:
    token, jti, _ = Tokens(SECRET, 10**9).issue(USER, NOW)
    assert jwt.decode(token, KEY, ["HS256"], issuer=ISSUER)["jti"] == jti
    assert jwt.get_unverified_header(token) == HEADER
