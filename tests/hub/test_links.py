"""Links and job tokens: only what the hub signed, only for that object, only in its time."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hub.errors import Forbidden, Unauthorized
from hub.links import Links, canonical, derived_key

SECRET = b"a secret of the hub for its tests"
links = Links(SECRET, "https://hub.example.org/")
PATH = "/videos/0190-1"


def taken_apart(url: str) -> tuple[str, str, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return split.path, query["expires"][0], query["signature"][0]


def test_a_link_is_absolute_and_opens_its_path_until_it_expires() -> None:
    url = links.sign(PATH, 1000)
    assert url.startswith("https://hub.example.org/videos/0190-1?expires=1000&signature=")
    links.verify(*taken_apart(url), now=999.9)


def test_a_link_has_expired_at_its_second() -> None:
    with pytest.raises(Forbidden) as refusal:
        links.verify(*taken_apart(links.sign(PATH, 1000)), now=1000)
    assert refusal.value.code == "link_expired"


@pytest.mark.parametrize("change", [
    lambda path, expires, signature: (path + "0", expires, signature),
    lambda path, expires, signature: (path.replace("/videos/", "/videos%2F"), expires, signature),
    lambda path, expires, signature: (path + "/../0190-2", expires, signature),
    lambda path, expires, signature: (path + "\ud800", expires, signature),
    lambda path, expires, signature: (path, "1001", signature),
    lambda path, expires, signature: (path, "+1000", signature),
    lambda path, expires, signature: (path, " 1000", signature),
    lambda path, expires, signature: (path, "٣٣٣٣", signature),
    lambda path, expires, signature: (path, "9" * 5000, signature),
    lambda path, expires, signature: (path, "", signature),
    lambda path, expires, signature: (path, expires, ""),
    lambda path, expires, signature: (path, expires, signature + "="),
    lambda path, expires, signature: (path, expires, signature[:-1]),
    lambda path, expires, signature: (path, expires, "é\ud800"),
    lambda path, expires, signature: (path, expires, links.job_token(f"{expires}\n{path}").rpartition(".")[2]),
    lambda path, expires, signature: (path, expires, taken_apart(Links(b"other", "").sign(path, int(expires)))[2]),
])
def test_p16_a_link_is_invalid_for_anything_else(change: Callable[[str, str, str], tuple[str, str, str]]) -> None:
    with pytest.raises(Forbidden) as refusal:
        links.verify(*change(*taken_apart(links.sign(PATH, 1000))), now=1)
    assert refusal.value.code == "link_invalid"


def test_an_expired_link_that_was_never_signed_is_invalid_not_expired() -> None:
    with pytest.raises(Forbidden) as refusal:
        links.verify(PATH, "1", "x" * 43, now=1000)
    assert refusal.value.code == "link_invalid"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.integers(0, 10**12 - 1))
def test_any_name_survives_the_way_through_a_url(name: str, expires_at: int) -> None:
    encoded = quote(name, safe="")
    links.verify(*taken_apart(links.sign(f"/videos/1/{encoded}", expires_at)), now=expires_at - 1)
    assert canonical(canonical(f"/{encoded}")) == canonical(f"/{encoded}") == f"/{encoded}"


def test_a_proxy_may_spell_the_percent_encoding_differently() -> None:
    _, expires, signature = taken_apart(links.sign("/videos/1/视频.mp4", 1000))
    for spelling in ("/videos/1/视频.mp4", "/videos/1/%E8%A7%86%E9%A2%91.mp4", "/videos/1/%e8%a7%86%e9%a2%91%2Emp4"):
        links.verify(spelling, expires, signature, now=1)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_two_paths_share_a_signature_unless_they_are_the_same(one: str, other: str) -> None:
    assume(canonical(f"/{one}") != canonical(f"/{other}"))
    assert links.sign(f"/{one}", 5) != links.sign(f"/{other}", 5)


@pytest.mark.parametrize("lease_id", ["0190a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", "a.b", "x"])
def test_a_job_token_speaks_for_its_lease(lease_id: str) -> None:
    assert links.lease_of(links.job_token(lease_id)) == lease_id


@pytest.mark.parametrize("token", [
    "", ".", "lease", "lease.", ".x", "lease." + "x" * 43, "\ud800.x", "lease\0." + "x" * 43, "é.x", "x" * 100_000,
    links.job_token("lease") + "=", links.job_token("lease")[:-1], "other" + links.job_token("lease")[5:],
    links.job_token("").removeprefix("x"), Links(b"other", "").job_token("lease"),
])
def test_p16_other_job_tokens_are_refused(token: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        links.lease_of(token)
    assert refusal.value.code == "job_token_invalid"


@given(st.text(max_size=300))
def test_no_text_breaks_the_reading_of_job_tokens(token: str) -> None:
    with pytest.raises(Unauthorized):
        links.lease_of(token)


@given(st.text(max_size=100), st.text(max_size=20), st.text(max_size=60))
def test_no_text_breaks_the_reading_of_links(path: str, expires: str, signature: str) -> None:
    with pytest.raises(Forbidden):
        links.verify(path, expires, signature, now=1)


def test_each_use_has_its_own_key() -> None:
    keys = {derived_key(SECRET, use) for use in ("link", "job token", "session")}
    assert len(keys | {SECRET}) == 4
    assert {len(key) for key in keys} == {32}
