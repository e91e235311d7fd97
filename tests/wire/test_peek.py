"""The look at a body's top-level members: json.loads is the oracle for what it finds, a size and a depth for what it must survive."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.wire import peek as module
from txsse.wire.peek import MAX_VALUE, at_once, is_true, scan, string_value

WANTED = frozenset(("stream", "model"))
MEBIBYTES_8 = 8 << 20


def peek(body: bytes, wanted: frozenset[str]) -> dict[str, bytes] | None:
    return at_once(scan(body, wanted))


def streams(body: bytes) -> bool:
    return is_true((peek(body, WANTED) or {}).get("stream"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true,"model":"test"}', True),
        (b'{"stream":false}', False),
        (b'{"model":"test"}', False),
        (b"", False),
        (b"not json", False),
        (b'{"stream":"true"}', False),
        (b'{"stream":1}', False),
        (b'{"messages":[{"content":"\\"stream\\":true"}]}', False),
        (b'{"metadata":{"stream":true}}', False),
        (b'{"a":{"b":[{"stream":true}]},"stream":null}', False),
        (b'\xef\xbb\xbf{"stream":true}', True),
        (b' \r\n\t{ "stream" \n:\ttrue } \n', True),
        (b'{"stream":false,"stream":true}', True),
        (b'{"stream":true,"stream":false}', False),
        (b'{"str\\u0065am":true}', True),
        (b'{"\\u0073\\u0074\\u0072\\u0065\\u0061\\u006d":true}', True),
        (b'{"stream\\u0000":true}', False),
        (b'{"Stream":true}', False),
        (b'{"x":"\\\\","stream":true}', True),
        (b'{"x":"\\\\\\"","stream":true}', True),
        (b'{"x":"]}","y":[["[{"],{"}":"}"}],"stream":true}', True),
        (b'{"x":[1,2,3],"y":{},"z":[],"stream":true}', True),
        (b'{"n":-1.5e+30,"m":1E9999,"k":NaN,"stream":true}', True),
    ],
)
def test_streaming_is_told_by_the_top_level_member_alone(body: bytes, expected: bool) -> None:
    assert streams(body) is expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true',
        b'{"stream":true,',
        b'{"stream":true,}',
        b'{"stream":true}}',
        b'{"stream":true} x',
        b'{"stream":true}{"stream":true}',
        b'{"stream":tru}',
        b'{"stream":true true}',
        b'{"stream":true "a":1}',
        b'{"stream"true}',
        b"{stream:true}",
        b"{'stream':true}",
        b'{"a":[1,"stream":true}',
        b'{"a":"b,"stream":true}',
        b'{"a":01,"stream":true}',
        b'{"a":+1,"stream":true}',
        b'{"a":1.,"stream":true}',
        b'{"a":,"stream":true}',
        b'{,"stream":true}',
        b'{"\\x":1,"stream":true}',
        b'["stream",true]',
        b'"stream"',
        b"{",
        b'{"',
        b"null",
        b'\xff\xfe{\x00"\x00',
        '{"stream":true}'.encode("utf-16"),
    ],
)
def test_what_is_not_one_object_has_no_members(body: bytes) -> None:
    assert peek(body, WANTED) is None


def test_an_empty_object_is_an_object() -> None:
    assert peek(b"{}", WANTED) == {}
    assert peek(b" { } ", WANTED) == {}


def test_the_raw_text_of_each_wanted_member_is_given() -> None:
    body = b'{"model" : "a\\u00e9" , "x":0, "stream":{ "a" : [1] }}'
    assert peek(body, WANTED) == {"model": b'"a\\u00e9"', "stream": b'{ "a" : [1] }'}


@pytest.mark.parametrize("length", [MAX_VALUE, MAX_VALUE + 1, module.STEP + 5])
@pytest.mark.parametrize(("first", "last"), [(b'"', b'"'), (b'["', b'"]'), (b'{"', b'":1}')])
def test_of_a_long_text_only_its_first_byte_is_kept(first: bytes, last: bytes, length: int) -> None:
    value = first + b"x" * (length - len(first) - len(last)) + last
    found = peek(b'{"model":' + value + b',"stream":true}', WANTED)
    assert found == {"model": value if length <= MAX_VALUE else value[:1], "stream": b"true"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\[]{}:,\n'), max_size=8) | st.sampled_from(["stream", "model"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands, duplicates included."""


def dump(value: Any, space: str, ascii_only: bool) -> str:
    if isinstance(value, Pairs):
        members = (
            f"{space}{json.dumps(key, ensure_ascii=ascii_only)}{space}:{space}{dump(inner, space, ascii_only)}" for key, inner in value
        )
        return "{" + f"{space},".join(members) + space + "}"
    return json.dumps(value, ensure_ascii=ascii_only, indent=1 if space else None)


