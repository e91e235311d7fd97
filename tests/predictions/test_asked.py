"""Bodies of requests for predictions."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from txsse.predictions.asked import Asked, is_json, read_asked
from txsse.predictions.model import Invalid
from txsse.wire.peek import at_once

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["id", "input", "webhook", "webhook_events_filter", "context", "x"]), VALUES, max_size=5),
    st.booleans(),
)
def test_it_is_what_json_says_or_invalid(document: dict[str, Any], spaced: bool) -> None:
    try:
        asked = at_once(read_asked(json.dumps(document, indent=1 if spaced else None).encode()))
    except Invalid:
        assert not isinstance(document.get("input", {}), dict | None) or document.get("id") is not None
        return
    given = document.get("input")
    assert (None if asked.input is None else json.loads(asked.input)) == given
    assert asked.id == (document.get("id") or "")
    assert (asked.webhook, asked.events) == (document.get("webhook"), document.get("webhook_events_filter"))


def test_an_empty_body_says_nothing() -> None:
    assert at_once(read_asked(b"  ", "one")) == Asked("one", None, None, None)


def test_the_input_is_handed_on_byte_for_byte() -> None:
    given = b'{ "a" : 1.50, "b":[ "\\u0061" ] }'
    assert at_once(read_asked(b'{"input": %b , "id":"x"}' % given)).input == given


def test_a_body_without_a_type_is_taken_for_json() -> None:
    assert is_json([])
    assert is_json([(b"content-type", b"Application/JSON ; charset=utf-8")])
    assert not is_json([(b"Content-Type", b"multipart/form-data")])
