"""The body and its signature."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.config.urls import Address
from txsse.config.webhooks import signing_keys
from txsse.webhooks.addresses import Reach
from txsse.webhooks.allow import Destination
from txsse.webhooks.letter import Letter, body_of, head_fields


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example in the tests of the scheme's own libraries.
    keys = signing_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert head_fields("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', keys) == [
        ("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("Webhook-Timestamp", "1614265330"),
        ("Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3), st.binary(), st.integers(0, 2**33))
def test_each_key_signs_all_three_parts(keys: list[bytes], body: bytes, seconds: int) -> None:
    text = " ".join("whsec_" + b64encode(key).decode() for key in keys)
    *_, (name, signatures) = head_fields("msg_1", seconds, body, signing_keys(text))
    assert name == "Webhook-Signature"
    for key, signature in zip(keys, signatures.split(" "), strict=True):
        version, _, value = signature.partition(",")
        assert version == "v1"
        assert b64decode(value) == hmac.digest(key, b"msg_1." + str(seconds).encode() + b"." + body, "sha256")


def test_without_a_key_there_is_no_signature() -> None:
    assert dict(head_fields("msg_1", 5, b"", ())) == {"Webhook-Id": "msg_1", "Webhook-Timestamp": "5"}


def test_ids_differ_and_have_no_full_stop() -> None:
    somewhere = Destination(Address("https", "a", 443), "/", Reach.PUBLIC)
    ids = {Letter(somewhere, "start", "p", bytes).id for _ in range(100)}
    assert len(ids) == 100 and not any("." in each for each in ids)


@given(
    st.dictionaries(st.sampled_from(["id", "status", "input", "output", "logs", "error", "metrics"]), st.text(max_size=300)),
    st.integers(700, 2000),
)
def test_a_body_is_the_document_or_says_that_it_is_not(document: dict[str, str], limit: int) -> None:
    document = {**document, "id": "p", "status": "succeeded"}
    body = body_of(document, limit)
    assert len(body) <= limit
    told = json.loads(body)
    assert told["id"] == "p" and told["status"] == "succeeded"
    if told.pop("truncated", False):
        assert "output" not in told and "logs" not in told and told.items() <= document.items()
    else:
        assert told == document


def test_what_has_no_form_in_json_is_an_error() -> None:
    with pytest.raises(ValueError):
        body_of({"output": float("nan")}, 1000)
