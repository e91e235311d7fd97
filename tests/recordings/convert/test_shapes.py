from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recordings.convert.strategies import WORDS
from txsse.recordings.convert.shapes import NotConvertible, joined, parse, read_events, read_object, words


@given(WORDS)
def test_slices_joined_are_the_text(text: str) -> None:
    slices = words(text)
    assert "".join(slices) == text
    assert all(slices)
    if text.strip():
        assert all(re.fullmatch(r"\s*\S+\s*", each) for each in slices)


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        ("", []),
        (" \n\t ", [" \n\t "]),
        ("word1  word2\n\tx", ["word1  ", "word2\n\t", "x"]),
        ("  a", ["  a"]),
        ("😀 é", ["😀 ", "é"]),
    ],
)
def test_a_slice_is_a_word_and_the_blanks_around_it(text: str, slices: list[str]) -> None:
    assert words(text) == slices


def test_a_very_long_text_is_cut_into_groups_of_words() -> None:
    text = "ab " * 10_000
    slices = words(text)
    assert "".join(slices) == text
    assert len(slices) <= 4096
    assert all(each.endswith(" ") for each in slices)


def test_a_megabyte_of_blanks_is_one_slice() -> None:
    assert words(" " * 1_000_000) == [" " * 1_000_000]


@given(st.lists(WORDS, min_size=1))
def test_texts_of_pieces_are_continued(texts: list[str]) -> None:
    whole: dict[str, Any] = {}
    for text in texts:
        whole = joined(whole, {"inner": {"text": text}})
    assert whole == {"inner": {"text": "".join(texts)}}


@pytest.mark.parametrize(
    ("known", "piece", "whole"),
    [
        ({"a": "x"}, {"a": None}, {"a": "x"}),
        ({"a": None}, {"a": "x"}, {"a": "x"}),
        ({}, {"a": None}, {"a": None}),
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
        ({"n": 1}, {"n": 2.5}, {"n": 2.5}),
        ({"role": "assistant"}, {"role": "assistant"}, {"role": "assistant"}),
        ({"id": "call"}, {"id": ""}, {"id": "call"}),
    ],
)
def test_pieces_are_put_together(known: dict[str, Any], piece: dict[str, Any], whole: dict[str, Any]) -> None:
    assert joined(known, piece) == whole


@pytest.mark.parametrize(("known", "piece"), [({"a": "x"}, {"a": ["y"]}), ({"a": 1}, {"a": {}}), ({"id": "one"}, {"id": "two"})])
def test_pieces_that_do_not_fit_are_refused(known: dict[str, Any], piece: dict[str, Any]) -> None:
    with pytest.raises(NotConvertible):
        joined(known, piece)


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"b":{"a":1,"a":2}}', "NaN", "-Infinity", "1e999", "{", "1" * 5000, "\ufeff{}"])
def test_what_would_be_changed_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize("text", ["[]", "1", '{"error":"x"}', '{"error":{}}', '{"object":"error","message":"x"}', '{"type":"error"}'])
def test_an_error_is_no_answer(text: str) -> None:
    with pytest.raises(NotConvertible):
        read_object(text)


def test_no_error_is_an_answer() -> None:
    assert read_object('{"error":null}') == {"error": None}


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert [event.data for event in read_events(b"data: 1\r\n\r\n: comment\ndata: 2")] == ["1", "2"]


def test_pings_say_nothing() -> None:
    assert read_events(b'event: ping\ndata: {"type": "ping"}\n\ndata:\n\nevent: ping\n\n') == []


@pytest.mark.parametrize("body", [b"event: error\ndata: {}\n\n", b"data: \xff\n\n"])
def test_a_stream_that_is_not_as_it_should_be_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_events(body)
