"""Accounts and tokens: registering, signing in and out, and rows 40 to 60 of the bad inputs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from hub.account import SignInLimiter, User
from hub.ids import new_id
from hub.links import derived_key
from store.passwords import Passwords
from store.tokens import ISSUER
from tests.handlers.running import SECRET, Answer, Api, Person, Place, fine, one_loop, refused, running_hub

pytestmark = one_loop
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def forgetful(api: Api) -> None:
    """Nobody pays for the wrong passwords of the test before."""
    api.hub.rooms.limiter = SignInLimiter()


async def register(api: Api, password: str = PASSWORD, **fields: Any) -> tuple[str, Answer]:
    email = fields.pop("email", f"{new_id()}@test.example")
    return email, await api("POST", "/api/auth/register", json_body={"email": email, "password": password, **fields})


async def login(api: Api, email: Any, password: Any, **headers: str) -> Answer:
    return await api("POST", "/api/auth/login", json_body={"email": email, "password": password}, headers=headers)


# --- what works -------------------------------------------------------------------------------------------------


async def test_register_login_me_and_logout(api: Api) -> None:
    email, answer = await register(api, name="Zoë 王")
    made = fine(answer, 201)
    assert made["user"].keys() == {"id", "email", "name", "role", "created_at"}
    assert (made["user"]["email"], made["user"]["name"], made["user"]["role"]) == (email, "Zoë 王", "user")
    assert answer.headers["cache-control"] == "no-store"
    signed_in = fine(await login(api, f" {email.upper()} ", PASSWORD))
    assert signed_in["user"] == made["user"] and signed_in["expires_at"].endswith("Z")
    token = signed_in["token"]
    assert fine(await api("GET", "/api/auth/me", token=token)) == {"user": made["user"]}
    fine(await api("POST", "/api/auth/logout", b"", token=token), 204)
    refused(await api("GET", "/api/auth/me", token=token), 401, "unauthorized")
    refused(await api("POST", "/api/auth/logout", b"", token=token), 401, "unauthorized")
    assert fine(await api("GET", "/api/auth/me", token=made["token"]))["user"] == made["user"]


async def test_a_new_password_ends_every_session_but_the_answer_s(api: Api) -> None:
    email, answer = await register(api)
    old = fine(answer, 201)["token"]
    assert fine(await api("GET", "/api/auth/me", token=old))
    change = {"password": "wrong password", "new_password": "another horse"}
    refused(await api("POST", "/api/auth/password", json_body=change, token=old), 401, "bad_credentials")
    change["password"] = PASSWORD
    new = fine(await api("POST", "/api/auth/password", json_body=change, token=old))["token"]
    refused(await api("GET", "/api/auth/me", token=old), 401, "unauthorized")
    assert fine(await api("GET", "/api/auth/me", token=new))
    refused(await login(api, email, PASSWORD), 401, "bad_credentials")
    assert fine(await login(api, email, "another horse"))


async def test_what_is_kept_of_a_password_is_a_hash(api: Api) -> None:
    email, _ = await register(api)
    user = await api.hub.rooms.store.find(User, email=email)
    assert user is not None and PASSWORD not in repr(user) and user.password_hash.startswith("hmac-sha256:$2b$")


async def test_p13_the_loop_stays_free_while_passwords_are_judged(api: Api) -> None:
    """P13: with real bcrypt under way, others are answered at once."""
    fast, api.hub.rooms.passwords = api.hub.rooms.passwords, Passwords(cost=12)
    try:
        judging = [asyncio.ensure_future(login(api, f"{n}@nobody.test", "x" * 12)) for n in range(4)]
        await asyncio.sleep(0)
        slowest = 0.0
        while not all(each.done() for each in judging):
            since = time.perf_counter()
            await asyncio.sleep(0.005)
            slowest = max(slowest, time.perf_counter() - since - 0.005)
        assert {(await each).status for each in judging} == {401}
        assert slowest < 0.2  # one hash alone takes longer
    finally:
        api.hub.rooms.passwords.close()
        api.hub.rooms.passwords = fast


# --- accounts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["email", "password"])
@pytest.mark.parametrize("value", [{"$ne": None}, {"$regex": ".*"}, {"$where": "1"}, ["x"], None, 1, True])
async def test_row_40_operators_instead_of_text_are_invalid(api: Api, field: str, value: Any) -> None:
    given = {"email": "a@b.test", "password": "x" * 10, field: value}
    for path in ("/api/auth/login", "/api/auth/register"):
        async with api.unchanged():
            problem = refused(await api("POST", path, json_body=given), 422, "invalid")
        assert problem["errors"][0]["pointer"] == f"/{field}"


async def test_row_42_a_wrong_password_and_an_unknown_user_look_the_same(api: Api) -> None:
    email, _ = await register(api)
    wrong = refused(await login(api, email, "w" * 73), 401, "bad_credentials")
    unknown = refused(await login(api, f"{new_id()}@test.example", "w" * 73), 401, "bad_credentials")
    nonsense = refused(await login(api, "no address", PASSWORD), 401, "bad_credentials")
    differs = {"request_id"}
    for other in (unknown, nonsense):
        assert {k: v for k, v in wrong.items() if k not in differs} == {
            k: v for k, v in other.items() if k not in differs
        }


@pytest.mark.parametrize("password", ["p" * 73, "é" * 37, "密" * 340])
async def test_row_43_every_byte_of_a_long_password_counts(api: Api, password: str) -> None:
    email, answer = await register(api, password)
    fine(answer, 201)
    refused(await login(api, email, password.encode()[:72].decode(errors="ignore")), 401, "bad_credentials")
    fine(await login(api, email, password))


async def test_row_43_a_password_over_1024_bytes_or_under_8_letters_is_422(api: Api) -> None:
    async with api.unchanged():
        for password in ("x" * 1025, "é" * 513):
            refused((await register(api, password))[1], 422, "password_too_long")
        refused((await register(api, "seven77"))[1], 422, "password_too_short")


@pytest.mark.parametrize("bad", [
    "a\x00@b.test", "a\r\nBcc: x@b.test", "\u202ea@b.test", "a" * 10_000 + "@b.test", "a", "@b",
])
async def test_row_44_strange_addresses_are_invalid(api: Api, bad: str) -> None:
    async with api.unchanged():
        problem = refused((await register(api, email=bad))[1], 422, "invalid")
    assert problem["errors"][0]["pointer"] == "/email"


@pytest.mark.parametrize("bad", ["a\x00b", "a\r\nb", "\u202eadmin", "n" * 10_000])
async def test_row_44_strange_names_are_invalid(api: Api, bad: str) -> None:
    async with api.unchanged():
        problem = refused((await register(api, name=bad))[1], 422, "invalid")
    assert problem["errors"][0]["pointer"] == "/name"


async def test_row_45_an_address_is_taken_once_however_it_is_written(api: Api) -> None:
    email, _ = await register(api)
    async with api.unchanged():
        for same in (email, email.upper(), f"  {email} "):
            problem = refused((await register(api, email=same))[1], 409, "taken")
            assert [(field["pointer"], field["code"]) for field in problem["errors"]] == [("/email", "taken")]


async def test_row_45_of_two_at_once_one_gets_the_address(api: Api) -> None:
    email = f"{new_id()}@test.example"
    answers = await asyncio.gather(*(register(api, email=email) for _ in range(5)))
    assert sorted(answer.status for _, answer in answers) == [201, 409, 409, 409, 409]


async def test_row_46_nobody_makes_himself_an_admin(api: Api) -> None:
    async with api.unchanged():
        problem = refused((await register(api, role="admin"))[1], 422, "invalid")
    assert "role" in problem["detail"]


async def test_row_47_and_48_guessing_is_slowed_down_whatever_address_is_claimed(api: Api) -> None:
    email, _ = await register(api)
    codes = []
    for number in range(15):
        claimed = f"10.0.0.{number}"
        answer = await login(api, email, "wrong password", **{"X-Real-IP": claimed, "X-Forwarded-For": claimed})
        codes.append(answer.json["code"])
    assert codes == ["bad_credentials"] * 10 + ["rate_limited"] * 5
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    refused(await login(api, email, PASSWORD), 429, "rate_limited")
    other, _ = await register(api)
    fine(await login(api, other, PASSWORD))


async def test_row_50_a_password_of_1_mb_is_413_without_hashing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(*_: object) -> None:
        raise AssertionError("bcrypt was asked")

    monkeypatch.setattr(api.hub.rooms.passwords, "matches", hashed)
    refused(await login(api, "a@b.test", "x" * 1_000_000), 413, "too_large")


async def test_behind_trusted_proxies_each_client_has_its_own_attempts(place: Place) -> None:
    async def attempts(forwarded: str, count: int) -> list[str]:
        tries = [(f"{new_id()}@test.example", {"X-Forwarded-For": forwarded}) for _ in range(count)]
        return [(await login(proxied, email, "wrong", **headers)).json["code"] for email, headers in tries]

    async with running_hub(place, TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8") as hub:
        proxied = Api(hub, place.folder)
        assert (await attempts("1.2.3.4, 10.0.0.1", 51))[-1] == "rate_limited"
        assert await attempts("9.9.9.9, 1.2.3.4", 1) == ["rate_limited"]  # a client's own claim is not believed
        assert await attempts("5.6.7.8, 10.0.0.1", 1) == ["bad_credentials"]
        proxied.close()


# --- tokens -----------------------------------------------------------------------------------------------------


def claims(person: Person, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {"iss": ISSUER, "sub": person.user.id, "jti": new_id(), "iat": now, "exp": now + 3600, "epoch": 0, **changes}
    return {name: value for name, value in said.items() if value is not ...}


def signed(payload: Any, key: bytes | None = None, **header: Any) -> str:
    """A token signed with the hub's own key, unless told otherwise."""
    key = derived_key(SECRET.encode(), "session") if key is None else key
    return jwt.encode(payload, key, "HS256", header or None)


