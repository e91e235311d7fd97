"""Cache-Control and Pragma: what counts, and what is passed over."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.directives import MAX_AGE, Directives, parse


def parsed(*lines: bytes) -> Directives:
    return parse([(b"Cache-Control", line) for line in lines])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"no-cache", Directives(no_cache=True)),
        (b"no-store", Directives(no_store=True)),
        (b"only-if-cached", Directives(only_if_cached=True)),
        (b"private", Directives(private=True)),
        (b"max-age=60", Directives(max_age=60)),
        (b'max-age="60"', Directives(max_age=60)),
        (b"max-age = 60", Directives(max_age=60)),
        (b"max-age=0", Directives(max_age=0)),
        (b"max-age=00000000000000000007", Directives(max_age=7)),
        (b"NO-Cache, No-Store\t,MAX-AGE=1", Directives(no_cache=True, no_store=True, max_age=1)),
        (b"no-cache,no-transform,,  , public, s-maxage=3, immutable", Directives(no_cache=True)),
        (b"", Directives()),
        (b"public", Directives()),
        (b"x-no-store, no-store-x, nostore, no_store, no", Directives()),
    ],
)
def test_directives_are_read(line: bytes, expected: Directives) -> None:
    assert parsed(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'ext="a, no-store, b"', Directives()),
        (b'ext="a\\", no-store, \\"b", no-cache', Directives(no_cache=True)),
        (b'"no-store"', Directives()),
        (b'ext="a=b, max-age=1"; private, max-age=5', Directives(max_age=5)),
        (b'private="x-a, no-store"', Directives(private=True)),
        (b'no-cache="set-cookie, private"', Directives()),
        (b"no-cache=set-cookie", Directives()),
        (b'no-cache="set-cookie", no-cache', Directives(no_cache=True)),
        (b'no-cache=""', Directives(no_cache=True)),
        (b"no-store=1", Directives(no_store=True)),
    ],
)
def test_what_is_quoted_is_an_argument(line: bytes, expected: Directives) -> None:
    assert parsed(line) == expected


def test_after_a_quote_left_open_every_comma_separates() -> None:
    assert parsed(b'ext="a, no-store, b') == Directives(no_store=True)


def test_a_quote_left_open_ends_with_its_line() -> None:
    assert parsed(b'ext="a', b'no-store, ext="') == Directives(no_store=True)


def test_of_directives_given_twice_the_more_restrictive_counts() -> None:
    assert parsed(b"max-age=60, max-age=5", b"max-age=30") == Directives(max_age=5)
    assert parsed(b"private", b"no-store, private") == Directives(private=True, no_store=True)


@pytest.mark.parametrize("age", [b"4294967296", b"2147483649", b"9" * 5000, b"1" + b"0" * 10])
def test_a_huge_age_is_bounded(age: bytes) -> None:
    assert parsed(b"max-age=" + age) == Directives(max_age=MAX_AGE)


@pytest.mark.parametrize("line", [b"max-age", b"max-age=", b"max-age=-1", b"max-age=1.5", b"max-age=abc", b"max-age=1s", b"max-age=\xb2"])
def test_an_age_that_is_no_number_is_stale(line: bytes) -> None:
    assert parsed(line) == Directives(max_age=0)


def test_pragma_counts_only_without_cache_control() -> None:
    assert parse([(b"pragma", b"No-Cache")]) == Directives(no_cache=True)
    assert parse([(b"Pragma", b"x, no-cache")]) == Directives(no_cache=True)
    assert parse([(b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=3")]) == Directives(max_age=3)
    assert parse([(b"Pragma", b"no-store, max-age=1")]) == Directives()


def test_a_head_without_either_field_makes_no_object() -> None:
    assert parse([(b"Accept", b"*/*")]) is parse([])
    assert parse([]) == Directives()


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_are_an_error(lines: list[bytes]) -> None:
    directives = parsed(*lines)
    assert directives.max_age is None or 0 <= directives.max_age <= MAX_AGE


PARTS = st.sampled_from(
    [b"no-cache", b"no-store", b"private", b"max-age=5", b"max-age=9", b'x="no-store, \\""', b"public", b"", b'no-cache="a"']
)


@given(st.lists(PARTS, max_size=6), st.data())
def test_how_directives_are_split_into_lines_and_ordered_does_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    assert parsed(b", ".join(shuffled[:cut]), b",".join(shuffled[cut:])) == parsed(b" , ".join(parts))


@pytest.mark.parametrize("line", [b'"\\' * 40_000, b'"' * 80_001, b"," * 80_000, b'a="' + b"\\" * 80_000, b"a" * 80_000, b'"",' * 30_000])
def test_no_line_takes_long(line: bytes) -> None:
    began = time.process_time()
    assert parsed(line, b"no-store") == Directives(no_store=True)
    assert time.process_time() - began < 0.5
