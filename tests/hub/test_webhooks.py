"""The hub's signature, and the secret behind it."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

from msgspec.structs import replace

from hub.interface import Interface
from hub.webhooks import push_secret, signed_headers

SECRET = "whsec_" + b64encode(b"k" * 32).decode()


def test_the_signature_is_made_of_id_time_and_body() -> None:
    headers = signed_headers(SECRET, "msg-1", 1614265330.9, b'{"messages":[]}')
    made = hmac.new(b"k" * 32, b'msg-1.1614265330.{"messages":[]}', hashlib.sha256).digest()
    assert headers == {
        "webhook-id": "msg-1", "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,{b64encode(made).decode()}",
    }


def test_each_service_and_each_token_has_a_secret_of_its_own_and_none_is_stored() -> None:
    service = Interface("box", "a" * 64, 0.0, dialect="push")
    others = [replace(service, id="box2"), replace(service, token_hash="b" * 64)]
    secrets = {push_secret(b"hub", each) for each in (service, *others)} | {push_secret(b"another hub", service)}
    assert len(secrets) == 4
    assert push_secret(b"hub", replace(service, note="moved", version=7)) == push_secret(b"hub", service)
    for secret in secrets:
        assert secret.startswith("whsec_") and len(b64decode(secret[6:])) == 32
        assert secret not in repr(service)
