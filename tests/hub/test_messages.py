"""The wire: what is understood, what is refused and how, and that what we write we can read."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import messages
from hub.messages import (
    EVENT_TYPES, Accept, Artifact, BadMessage, Failed, FromBrowser, FromWorker, Hello, Model, Progress, Result, Status,
    Subscribed, ToWorker, decode, encode, from_browser, from_worker, to_worker,
)

HELLO = {"type": "hello", "n": 1, "protocol": 1, "worker": "w", "instance": "i", "models": [{"name": "m"}]}
PROGRESS = {"type": "progress", "n": 2, "lease": "l", "phase": "segment", "progress": 50}
RESULT = {
    "type": "result", "n": 3, "lease": "l", "artifacts": [{"purpose": "result", "upload_id": "u", "sha256": "a" * 64}],
}


def tag(kind: type[Any]) -> str:
    return str(kind.__struct_config__.tag)


def test_the_words_of_the_wire_are_those_of_the_contract() -> None:
    assert {tag(kind) for kind in get_args(FromWorker)} == {
        "hello", "accept", "decline", "progress", "renew", "result", "failed", "status", "drain", "bye",
    }
    assert {tag(kind) for kind in get_args(ToWorker)} == {
        "welcome", "offer", "assign", "watching", "cancel", "lease_lost", "result_ack", "failed_ack", "drain",
        "reconnect", "problem", "ack",
    }
    assert {tag(kind) for kind in get_args(FromBrowser)} == {"auth", "subscribe", "unsubscribe", "ping"}
    assert set(EVENT_TYPES) == {
        "created", "assigned", "progressed", "released", "completed", "failed", "cancelled", "updated", "deleted",
    }


def test_a_hello_is_read_with_its_defaults() -> None:
    hello = decode(from_worker, json.dumps(HELLO))
    assert hello == Hello(n=1, protocol=1, worker="w", instance="i", models=[Model("m")])
    assert isinstance(hello, Hello) and (hello.slots, hello.running, hello.last_seen, hello.ack) == (1, [], 0, 0)


def test_unknown_fields_are_ignored_so_that_newer_workers_can_say_more() -> None:
    assert decode(from_worker, json.dumps({**PROGRESS, "temperature": 81})) == Progress(
        n=2, lease="l", phase="segment", progress=50.0,
    )


def test_what_is_written_can_be_read() -> None:
    for message in (
        Accept(n=3, ack=9, offer="o"), Status(n=4), Failed(n=5, lease="l", code="x", retry_after=1.5, detail="é"),
        Result(n=6, lease="l", artifacts=[Artifact(purpose="mask", upload_id="u", sha256="b" * 64, frames=3)]),
    ):
        assert decode(from_worker, encode(message)) == message
    offer = messages.Offer(n=1, offer="o", task="t", model="m", video={"fps": "30/1"})
    assert decode(to_worker, encode(offer)) == offer


def test_two_hellos_share_nothing() -> None:
    first, second = (Hello(protocol=1, worker="w", instance="i", models=[]) for _ in range(2))
    first.running.append("lease")
    assert second.running == []


@pytest.mark.parametrize("raw", [
    b"", b"null", b"1", b"[]", b'"hello"', b"{}", b'{"type":{}}', b'{"type":null}', b'{"type":"HELLO"}', b"\xff\xfe",
    b'{"type":"status"', b'{"type":"status"} x', b'{"type":"welcome","session":"s"}', b"[" * 60_000, b'{"a":' * 60_000,
    b'{"type":"status","load":NaN}', b'{"type":"status","load":1e999}', b'{"type":"status","n":-1}',
    b'{"type":"status","n":1.5}', b'{"type":"status","n":"1"}', b'{"type":"drain","reason":"\\ud800"}',
    b'{"type":"accept"}', b'{"type":"accept","offer":""}', b'{"type":"accept","offer":{"$ne":null}}',
])
def test_row_109_what_is_no_message_is_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(BadMessage) as refusal:
        decode(from_worker, raw)
    assert str(refusal.value)


@pytest.mark.parametrize("changes", [
    {"progress": -1}, {"progress": 101}, {"progress": "50"}, {"progress": None}, {"lease": ""}, {"lease": "x" * 129},
    {"phase": 3}, {"message": "x" * 2001}, {"frames_done": -1},
])
def test_row_123_a_report_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        decode(from_worker, json.dumps({**PROGRESS, **changes}))


@pytest.mark.parametrize("changes", [
    {"slots": 0}, {"slots": 65}, {"models": [{"name": "a b"}]}, {"models": [{"name": "../x"}]},
    {"models": [{"name": ""}]}, {"models": [{"name": "m"}] * 101}, {"running": ["l"] * 65},
    {"last_seen": -1}, {"worker": "x" * 129},
    {"hardware": {"gpu": {"$where": 1}}}, {"models": None},
])
def test_a_hello_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        decode(from_worker, json.dumps({**HELLO, **changes}))


@pytest.mark.parametrize("artifacts", [
    [], [{"purpose": "result", "upload_id": "u", "sha256": "A" * 64}], [{"purpose": "result", "upload_id": "u"}],
    [{"purpose": "result", "upload_id": "u", "sha256": "a" * 63}], RESULT["artifacts"] * 5, None,
])
def test_a_result_with_wrong_artifacts_is_refused(artifacts: Any) -> None:
    with pytest.raises(BadMessage):
        decode(from_worker, json.dumps({**RESULT, "artifacts": artifacts}))


@pytest.mark.parametrize("kind", ["result", "offer", "welcome", "accept", "progress"])
def test_row_114_worker_verbs_mean_nothing_from_a_browser(kind: str) -> None:
    with pytest.raises(BadMessage):
        decode(from_browser, json.dumps({**RESULT, "type": kind, "id": 1}))


def test_a_subscription_reply_says_everything_even_when_it_is_empty() -> None:
    reply = Subscribed(id=1, topic="tasks", epoch="e", offset=0, recovered=True)
    assert json.loads(encode(reply)) == {
        "type": "subscribed", "id": 1, "v": 1, "topic": "tasks", "epoch": "e", "offset": 0, "recovered": True,
        "snapshot": None, "events": [],
    }


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_no_bytes_do_anything_but_be_understood_or_refused(raw: bytes) -> None:
    for decoder in (from_worker, from_browser, to_worker):
        try:
            assert isinstance(decode(decoder, raw), msgspec.Struct)
        except BadMessage:
            continue
