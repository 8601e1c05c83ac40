"""Accounts: one spelling per e-mail address, passwords of a sane length, and a limit on guessing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.account import (
    Allowance, SignInLimiter, User, check_new_password, clean_name, email_key, network_of, new_user, public,
    with_password,
)
from hub.errors import Invalid, RateLimited

HOSTILE = ["a\0b", "a\r\nb", "a\nb", "a\u202eb", "a\u2066b", "a\u200fb", "a\u2028b", "a\x7fb", "a\ud800b", "x" * 10_000]


def user() -> User:
    return new_user("1", " Ann@Example.org ", "Ann", "user", "hash", 1_700_000_000.0)


def test_a_new_user_is_known_by_the_one_spelling_of_the_address() -> None:
    assert user() == User("1", "ann@example.org", "Ann", "user", "hash", 1_700_000_000.0)


def test_without_a_name_the_address_gives_one() -> None:
    assert new_user("1", "ann@example.org", "  ", "user", "hash", 0.0).name == "ann"


def test_what_is_shown_of_a_user_has_no_hash() -> None:
    assert public(user()) == {
        "id": "1", "email": "ann@example.org", "name": "Ann", "role": "user", "created_at": "2023-11-14T22:13:20.000Z",
    }


def test_another_password_ends_the_epoch_of_all_tokens() -> None:
    before = user()
    after = with_password(before, "other")
    assert (after.password_hash, after.token_epoch, after.version) == ("other", before.token_epoch + 1, 2)


@pytest.mark.parametrize("spelling", ["ann@example.org", "ANN@Example.ORG", "  ann@example.org\t", "Ann@EXAMPLE.org"])
def test_row_45_other_case_and_spaces_are_the_same_address(spelling: str) -> None:
    assert email_key(spelling) == "ann@example.org"


def test_composed_and_decomposed_letters_are_the_same_address() -> None:
    assert email_key("jose\u0301@example.org") == email_key("JOS\u00c9@example.org")


@pytest.mark.parametrize("text", [
    "", "@", "ann", "ann@", "@example.org", "a@b@c", "a b@example.org", "a@exam ple.org", "a\u00a0@b.org",
    "a\u200d@b.org", "é" * 130 + "@example.org", *(f"{text}@example.org" for text in HOSTILE),
])
def test_row_44_hostile_addresses_are_invalid(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        email_key(text)
    assert refusal.value.code == "invalid"
    assert [field.pointer for field in refusal.value.fields] == ["/email"]


def test_an_address_of_254_bytes_is_the_longest() -> None:
    longest = "a" * 242 + "@example.org"
    assert email_key(longest) == longest
    with pytest.raises(Invalid):
        email_key("a" + longest)


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_invalid_and_a_key_is_its_own_key(text: str) -> None:
    try:
        key = email_key(text + "@example.org")
    except Invalid:
        return
    assert email_key(key) == key
    assert len(key.encode()) <= 254


@pytest.mark.parametrize("text", HOSTILE)
def test_row_44_hostile_names_are_invalid(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        clean_name(text)
    assert (refusal.value.code, refusal.value.fields[0].pointer) == ("invalid", "/name")


@pytest.mark.parametrize("text", ["王小明", "José", "می\u200cخواهم", "👩\u200d👧", "O'Neil, Jr. <x>"])
def test_names_of_people_are_kept(text: str) -> None:
    assert clean_name(f" {text} ") == text


@pytest.mark.parametrize(("text", "code"), [
    ("", "password_too_short"), ("1234567", "password_too_short"), ("x" * 1025, "password_too_long"),
    ("é" * 513, "password_too_long"), ("x" * 1_000_000, "password_too_long"),
])
def test_row_43_passwords_too_short_or_too_long(text: str, code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_new_password(text)
    assert refusal.value.code == code
    assert refusal.value.fields[0].pointer == "/password"


@pytest.mark.parametrize("text", ["12345678", "密码密码密码密码", "x" * 1024, "é" * 37, "x" * 73, "a\0b" * 5])
def test_row_43_other_passwords_are_fine(text: str) -> None:
    check_new_password(text)


def tries_until_refused(limiter: SignInLimiter, emails: list[str], addresses: list[str], now: float = 0.0) -> int:
    for count, (email, address) in enumerate(zip(emails, addresses, strict=True)):
        try:
            limiter.admit(email, address, now)
        except RateLimited:
            return count
    return len(emails)


def test_row_47_sixty_wrong_passwords_are_stopped_with_a_time_to_come_back() -> None:
    limiter = SignInLimiter()
    assert tries_until_refused(limiter, ["ann"] * 60, ["192.0.2.1"] * 60) == 10
    with pytest.raises(RateLimited) as refusal:
        limiter.admit("ann", "192.0.2.1", 0.0)
    assert refusal.value.code == "rate_limited"
    wait = refusal.value.retry_after
    assert wait == 60.0
    limiter.admit("ann", "192.0.2.1", wait)


def test_row_48_changing_the_address_does_not_help_against_one_account() -> None:
    assert tries_until_refused(SignInLimiter(), ["ann"] * 60, [f"192.0.2.{at}" for at in range(60)]) == 10


def test_changing_the_account_does_not_help_one_address() -> None:
    assert tries_until_refused(SignInLimiter(), [f"user{at}" for at in range(60)], ["192.0.2.1"] * 60) == 50


def test_the_neighbour_of_a_forgetful_person_signs_in() -> None:
    limiter = SignInLimiter()
    assert tries_until_refused(limiter, ["ann"] * 60, ["192.0.2.1"] * 60) == 10
    limiter.admit("bob", "192.0.2.1", 0.0)


def test_the_accounts_owner_waits_like_the_guesser_but_only_for_the_next_attempt() -> None:
    limiter = SignInLimiter()
    assert tries_until_refused(limiter, ["ann"] * 60, ["192.0.2.1"] * 60) == 10
    with pytest.raises(RateLimited) as refusal:
        limiter.admit("ann", "198.51.100.7", 0.0)
    assert refusal.value.retry_after == 60.0


def test_good_sign_ins_do_not_count() -> None:
    limiter = SignInLimiter()
    for _ in range(500):
        limiter.admit("ann", "192.0.2.1", 0.0)
        limiter.succeeded("ann", "192.0.2.1", 0.0)
    assert len(limiter.emails) == len(limiter.addresses) == 0


def test_an_own_account_does_not_wash_an_address_clean() -> None:
    """A guesser who signs in to an own account between guesses gets back those sign-ins and no guess."""
    limiter = SignInLimiter()
    guesses = 0
    with pytest.raises(RateLimited):
        for guesses in range(100):
            limiter.admit("mallory", "192.0.2.1", 0.0)
            limiter.succeeded("mallory", "192.0.2.1", 0.0)
            limiter.admit(f"victim{guesses}", "192.0.2.1", 0.0)
    assert guesses == 50


def test_a_refused_attempt_costs_nothing() -> None:
    limiter = SignInLimiter()
    tries_until_refused(limiter, ["ann"] * 60, ["192.0.2.1"] * 60)
    for _ in range(1000):
        with pytest.raises(RateLimited):
            limiter.admit("ann", "192.0.2.1", 0.0)
    assert limiter.emails.wait("ann", 0.0) == 60.0


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("fe80::1%eth0", "fe80::/64"), ("", ""), ("no address", "no address"), ("x" * 5000, "x" * 64),
])
def test_an_ipv6_household_counts_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


def test_p14_the_memory_of_an_allowance_is_bounded_and_forgets_the_oldest() -> None:
    allowance = Allowance(attempts=1, interval=60.0, keys=100)
    for at in range(10_000):
        allowance.take(f"user{at}", float(at) / 1000)
    assert len(allowance) == 100
    assert allowance.wait("user9999", 10.0) > 0
    assert allowance.wait("user0", 10.0) == 0


@given(
    st.integers(1, 20), st.floats(0.1, 100), st.lists(st.floats(0, 50), max_size=120),
)
def test_never_more_than_the_allowance_and_what_grew_back(attempts: int, interval: float, pauses: list[float]) -> None:
    allowance, now, taken = Allowance(attempts, interval), 0.0, 0
    for pause in pauses:
        now += pause
        if allowance.wait("key", now) == 0:
            allowance.take("key", now)
            taken += 1
        assert taken <= attempts + now / interval + 1e-6


@given(st.integers(1, 20), st.floats(0.1, 100), st.integers(0, 30))
def test_the_wait_told_is_the_wait_it_takes(attempts: int, interval: float, extra: int) -> None:
    allowance = Allowance(attempts, interval)
    for _ in range(attempts + extra):
        allowance.take("key", 0.0)
    wait = allowance.wait("key", 0.0)
    assert wait == pytest.approx(interval * (extra + 1))
    assert allowance.wait("key", wait * (1 + 1e-9)) == pytest.approx(0, abs=1e-6)
