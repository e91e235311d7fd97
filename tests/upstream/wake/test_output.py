"""The end of what was printed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txsse.upstream.wake.output import LIMIT, Output


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_it_keeps_the_last_bytes_however_they_come(pieces: list[bytes], limit: int) -> None:
    output = Output(limit)
    for each in pieces:
        output.add(each)
    whole, text = b"".join(pieces), output.text()
    end = whole[-limit:]
    if len(whole) < limit or b"\n" not in end[:-1]:
        assert text == end.decode("utf-8", "replace")
    else:
        assert text == end.partition(b"\n")[2].decode("utf-8", "replace")


def test_what_was_cut_begins_with_a_whole_line() -> None:
    output = Output(16)
    output.add(b"first line\nsecond line\n")
    assert output.text() == "second line\n"


def test_the_tail_begins_with_a_whole_line() -> None:
    output = Output()
    output.add(b"one\ntwo\nthree\n")
    assert output.text(8) == "three\n"
    assert output.text(3) == "ee\n"
    assert output.text(1000) == "one\ntwo\nthree\n"


def test_memory_is_bounded_by_the_limit() -> None:
    output = Output()
    for _ in range(100):
        output.add(b"x" * 10_000)
    assert output.text() == "x" * LIMIT


def test_what_is_not_utf8_is_shown_all_the_same() -> None:
    output = Output()
    output.add(b"caf\xe9 \xe2\x82\xac\n")
    assert output.text() == "caf\ufffd \u20ac\n"