@given(st.lists(st.tuples(TEXT, VALUES), max_size=8).map(Pairs), st.sampled_from(["", " ", "\n\t\r"]), st.booleans())
def test_it_finds_what_json_finds(members: Pairs, space: str, ascii_only: bool) -> None:
    text = space + dump(members, space, ascii_only) + space
    expected = {key: value for key, value in json.loads(text).items() if key in WANTED}
    found = peek(text.encode(), WANTED)
    assert found is not None
    assert json.dumps({key: json.loads(raw) for key, raw in found.items()}, sort_keys=True) == json.dumps(expected, sort_keys=True)


@given(st.lists(st.tuples(TEXT, VALUES), max_size=5).map(Pairs), st.data())
def test_a_truncated_object_is_none(members: Pairs, draw: st.DataObject) -> None:
    body = dump(members, "", True).encode()
    assert peek(body[: draw.draw(st.integers(0, len(body) - 1))], WANTED) is None


@given(st.lists(st.sampled_from([b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"1", b"true", b'"stream"', b" "]), max_size=25))
def test_no_json_object_that_json_reads_is_missed(pieces: list[bytes]) -> None:
    body = b"{" + b"".join(pieces) + b"}"
    try:
        expected = json.loads(body)
    except ValueError:
        return
    assert (peek(body, WANTED) or {}).keys() == expected.keys() & WANTED


@pytest.mark.parametrize("step", [2, 3, 5, 64])
def test_where_a_step_ends_does_not_matter(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(
        {"a": ['"\\', {"b": ["]}", [], {}, [[[[[1]]]]]]}], '\n\\"stream': [True], "m": -1.25e3, "model": '\\"' * 9, "stream": True}
    )
    whole = peek(body.encode(), WANTED)
    monkeypatch.setattr(module, "STEP", step)
    assert peek(body.encode(), WANTED) == whole
    assert whole == {"model": json.dumps('\\"' * 9).encode(), "stream": b"true"}


LARGE = {  # what stands before, what is repeated, and what closes it (once, or once for each repetition)
    "one string": (b'"', b"x", b'"', False),
    "escapes": (b'"', b"\\\\", b'"', False),
    "small strings": (b"[", b'"abcdefg",', b"1]", False),
    "numbers": (b"[", b"1234567,", b"1]", False),
    "digits": (b"1", b"1", b"", False),
    "nested": (b"", b"[", b"]", True),
    "nested objects": (b"", b'[{"b":', b"}]", True),
    "objects": (b"[", b'{"b":1},', b"1]", False),
    "members": (b"1,", b'"abc":1,', b'"d":2', False),
    "a long name": (b'1,"', b"k", b'":1', False),
    "blanks": (b"1", b" ", b"", False),
}


def large_body(kind: str, size: int) -> bytes:
    before, unit, after, closes_each = LARGE[kind]
    count = size // len(unit + after * closes_each)
    middle = b"1" if unit.endswith(b":") else b""
    return b'{"a":' + before + unit * count + middle + after * (count if closes_each else 1) + b',"stream":true}'


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_body_is_scanned_in_steps_and_in_linear_time(kind: str) -> None:
    body = large_body(kind, MEBIBYTES_8)
    began = time.process_time()
    steps = scan(body, WANTED)
    turns = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            assert stop.value == {"stream": b"true"}
            break
        turns += 1
    assert turns >= 30 or kind in ("digits", "blanks")  # these pass in a single match of a few milliseconds
    assert time.process_time() - began < 20


@pytest.mark.parametrize("kind", LARGE)
def test_nothing_is_built_for_what_is_skipped(kind: str) -> None:
    body = large_body(kind, 1 << 20)
    tracemalloc.start()
    peek(body, WANTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize(
    "body", [b"[" * MEBIBYTES_8, b'{"a":' + b"[" * MEBIBYTES_8, b'{"a":' + b'{"a":' * (MEBIBYTES_8 // 5), b'{"' + b"\\" * MEBIBYTES_8]
)
def test_brackets_without_end_are_no_object(body: bytes) -> None:
    began = time.process_time()
    assert peek(body, WANTED) is None
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"a\\u00e9"', "a\u00e9"),
        ('"\u00e9"'.encode(), "\u00e9"),
        (b'""', ""),
        (b'"', None),
        (b"1", None),
        (b"null", None),
        (None, None),
        (b'"\\x"', None),
        (b'"\\ud800"', None),
        (b'"\xff"', None),
        (b'"\x00a"', None),
    ],
)
def test_a_string_member_has_its_value(raw: bytes | None, expected: str | None) -> None:
    assert string_value(raw) == expected