def by_hand(
    header: Any, payload: Any, key: bytes = derived_key(SECRET.encode(), "session"), hash: Any = hashlib.sha256
) -> str:
    """A token from raw JSON texts or values, correctly signed."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    proof = base64.urlsafe_b64encode(hmac.digest(key, text, hash)).rstrip(b"=")
    return (text + b"." + proof).decode()


def forgeries(person: Person) -> dict[str, str]:
    good, header = claims(person), {"alg": "HS256", "typ": "JWT"}
    body = person.token.rsplit(".", 1)[0]
    return {
        "51-none": by_hand({"alg": "none", "typ": "JWT"}, good),
        "51-None": by_hand({"alg": "None", "typ": "JWT"}, good),
        "51-NONE": by_hand({"alg": "NONE", "typ": "JWT"}, good),
        "51-nOnE-unsigned": by_hand({"alg": "nOnE", "typ": "JWT"}, good).rsplit(".", 1)[0] + ".",
        "52-stripped": body + ".", "52-missing": body, "52-changed": body + "." + "A" * 43,
        "53-secret-itself": signed(good, SECRET.encode()), "53-guess": signed(good, b"secret" * 6),
        "53-empty": by_hand(header, good, b""),
        "54-hs512": by_hand({"alg": "HS512", "typ": "JWT"}, good, hash=hashlib.sha512),
        "54-rs256-header": by_hand({"alg": "RS256", "typ": "JWT"}, good),
        "55-no-exp": signed(claims(person, exp=...)), "55-exp-text": by_hand(header, claims(person, exp="2099")),
        "55-expired": signed(claims(person, exp=int(time.time()) - 1)),
        "55-exp-far": by_hand(header, claims(person, exp=1 << 62)),
        "55-sub-object": by_hand(header, claims(person, sub={"$ne": None})),
        "55-sub-unknown": signed(claims(person, sub=new_id())), "55-extra": signed(claims(person, role="admin")),
        "55-other-issuer": signed(claims(person, iss="somebody")), "55-old-epoch": signed(claims(person, epoch=7)),
        "56-kid": signed(good, kid="../../dev/null"), "56-jku": signed(good, jku="http://127.0.0.1:9/keys"),
        "56-crit": by_hand({**header, "crit": ["x"], "x": 1}, good), "56-b64": by_hand({**header, "b64": False}, good),
        "57-junk": "A" * 60_000, "57-dots": "." * 60_000,
        "57-deep-header": by_hand(b"[" * 30_000, good), "57-deep-payload": by_hand(header, b'{"a":' * 1000),
        "59-surrogate": by_hand(header, b'{"sub": "\\ud800"}'), "59-not-utf8": by_hand(header, b"\xff\xfe"),
        "empty": "", "space": " ", "word": "token", "not-ascii": "tökén.a.b",
    }


async def test_rows_51_to_59_no_forged_token_opens_anything(api: Api) -> None:
    person = await api.user()
    assert fine(await api("GET", "/api/auth/me", token=signed(claims(person))))  # the recipe itself is right
    for name, token in forgeries(person).items():
        since = time.perf_counter()
        answer = await api("GET", "/api/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert time.perf_counter() - since < 0.3, name
        assert answer.status == 401, name
        refused(answer, 401, "unauthorized")
    for scheme in ("Basic", "Token", ""):
        answer = await api("GET", "/api/auth/me", headers={"Authorization": f"{scheme} {person.token}"})
        refused(answer, 401, "unauthorized")
    assert fine(await api("GET", "/api/auth/me", headers={"Authorization": f"bearer  {person.token}"}))


async def test_row_58_a_token_in_the_query_opens_nothing(api: Api) -> None:
    person = await api.user()
    for name in ("token", "access_token", "Authorization"):
        refused(await api("GET", f"/api/auth/me?{name}={person.token}"), 401, "unauthorized")


async def test_row_60_a_worker_s_token_is_no_user_s(api: Api) -> None:
    _, token = await api.interface()
    refused(await api("GET", "/api/auth/me", token=token), 403, "forbidden")


async def test_a_deleted_user_s_token_is_void(api: Api) -> None:
    person = await api.user()
    await api.hub.rooms.store.database["users"].delete_one({"_id": person.user.id})  # type: ignore[attr-defined]
    refused(await person("GET", "/api/auth/me"), 401, "unauthorized")
