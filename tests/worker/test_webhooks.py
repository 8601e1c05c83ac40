"""Whom a called worker believes."""

from __future__ import annotations

from base64 import b64encode

import pytest

from hub.webhooks import signed_headers
from worker.webhooks import MOST_KEPT, TOLERANCE_S, Untrusted, Verifier

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
NOW = 1_700_000_000.0
BODY = b'{"session":null,"messages":[],"ack":0}'


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


def test_what_the_hub_signs_is_believed_once() -> None:
    verifier = Verifier(SECRET, Clock())
    assert verifier.check(signed_headers(SECRET, "a", NOW, BODY), BODY)
    assert not verifier.check(signed_headers(SECRET, "a", NOW + 5, BODY), BODY)
    assert verifier.check(signed_headers(SECRET, "b", NOW, BODY), BODY)


def test_one_good_signature_among_several_is_enough() -> None:
    headers = signed_headers(SECRET, "a", NOW, BODY)
    headers["webhook-signature"] = f"v1a,xyz v1,AAAA {headers['webhook-signature']} v2,"
    assert Verifier(SECRET, Clock()).check(headers, BODY)


@pytest.mark.parametrize("change", [
    {"webhook-id": "b"}, {"webhook-id": ""}, {"webhook-id": "x" * 201}, {"webhook-id": "\u00e4"},
    {"webhook-timestamp": str(int(NOW) + 1)}, {"webhook-timestamp": ""}, {"webhook-timestamp": "-1"},
    {"webhook-timestamp": "\u0661"}, {"webhook-timestamp": "1" * 40},
    {"webhook-signature": ""}, {"webhook-signature": "v1,"}, {"webhook-signature": "v1,AAAA"},
    {"webhook-signature": "v1"}, {"webhook-signature": "v1,\u00e4"},
])
def test_anything_else_is_not(change: dict[str, str]) -> None:
    headers = {**signed_headers(SECRET, "a", NOW, BODY), **change}
    with pytest.raises(Untrusted):
        Verifier(SECRET, Clock()).check(headers, BODY)


def test_another_body_another_secret_and_another_kind_of_signature_are_not_believed() -> None:
    headers = signed_headers(SECRET, "a", NOW, BODY)
    verifier = Verifier(SECRET, Clock())
    with pytest.raises(Untrusted, match="not the hub's"):
        verifier.check(headers, BODY + b" ")
    with pytest.raises(Untrusted, match="not the hub's"):
        verifier.check(signed_headers("whsec_" + b64encode(b"x" * 32).decode(), "a", NOW, BODY), BODY)
    with pytest.raises(Untrusted, match="not the hub's"):
        verifier.check({**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}, BODY)
    assert verifier.check(headers, BODY), "what was refused does not count as heard"


@pytest.mark.parametrize("seconds", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_a_call_from_another_time_is_not_believed(seconds: float) -> None:
    with pytest.raises(Untrusted, match="too old"):
        Verifier(SECRET, Clock()).check(signed_headers(SECRET, "a", NOW + seconds, BODY), BODY)


@pytest.mark.parametrize("seconds", [-TOLERANCE_S + 1, TOLERANCE_S - 1])
def test_clocks_may_differ_a_little(seconds: float) -> None:
    assert Verifier(SECRET, Clock()).check(signed_headers(SECRET, "a", NOW + seconds, BODY), BODY)


def test_ids_are_kept_for_as_long_as_their_calls_could_be_repeated_and_no_longer() -> None:
    clock = Clock()
    verifier = Verifier(SECRET, clock)
    ahead = signed_headers(SECRET, "a", NOW + TOLERANCE_S - 1, BODY)
    assert verifier.check(ahead, BODY)
    clock.time += 2 * TOLERANCE_S - 2
    assert not verifier.check(ahead, BODY)
    clock.time += 3
    assert verifier.check(signed_headers(SECRET, "b", clock.time, BODY), BODY)
    assert list(verifier.heard) == ["b"]


def test_only_so_many_ids_are_kept() -> None:
    verifier = Verifier(SECRET, Clock())
    verifier.heard.update((str(number), NOW) for number in range(MOST_KEPT + 5))
    assert verifier.check(signed_headers(SECRET, "a", NOW, BODY), BODY)
    assert len(verifier.heard) == MOST_KEPT + 1


@pytest.mark.parametrize("secret", [
    "", "whsec_", "whsec_short", "whsec_!!!!", "whsec_" + b64encode(b"k" * 65).decode(),
])
def test_what_is_no_secret_is_refused_at_once(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret is whsec_ and 24 to 64 bytes in base64"):
        Verifier(secret)
