"""Password hashes: nothing is cut off, nothing spoilt raises, and the loop stays free."""

from __future__ import annotations

import asyncio
import logging
import time
import unicodedata
from collections.abc import Iterator

import bcrypt
import pytest

from hub.errors import Unavailable
from store.passwords import SCHEME, Passwords, prehash


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    made = Passwords(cost=4)
    yield made
    made.close()


async def test_a_password_matches_its_own_hash_only(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.matches("correct horse", stored)
    assert not await passwords.matches("Correct horse", stored)
    assert not await passwords.matches("", stored)


async def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert await passwords.hash("correct horse") != await passwords.hash("correct horse")


@pytest.mark.parametrize("password", ["x" * 73, "é" * 37, "密" * 341, "x" * 1024, "a\0b" * 30, "\0", "a\ud800b"])
async def test_rows_42_and_43_no_byte_is_cut_off_and_none_raises(passwords: Passwords, password: str) -> None:
    stored = await passwords.hash(password)
    assert await passwords.matches(password, stored)
    start = password.encode(errors="surrogatepass")[:72].decode(errors="ignore")
    if start != password:
        assert not await passwords.matches(start, stored)
    assert not await passwords.matches(password + "x", stored)
    assert not await passwords.matches(password[:-1], stored)


async def test_keyboards_may_compose_letters_differently(passwords: Passwords) -> None:
    stored = await passwords.hash(unicodedata.normalize("NFC", "motörhead é"))
    assert await passwords.matches(unicodedata.normalize("NFD", "motörhead é"), stored)


def test_what_bcrypt_gets_is_short_and_without_nul() -> None:
    for password in ("", "\0", "x" * 5000):
        assert len(prehash(password)) == 44
        assert b"\0" not in prehash(password)


async def test_the_cost_is_in_the_hash() -> None:
    passwords = Passwords(cost=5)
    assert (await passwords.hash("correct horse")).startswith(f"{SCHEME}$2b$05$")
    passwords.close()


@pytest.mark.parametrize("stored", [
    "", "x", SCHEME, SCHEME + "$2b$04$", SCHEME + "\0", SCHEME + "é", "$2b$04$" + "a" * 53,
    SCHEME + "$2b$99$" + "a" * 53, SCHEME + "$9z$04$" + "a" * 53,
])
async def test_row_42_a_spoilt_hash_lets_nobody_in_and_is_reported(
    passwords: Passwords, stored: str, caplog: pytest.LogCaptureFixture,
) -> None:
    assert not await passwords.matches("correct horse", stored)
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "store.passwords")
    assert "correct horse" not in caplog.text
    caplog.clear()


async def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    passwords = Passwords(cost=8)
    stored = await passwords.hash("correct horse")

    async def seconds(hash: str | None) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assert not await passwords.matches("wrong horse", hash)
            times.append(time.perf_counter() - start)
        return min(times)

    known, unknown = await seconds(stored), await seconds(None)
    assert 0.5 < unknown / known < 2
    passwords.close()


async def test_p13_the_loop_turns_while_passwords_are_hashed() -> None:
    passwords = Passwords(cost=10)
    hashing = asyncio.gather(*(passwords.hash("correct horse") for _ in range(4)))
    turns = 0
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100
    assert len(await hashing) == 4
    passwords.close()


async def test_p13_the_queue_is_bounded_and_empties_again() -> None:
    passwords = Passwords(cost=4, waiting=3)
    answers = await asyncio.gather(*(passwords.hash("correct horse") for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, str, str, Unavailable, Unavailable]
    assert await passwords.hash("correct horse")
    passwords.close()


async def test_a_hash_by_bcrypt_alone_is_of_another_scheme(
    passwords: Passwords, caplog: pytest.LogCaptureFixture,
) -> None:
    plain = bcrypt.hashpw(prehash("correct horse"), bcrypt.gensalt(4)).decode()
    assert not await passwords.matches("correct horse", plain)
    assert "malformed" in caplog.text
    caplog.clear()
