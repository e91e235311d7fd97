"""What a service may send, as bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.testing import events
from txsse.web.events import KEEPALIVE, Encoded, ServerSentEvent, encode, failure_event, to_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("item", "written"),
    [
        ("hello", b"data: hello\n\n"),
        (Encoded(b"id: 1\ndata: a\n\ndata: b\n\n"), b"id: 1\ndata: a\n\ndata: b\n\n"),
        (b"hello", b"data: hello\n\n"),
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ("", b"data: \n\n"),
        ({"a": [1, "ü"]}, b'data: {"a":[1,"\xc3\xbc"]}\n\n'),
        (["a"], b'data: ["a"]\n\n'),
        (7, b"data: 7\n\n"),
        (None, b"data: null\n\n"),
        (ServerSentEvent({"a": 1}, "tick", "7", 500), b'event: tick\nid: 7\nretry: 500\ndata: {"a":1}\n\n'),
        (ServerSentEvent("plain"), b"data: plain\n\n"),
    ],
)
def test_an_item_is_an_event_or_the_data_of_one(item: object, written: bytes) -> None:
    assert encode(item) == written


def test_a_reconnection_time_is_told_where_the_event_has_none_of_its_own() -> None:
    assert encode("a", 2000) == b"retry: 2000\ndata: a\n\n"
    assert encode(ServerSentEvent("a", retry=5), 2000) == b"retry: 5\ndata: a\n\n"


@given(JSON)
def test_what_json_can_say_arrives_as_it_was(value: object) -> None:
    (event,) = events(encode(ServerSentEvent(value)) if isinstance(value, str) else encode(value))
    expected = json.loads(json.dumps(value))
    if isinstance(value, str):
        assert event.data == value.replace("\r\n", "\n").replace("\r", "\n")
    else:
        assert json.loads(event.data) == expected


def test_a_lone_surrogate_is_escaped() -> None:
    assert to_json({"a": "\ud800ü"}) == b'{"a":"\\ud800\\u00fc"}'


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_numbers_that_json_has_not_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(value)


@pytest.mark.parametrize("item", [object(), {"a": b"bytes"}, {1, 2}])
def test_what_json_has_no_form_for_is_refused(item: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode(item)


def test_a_failure_tells_its_class_and_nothing_else() -> None:
    (event,) = events(encode(failure_event("KeyError")))
    error = json.loads(event.data)["error"]
    assert event.type == "error"
    assert (error["type"], error["code"]) == ("server_error", "internal_error") and "KeyError" in error["message"]


def test_a_keepalive_is_one_comment_line_without_a_blank_one() -> None:
    assert KEEPALIVE == b": txsse\n"
