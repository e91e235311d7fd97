"""The canonical form of a body: a model built from what json reads is the oracle for which bodies are alike."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Generator
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings import canonical as module
from txsse.recordings.canonical import (
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_TOKENS,
    REASONS,
    Members,
    Uncacheable,
    digest_of,
    inside_of,
    scan,
    text_of,
)
from txsse.wire.peek import STEP, at_once

T = TypeVar("T")
MEBIBYTE = 1 << 20


def members(body: bytes, inner: str = "") -> Members:
    return at_once(scan(body, text_of(inner)))[0]


def canonical(value: str | bytes) -> bytes:
    """The canonical text of a JSON value."""
    body = value.encode() if isinstance(value, str) else value
    return members(b'{"v":%b}' % body)[b'"v"']


def reason(body: bytes) -> str | None:
    try:
        members(body)
    except Uncacheable as error:
        return error.reason
    return None


class Number(str):
    """A number by its literal text."""


def read(body: bytes) -> Any:
    """What json reads, so that it equals another only if every backend would read both alike."""
    return frozen(json.loads(body, parse_int=Number, parse_float=Number))


def frozen(value: Any) -> Any:
    match value:
        case dict():
            return ("object", frozenset((name, frozen(inner)) for name, inner in value.items()))
        case list():
            return ("array", tuple(frozen(inner) for inner in value))
        case _:
            return (type(value).__name__, value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/[]{}:,\n\u007f\u2028😀'), max_size=8)
NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?\Z").map(Number)
NAMES = st.sampled_from("abcdef") | TEXT
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | st.text("ab\n", min_size=250, max_size=260),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)


def has_alike_names(value: Any) -> bool:
    """Does an object in it have names that differ in letter case alone?"""
    match value:
        case dict():
            return len({name.casefold() for name in value}) < len(value) or any(map(has_alike_names, value.values()))
        case list():
            return any(map(has_alike_names, value))
        case _:
            return False


def written(value: Any, random: Random) -> str:
    """A JSON text of *value*: members in any order, blanks anywhere, any character escaped or not."""

    def blank() -> str:
        return "".join(random.choices(" \t\n\r", k=random.choice((0, 0, 0, 1, 3))))

    def character(each: str) -> str:
        if each in '"\\' or each < " " or random.random() < 0.2:
            short = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f", '"': '\\"', "\\": "\\\\", "/": "\\/"}
            if each in short and random.random() < 0.5:
                return short[each]
            escapes = json.dumps(each)[1:-1] if ord(each) > 0xFFFF else f"\\u{ord(each):04x}"
            return "".join(part.upper() if random.random() < 0.5 and part != "u" else part for part in escapes)
        return each

    def string(each: str) -> str:
        return '"' + "".join(map(character, each)) + '"'

    def text(each: Any) -> str:
        match each:
            case dict():
                pairs = random.sample(list(each.items()), len(each))
                inside = ",".join(f"{blank()}{string(name)}{blank()}:{text(inner)}" for name, inner in pairs)
                whole = "{" + (inside or blank()) + "}"
            case list():
                whole = "[" + (",".join(map(text, each)) or blank()) + "]"
            case Number():
                whole = str(each)
            case str():
                whole = string(each)
            case _:
                whole = json.dumps(each)
        return blank() + whole + blank()

    return text(value)


@given(OBJECTS, st.randoms(use_true_random=False))
def test_order_of_members_blanks_and_escapes_do_not_count(value: dict[str, Any], random: Random) -> None:
    if has_alike_names(value):
        return
    first, second = (written(value, random).encode() for _ in range(2))
    assert read(first) == read(second)
    assert members(first) == members(second)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    match value:
        case dict() if value:
            return [each for name, inner in value.items() for each in leaves(inner, (*path, name))]
        case list() if value:
            return [each for at, inner in enumerate(value) for each in leaves(inner, (*path, at))]
        case _:
            return [path]


def replaced(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], leaf)
    return copy


@given(OBJECTS.filter(bool), st.data(), st.randoms(use_true_random=False))
def test_any_other_leaf_is_another_body(value: dict[str, Any], data: st.DataObject, random: Random) -> None:
    path = data.draw(st.sampled_from(leaves(value)))
    other = replaced(
        value, path, data.draw(st.sampled_from([None, True, "", "1", [], {}, Number("1"), Number("1.0"), "null", [[]], {"": {}}]))
    )
    first, second = written(value, random).encode(), written(other, random).encode()
    if reason(first) is None and reason(second) is None:
        assert (members(first) == members(second)) == (read(first) == read(second))


@given(st.lists(VALUES, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_elements_counts(values: list[Any], random: Random) -> None:
    other = values[1:] + values[:1]
    if has_alike_names(values):
        return
    alike = frozen(values) == frozen(other)
    assert (canonical(written(values, random)) == canonical(written(other, random))) == alike


@pytest.mark.parametrize(
    "texts",
    [
        ("1", "1.0", "1e0", "1E0", "10e-1", '"1"', "[1]", "-1"),
        ("0", "-0", "0.0", "false", "null", '""', "[]", "{}"),
        ("9007199254740993", "9007199254740992", "9007199254740994"),
        ("1" * 400, "1" * 399 + "2"),
        ("null", '"null"', "[null]", '{"null":null}', "true", '"true"'),
        ("[]", "{}", "[[]]", "[{}]", '[""]', '{"":""}', '["[]"]', '"[]"', '"{}"'),
        ("[1,2]", "[2,1]", "[12]", "[[1],2]", "[1,[2]]", '["1,2"]', '["1","2"]', '"1,2"', "[1,2,2]"),
        ('{"a":1,"b":2}', '{"a":2,"b":1}', '{"a":1}', '{"a":{"b":2}}', '["a",1,"b",2]', '{"a":"1,b:2"}', '{"a\\",\\"b":1}'),
        ('"a"', '"A"', '"a "', '"\\u0000a"', '"\u0430"', '"\\\\u0061"', '"\\n"', '"\\\\n"', '"n"'),
        ('"\u00e9"', '"e\u0301"', '"\u00c3\u00a9"'),
        ('"' + "x" * 300 + '"', '"' + "x" * 301 + '"', "x".join(['"'] * 2), '["' + "x" * 300 + '"]'),
    ],
)
def test_what_a_backend_may_read_differently_is_different(texts: tuple[str, ...]) -> None:
    assert len({canonical(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "texts",
    [
        ('"a"', '"\\u0061"'),
        ('"\u00e9/"', '"\\u00e9\\/"', '"\\u00E9\\u002f"'),
        ('"😀"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"'),
        ('"\\n"', '"\\u000a"', '"\\u000A"'),
        ('"\\u0000\x7f"', '"\\u0000\\u007f"'),
        ('"' + "a" * 256 + '"', '"' + "\\u0061" * 256 + '"'),
        ('"' + "a" * 255 + '"', '"' + "\\u0061" * 255 + '"'),
        ('"' + "a" * 254 + '"', '"' + "\\u0061" * 254 + '"'),
        ("[1,2,true]", "[ 1 ,\n2\t,true ]"),
        ('{"a":1,"b":[2]}', '{ "b" : [ 2 ] , "\\u0061" : 1 }'),
        ("[ ]", "[]"),
        ("{ }", "{}"),
    ],
)
def test_one_value_has_one_text(texts: tuple[str, ...]) -> None:
    assert len({canonical(text) for text in texts}) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":[{"b":{"c":1,"d":2,"c":{}}}]}',
        b'{"a":[{"b":[],"b":[]}]}',
        b'{"":1,"":1}',
        b'{"b":{"%b":1,"%b":2}}' % (b"n" * 300, b"\\u006e" + b"n" * 299),
    ],
)
def test_a_member_given_twice_is_found_wherever_it_is(body: bytes) -> None:
    assert reason(body) == "duplicate_member"


def test_names_that_differ_in_letter_case_alone_are_no_duplicates_but_their_order_counts() -> None:
    assert canonical('{"ID":1,"id":2,"x":3}') == canonical('{"ID":1,"id":2, "x":3}')
    assert canonical('{"ID":1,"id":2}') != canonical('{"id":2,"ID":1}')
    assert canonical('{"\u017f":1,"s":2}') != canonical('{"s":2,"\u017f":1}')
    assert canonical('{"A":1,"b":2}') == canonical('{"b":2,"A":1}')


def test_among_the_parameters_themselves_such_names_are_duplicates() -> None:
    assert reason(b'{"Temperature":0,"temperature":1}') == "duplicate_member"
    assert reason(b'{"temperature":0,"tools":[{"X":1,"x":2}]}') is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"a"',
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b"{,}",
        b'{,"a":1}',
        b'{"a":1,,"b":2}',
        b'{"a":1 "b":2}',
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":,"b":1}',
        b'{"a":1}}',
        b'{"a":1}]',
        b'{"a":1}{}',
        b'{"a":1} x',
        b'{"a":1]',
        b'{"a":[1}',
        b'{"a":[1,]}',
        b'{"a":[1,2,]}',
        b'{"a":["x",]}',
        b'{"a":[,]}',
        b'{"a":[,1]}',
        b'{"a":[1 2]}',
        b'{"a":["x" "y"]}',
        b'{"a":[[]1]}',
        b'{"a":1[]}',
        b'{"a":"x"{}}',
        b'{"a":[1[]]}',
        b'{"a":[1,2{}]}',
        b'{"a":{}1}',
        b'{"a":{}"b":1}',
        b'{"a":["b":1]}',
        b'{"a":{1}}',
        b'{"a":{"b"}}',
        b"{a:1}",
        b"{'a':1}",
        b"{1:1}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":0x1}',
        b'{"a":-}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":tru}',
        b'{"a":True}',
        b'{"a":nulll}',
        b'{"a":"\n"}',
        b'{"a":"\x00"}',
        b'{"a":"\\x"}',
        b'{"a":"\\u12"}',
        b'{"a":"\\u12g4"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00"}',
        b'{"a":"\\ud800\\ud800"}',
        b'{"a":"\\ud800\\u0061"}',
        b'{"a":"\xff"}',
        b'{"a":"\xc3"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":1}\x00',
        b'{"a":1}\xa0',
        b'\x0b{"a":1}',
        b' \xef\xbb\xbf{"a":1}',
        b'// x\n{"a":1}',
        b'{"a":1/**/}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
    ],
)
def test_what_is_not_one_object_in_strict_json_is_refused(body: bytes) -> None:
    assert reason(body) == "not_json"


def test_a_byte_order_mark_and_blanks_around_are_fine() -> None:
    assert members(b'\xef\xbb\xbf \r\n\t{"a":1}\n') == members(b'{"a":1}')


@given(
    st.lists(
        st.sampled_from([b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"1", b"-0.5e1", b"true", b'"a"', b" ", b"\\u0061"]), max_size=16
    )
)
def test_what_json_refuses_is_refused_and_nothing_else(pieces: list[bytes]) -> None:
    body = b'{"v":' + b"".join(pieces) + b"}"
    try:
        json.loads(body)
    except ValueError:
        assert reason(body) in ("not_json", "duplicate_member")
    else:
        assert reason(body) in (None, "duplicate_member")


@given(OBJECTS, st.data(), st.randoms(use_true_random=False))
def test_a_truncated_body_is_refused(value: dict[str, Any], data: st.DataObject, random: Random) -> None:
    body = written(value, random).encode().rstrip()
    assert reason(body[: data.draw(st.integers(0, len(body) - 1))]) == "not_json"


def test_the_members_of_a_chosen_one_are_given() -> None:
    root, inner = at_once(scan(b'{"a":{"\\u0062":1,"c":"x"},"d":{"a":{"b":2}}}', text_of("a")))
    assert inner == {b'"b"': b"1", b'"c"': b'"x"'}
    assert set(root) == {b'"a"', b'"d"'}
    assert at_once(scan(b'{"a":[1],"b":{"a":{"b":1}}}', text_of("a")))[1] == {}


def test_the_text_of_a_name_is_that_of_its_string() -> None:
    for name in ("stream", 'a"\\\n\u00e9😀\x00/', "n" * 1000):
        assert [*members(b"{" + json.dumps(name).encode() + b":1}")] == [text_of(name)]


def test_what_is_inside_an_object_is_told_by_its_names_and_values() -> None:
    texts = ['{"a":1,"b":2}', '{"a":2,"b":1}', '{"a":1}', "{}", '{"a":"1"}', '{"a":1,"b":2,"c":null}']
    assert len({inside_of(members(text.encode())) for text in texts}) == len(texts)


def turns_of(steps: Generator[None, None, T]) -> tuple[int, T]:
    turns = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return turns, end.value
        turns += 1


@given(OBJECTS, st.randoms(use_true_random=False), st.sampled_from([16, 17, 23, 64, 300]), st.sampled_from([1, 2, 7]))
def test_where_a_step_ends_does_not_matter(value: dict[str, Any], random: Random, step: int, turns: int) -> None:
    body = written(value, random).encode()
    if reason(body) is not None:
        return
    whole = members(body)
    digest = at_once(digest_of(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEP", step)
        patch.setattr(module, "TURNS", turns)
        assert members(body) == whole
        assert at_once(digest_of(body)) == digest


@pytest.mark.parametrize("at", range(40))
@pytest.mark.parametrize("what", ["😀é", "\\ud83d\\ude00\\u00e9", '\\"\\\\', "\\/\\u0022"])
def test_a_string_longer_than_a_step_may_be_cut_anywhere(at: int, what: str) -> None:
    size = STEP + 200
    text = "x" * (STEP - 20 + at) + what + "y" * (size - at)
    value = json.loads(f'"{text}"')
    assert (
        canonical(f'"{text}"')
        == canonical(json.dumps(value))
        == canonical(json.dumps(value, ensure_ascii=False))
        != canonical(f'"{text}z"')
    )


def test_a_long_string_gives_way_as_often_as_its_length_asks() -> None:
    turns, (found, _) = turns_of(scan(b'{"a":"' + b"x" * (8 * MEBIBYTE) + b'","b":1}', b""))
    assert turns >= 64
    assert found == {b'"a"': text_of("x" * (8 * MEBIBYTE)), b'"b"': b"1"}


BLANKS = b" " * (200 * 1024)


@pytest.mark.parametrize("shape", [b'{%b"a"%b:%b1%b,%b"b":2}', b'{%b"a"%b:%b"x"%b,%b"b":2}', b'{%b"a"%b:%b[]%b,%b"b":{}}'])
def test_blanks_may_be_longer_than_a_step(shape: bytes) -> None:
    assert members(shape % ((BLANKS,) * 5)) == members(shape % ((b"",) * 5))


@pytest.mark.parametrize("shape", [b"[%b1%b,%b2%b]", b'[%b"x"%b,%b1%b]', b"[%b[]%b,%b{}%b]", b"[%b{%b}%b]%b", b"[%b[%b]%b]%b"])
def test_blanks_in_an_array_may_be_longer_than_a_step(shape: bytes) -> None:
    assert canonical(shape % ((BLANKS,) * 4)) == canonical(shape % ((b"",) * 4))


def test_a_name_or_a_number_may_be_longer_than_a_step() -> None:
    name, digits = "n" * 300_000, "7" * 300_000
    body = f'{{"{name}":{digits},"b":[{digits},1]}}'.encode()
    found = members(body)
    assert found[text_of(name)] == digits.encode()
    assert found[b'"b"'] == canonical(f"[ {digits} , 1 ]") != canonical(f"[{digits}0,1]")
    assert found == members(body.replace(b"nnn", b"\\u006enn"))


def test_numbers_in_a_long_array_count_however_they_are_spaced() -> None:
    numbers = [*range(100_000)]
    close = json.dumps(numbers, separators=(",", ":"))
    assert canonical(close) == canonical(json.dumps(numbers)) == canonical(json.dumps(numbers, indent=3))
    assert canonical(close) != canonical(close.replace("77777,", "77778,"))


def test_a_body_may_be_so_deep_and_no_deeper() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * (MAX_DEPTH - 1) + b"1" + closing * (MAX_DEPTH - 1)
        assert reason(b'{"a":' + deep + b"}") is None
        assert reason(b'{"a":' + opening + deep + closing + b"}") == "too_deep"


def test_an_object_may_have_so_many_members_and_no_more() -> None:
    assert reason(b'{"a":{%b}}' % b",".join(b'"%d":1' % number for number in range(MAX_MEMBERS))) is None
    assert reason(b'{"a":{%b}}' % b",".join(b'"%d":1' % number for number in range(MAX_MEMBERS + 1))) == "too_complex"


LARGE = {  # a unit that is repeated inside of {"a":[...]}
    "small strings": b'"abcdefg",',
    "objects": b'{"b":1},',
    "nested objects": b'[{"b":[{}]}],',
    "messages": b'{"role":"user","content":"How long does it take?\\n"},',
    "members": b'{"ba":1,"bb":2,"bc":3,"bd":4,"be":5},',
    "numbers": b"1234567, ",
    "escapes": b'"' + b"\\u00e9\\n" * 1000 + b'",',
    "strings of a step": b'"' + b"x" * 131_000 + b'",',
    "strings of more than a step": b'"' + b"x" * 132_000 + b'",',
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_body_takes_little_at_a_time_or_is_refused(kind: str) -> None:
    unit = LARGE[kind]
    body = b'{"a":[' + unit * (8 * MEBIBYTE // len(unit)) + b"1]}"
    steps = scan(body, b"")
    longest = 0.0
    began = before = time.process_time()
    refused = None
    try:
        for _ in steps:
            now = time.process_time()
            longest = max(longest, now - before)
            before = now
    except Uncacheable as error:
        refused = error.reason
    assert refused == ("too_complex" if body.count(b"{") + body.count(b'",') > MAX_TOKENS else None)
    assert longest < 0.1
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 8_000_000,
        b'{"a":' * 1_000_000,
        b'{"a":"' + b"\\" * 8_000_000,
        b'{"a":["' + b'\\"' * 4_000_000,
        b'{"a":[' + b"1," * 4_000_000,
    ],
)
def test_what_does_not_end_is_refused_in_linear_time(body: bytes) -> None:
    began = time.process_time()
    assert reason(body) in ("not_json", "too_deep")
    assert time.process_time() - began < 2


def test_a_long_string_is_not_copied_whole() -> None:
    body = b'{"a":"' + b"x" * (4 * MEBIBYTE) + b'\\u00e9"}'
    tracemalloc.start()
    members(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * MEBIBYTE


def test_the_reasons_are_words_for_a_label() -> None:
    assert {"not_json", "duplicate_member", "too_deep", "too_complex"} < REASONS
    assert all(each.replace("_", "").isalpha() and each.islower() for each in REASONS)
