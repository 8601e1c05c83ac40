"""The older dialect's words: what services answer, report and are called."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import HubError, Invalid
from hub.interface import NAME
from hub.messages import Model
from hub.seed import (
    Refused, Said, another_name, model_of, name_of, percent_of, read_callback, read_entries, read_reply, read_said,
)

FORM = "application/x-www-form-urlencoded"
REPORT = {"taskId": "7", "workerUrl": "http://gpu", "status": "PROCESSING"}


def test_a_service_takes_a_task_and_names_its_files() -> None:
    said = {"status": "Accepted", "compositeVideoPath": "/s/r.mp4", "maskVideoPath": "/s/m.mp4", "more": 1}
    assert read_reply(200, json.dumps(said).encode()) == {"result": "/s/r.mp4", "mask": "/s/m.mp4"}
    odd = {"status": "accepted", "compositeVideoPath": "a\0b", "maskVideoPath": 7}
    assert read_reply(200, json.dumps(odd).encode()) == {}
    assert read_reply(200, json.dumps({"status": "accepted", "maskVideoPath": "x" * 5000}).encode()) == {}


@pytest.mark.parametrize("path", ["/s/\ud800.mp4", "/s/\udfff", "\udc80"])
def test_a_path_with_half_a_character_is_none(path: str) -> None:
    """It passes as JSON, and nobody could store it."""
    assert read_reply(200, json.dumps({"status": "accepted", "compositeVideoPath": path}).encode()) == {}


@pytest.mark.parametrize(("status", "body", "why"), [
    (200, b'{"status": "fail", "message": "no\\nGPU"}', "200: no GPU"), (200, b'{"error": "full"}', "full"),
    (503, b'{"status": "accepted"}', "503"), (200, b"", "without a JSON object"), (200, b"[1]", "without"),
    (200, b"{}", "no reason"), (200, b"\xff\xfe", "without"), (200, b"[" * 100_000, "without"),
])
def test_everything_else_is_a_refusal_with_a_reason(status: int, body: bytes, why: str) -> None:
    with pytest.raises(Refused) as refused:
        read_reply(status, body)
    assert why in str(refused.value)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_does_harm(status: int, body: bytes) -> None:
    try:
        assert read_reply(status, body).keys() <= {"result", "mask"}
    except Refused as refused:
        assert str(refused).isprintable()


def test_a_report_in_any_case_of_letters() -> None:
    for word in Said:
        for spelled in (word.upper(), word.title(), f" {word} "):
            assert read_callback({**REPORT, "status": spelled}, False).said is word
    read = read_callback({**REPORT, "progress": "40 %".replace(" ", ""), "message": "half\nway"}, False)
    assert (read.task_id, read.progress, read.message) == ("7", 40.0, "half way")


@pytest.mark.parametrize(("kind", "body", "said"), [
    ("application/json", b'{"a": "b", "progress": 5}', {"a": "b", "progress": 5}),
    ("application/JSON; charset=UTF-8", b'\xef\xbb\xbf{"a": "\xc3\xbc"}', {"a": "\u00fc"}),
    ("application/json", b'{"a": "x\\udce4y", "b": ["\\ud800"]}', {"a": "x?y", "b": ["\ud800"]}),
    ("application/json", b'{"a": "\xff", "a": NaN, "a": 1}', {"a": 1}),
    (FORM, b"a=b+c&progress=50%25&message=", {"a": "b c", "progress": "50%", "message": ""}),
])
def test_a_body_is_read_leniently(kind: str, body: bytes, said: dict[str, Any]) -> None:
    assert read_said(kind, body) == said


@pytest.mark.parametrize(("kind", "body", "code"), [
    ("application/json", b"", "bad_json"), ("application/json", b"{", "bad_json"),
    ("application/json", b"[" * 100_000, "bad_json"), ("application/json", b"[]", "bad_request"),
    (FORM, b"a&" * 60_000, "bad_json"),
    ("text/plain", b"{}", "unsupported_media_type"), ("", b"{}", "unsupported_media_type"),
])
def test_what_is_no_body(kind: str, body: bytes, code: str) -> None:
    with pytest.raises(HubError) as refused:
        read_said(kind, body)
    assert refused.value.code == code


def test_with_a_lease_the_address_of_the_service_may_be_missing() -> None:
    bare = {name: value for name, value in REPORT.items() if name != "workerUrl"}
    assert read_callback(bare, True).worker_url is None
    assert read_callback({**REPORT, "workerUrl": ""}, True).worker_url is None
    for without in (bare, {**REPORT, "workerUrl": ""}):
        with pytest.raises(Invalid, match="workerUrl"):
            read_callback(without, False)


@pytest.mark.parametrize(("value", "percent"), [
    (None, None), ("", None), (0, 0.0), (100, 100.0), (12.5, 12.5), ("12.5", 12.5), ("99%", 99.0), (" 51 ", 51.0),
    (-1, 0.0), (100.01, 100.0), ("101", 100.0), (-0.0, 0.0),
    *[(odd, None) for odd in ("far", "100/100", "N/A", "50,5", True, [], {}, float("nan"), float("inf"), "-inf")],
    ("1e999", None), (10**400, None), ("9" * 5000, None),
])
def test_a_progress_is_from_0_to_100_or_none(value: Any, percent: float | None) -> None:
    assert percent_of(value) == percent


@pytest.mark.parametrize(("address", "name"), [
    ("http://10.0.0.5:8000", "10-0-0-5-8000"), ("http://gpu-box", "gpu-box"),
    ("http://[2001:db8::1]:80", "2001-db8-1-80"), ("http://gpu:1/base", "gpu-1-base"),
])
def test_a_name_out_of_an_address(address: str, name: str) -> None:
    assert name_of(address) == name
    assert NAME.fullmatch(name_of(address)) and NAME.fullmatch(another_name(name_of(address), address))
    assert NAME.fullmatch(another_name(name_of(f"http://{'x' * 200}"), address))


def test_models_with_and_without_an_alias() -> None:
    assert model_of("matting") == Model("matting")
    assert model_of("matting:Fine: very") == Model("matting", "Fine: very")


def test_entries_of_an_import_file() -> None:
    entry = {"interfaceAddress": "http://a", "models": ["m", {"name": "n", "alias": "N"}]}
    assert read_entries({"interfaces": [entry]}) == [{"address": "http://a", "models": ("m", "n:N")}]
    for wrong in (None, {}, [1], {"interfaces": 1}, [{"address": "http://a", "slots": True}], [{"name": "x"}]):
        with pytest.raises(ValueError):
            read_entries(wrong)
