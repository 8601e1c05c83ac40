"""The table of codes: every error has a status and words in both languages, and readers get theirs."""

from __future__ import annotations

import pytest

from handlers.problems import CODE_STATUS, WORDS, problem, speaks_chinese, status_of
from hub import errors
from hub.errors import HubError, Invalid

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HubError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_a_status_and_words(kind: type[HubError]) -> None:
    error = kind()
    assert 400 <= status_of(error) <= 599
    assert (status_of(error) == 500) == (kind is HubError)
    english, chinese = WORDS[error.code]
    assert english.isascii() and not chinese.isascii()


def test_codes_with_a_status_of_their_own_have_words() -> None:
    assert CODE_STATUS.keys() <= WORDS.keys()


@pytest.mark.parametrize(("header", "chinese"), [
    ("", False), ("en", False), ("zh", True), ("zh-CN", True), ("zh-Hans-CN;q=0.9, en;q=0.8", True),
    ("en-GB, zh;q=0.9", False), ("de, fr", False), ("zh;q=0", False), ("ZH-tw", True), ("zh;q=x", False),
    ("zh;q=1e9", False), ("zh;q=" + "9" * 5000, True), ("," * 5000 + "zh", False), ("*", False), ("zh;q=.", False),
])
def test_the_language_is_the_reader_s(header: str, chinese: bool) -> None:
    assert speaks_chinese(header) is chinese


def test_a_problem_without_detail_or_words_is_still_a_sentence() -> None:
    told = problem(Invalid(code="brand_new"), "/x", "id", chinese=True)
    assert (told["title"], told["detail"], told["status"]) == ("brand_new", "Brand new", 422)
