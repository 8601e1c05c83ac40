"""JSON bodies: rows 23 to 39 of the bad inputs, all sent to POST /api/tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.ids import new_id
from tests.handlers.running import Answer, Api, Person, one_loop, refused

pytestmark = one_loop
JSON = {"Content-Type": "application/json"}


async def send(person: Person, body: bytes, **headers: str) -> Answer:
    return await person("POST", "/api/tasks", body, {**JSON, **headers})


def task(**changes: Any) -> bytes:
    """A well-formed body, but for the changes."""
    return json.dumps({"video_id": new_id(), "model": "m", **changes}).encode()


BAD_JSON = {
    "23-empty": b"",
    "23-half": b'{"video_id": "x"',
    "23-two-values": b"{} {}",
    "26-100000-brackets": b"[" * 100_000,
    "26-100000-objects": b'{"a":' * 20_000,
    "28-5000-digits": b'{"video_id": "x", "model": "m", "priority": ' + b"9" * 5000 + b"}",
    "30-nan": b'{"video_id": "x", "model": "m", "priority": NaN}',
    "30-infinity": b'{"video_id": "x", "model": "m", "options": {"a": -Infinity}}',
    "30-1e999": b'{"video_id": "x", "model": "m", "options": {"a": 1e999}}',
    "31-lone-surrogate": b'{"video_id": "\\ud800", "model": "m"}',
    "31-lone-surrogate-key": b'{"\\udfff": "x"}',
    "33-latin-1": '{"model": "ü"}'.encode("latin-1"),
    "33-utf-16": '{"model": "x"}'.encode("utf-16"),
    "33-utf-8-bom": b"\xef\xbb\xbf{}",
    "33-overlong": b'{"model": "\xc0\xaf"}',
    "34-duplicate-keys": b'{"model": "a", "model": "b", "video_id": "x"}',
    "34-duplicate-keys-deep": b'{"model": "a", "video_id": "x", "options": {"a": 1, "a": 2}}',
    "control-character": b'{"model": "a\x01", "video_id": "x"}',
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
async def test_row_what_is_not_strict_json_is_400(api: Api, body: bytes) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await send(person, body), 400, "bad_json")


INVALID = {
    "24-list": b"[]",
    "24-null": b"null",
    "24-number": b"1",
    "24-text": b'"x"',
    "29-2^63": task(priority=2**63),
    "29-2^64-in-options": task(options={"a": 2**64}),
    "35-dollar-set": task(**{"$set": {"role": "admin"}}),
    "35-dotted": task(**{"a.b": 1}),
    "35-proto": task(**{"__proto__": {}}),
    "35-dollar-in-options": task(options={"$where": "1"}),
    "35-dot-in-options": task(options={"a.b": 1}),
    "37-many-keys": json.dumps({f"k{number}": 1 for number in range(20_000)}).encode(),
    "37-many-options": task(options={f"o{number}": 1 for number in range(51)}),
    "38-video-number": task(video_id=1),
    "38-video-null": task(video_id=None),
    "38-video-list": task(video_id=["x"]),
    "38-video-object": task(video_id={"$ne": None}),
    "38-model-empty": task(model=""),
    "38-model-bool": task(model=True),
    "38-model-long": task(model="m" * 65),
    "38-options-list": task(options=[]),
    "38-options-null": task(options=None),
    "38-option-object": task(options={"a": {"b": 1}}),
    "38-option-null": task(options={"a": None}),
    "38-option-long": task(options={"a": "x" * 501}),
    "38-priority-text": task(priority="1"),
    "38-priority-fraction": task(priority=1.5),
    "38-priority-high": task(priority=11),
    "38-background-number": task(background_id=0),
    "38-missing-model": b'{"video_id": "x"}',
    "38-missing-video": b'{"model": "m"}',
    "39-state": task(state="completed"),
    "39-owner": task(owner="x"),
    "39-id": task(_id="x"),
    "39-lease": task(lease={"id": "x"}),
    "39-outputs": task(outputs=[]),
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID.keys())
async def test_row_fields_that_are_not_asked_for_or_of_another_type_are_422(api: Api, body: bytes) -> None:
    person = await api.user()
    async with api.unchanged():
        problem = refused(await send(person, body), 422, "invalid")
    assert len(problem["errors"]) == 1
    assert len(problem["errors"][0]["detail"]) <= 300


async def test_a_bad_field_is_pointed_at(api: Api) -> None:
    person = await api.user()
    for body, pointer in (
        (task(priority="high"), "/priority"), (task(options={"alpha": []}), "/options"), (b"[]", ""),
    ):
        assert refused(await send(person, body), 422, "invalid")["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("kind", ["text/plain", "", "application/xml", "multipart/form-data", "application/jsonx"])
async def test_row_25_another_content_type_is_415(api: Api, kind: str) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await person("POST", "/api/tasks", task(), {"Content-Type": kind}), 415, "unsupported_media_type")


async def test_json_may_come_with_a_charset(api: Api) -> None:
    person = await api.user()
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        refused(await person("POST", "/api/tasks", task(), {"Content-Type": kind}), 404, "not_found")


async def test_row_36_a_string_of_17_mb_is_413(api: Api) -> None:
    person = await api.user()
    async with api.unchanged():
        refused(await send(person, b'"' + b"x" * 1_000_000 + b'"'), 413, "too_large")


async def test_unknown_model_is_told_with_the_known_ones(api: Api) -> None:
    person, known = await api.user(), api.offer_model()
    video = await person.upload_video()
    async with api.unchanged():
        problem = refused(await send(person, task(video_id=video["id"], model="no-such")), 422, "unknown_model")
    assert known in problem["detail"]
