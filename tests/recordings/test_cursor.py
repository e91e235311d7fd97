"""Cursors, wherever clients put them: what is one is understood, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.proxy.streams import new_sid
from txsse.recordings.cursor import BadCursor, Cursor, is_mangled, is_sid, ours, parameters, parse_cursor

SID = b"AbCd_-0123456789ABCDEF"
OTHER = b"B" * 22


def header(value: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Last-Event-ID", value)]


@pytest.mark.parametrize(
    ("told", "cursor"),
    [
        (SID + b".1", Cursor(1)),
        (SID + b".0", Cursor(0)),
        (SID + b".9999999999", Cursor(9_999_999_999)),
        (b"  " + SID + b".7 ", Cursor(7)),
        (b"", Cursor()),
        (b"earliest", Cursor()),
        (b"0", Cursor()),
        (b"-1", Cursor()),
        (b"evt_1", Cursor(foreign=b"evt_1")),
        (b"5", Cursor(foreign=b"5")),
        (b"undefined", Cursor(foreign=b"undefined")),
    ],
)
def test_an_id_means_the_same_in_the_field_and_in_the_query(told: bytes, cursor: Cursor) -> None:
    assert parse_cursor(SID, header(told), {}) == cursor
    assert parse_cursor(SID, [], {b"last_event_id": told}) == cursor


@pytest.mark.parametrize(
    "told",
    [
        OTHER + b".1",
        SID,
        SID + b".",
        SID + b".x",
        SID + b".-5",
        SID + b".+5",
        SID + b".1.2",
        SID + b".10000000000",
        b"a" * 129,
        b"a\r\nb",
        b"a\0",
        b"a b",
        "é".encode(),
        b"\x7f",
    ],
)
def test_what_is_none_of_this_stream_is_refused(told: bytes) -> None:
    for headers, query in ((header(told), {}), ([], {b"last_event_id": told})):
        with pytest.raises(BadCursor):
            parse_cursor(SID, headers, query)


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        ({}, Cursor()),
        ({b"starting_after": b"7"}, Cursor(7)),
        ({b"starting_after": b"0"}, Cursor()),
        ({b"starting_after": b"-1"}, Cursor()),
        ({b"starting_after": b""}, Cursor()),
        ({b"starting_after": b"earliest"}, Cursor()),
        ({b"from": b"live"}, Cursor(live=True)),
        ({b"from": b"earliest"}, Cursor()),
        ({b"last_event_id": SID + b".3", b"starting_after": b"7", b"from": b"live"}, Cursor(3)),
        ({b"starting_after": b"7", b"from": b"live"}, Cursor(7)),
        ({b"last_event_id": b" ", b"starting_after": b"7"}, Cursor(7)),
        ({b"starting_after": b"", b"from": b"live"}, Cursor(live=True)),
        ({b"unknown": b"x"}, Cursor()),
    ],
)
def test_what_a_query_says(query: dict[bytes, bytes], cursor: Cursor) -> None:
    assert parse_cursor(SID, [], query) == cursor


def test_the_field_beats_the_query() -> None:
    assert parse_cursor(SID, header(SID + b".1"), {b"last_event_id": SID + b".2", b"starting_after": b"3"}) == Cursor(1)


def test_an_empty_field_does_not() -> None:
    assert parse_cursor(SID, header(b""), {b"starting_after": b"3"}) == Cursor(3)


@pytest.mark.parametrize(
    "query", [{b"starting_after": b"x"}, {b"starting_after": b"-5"}, {b"starting_after": b"1" * 11}, {b"from": b"here"}]
)
def test_a_slip_in_the_query_is_refused(query: dict[bytes, bytes]) -> None:
    with pytest.raises(BadCursor):
        parse_cursor(SID, [], query)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", {}),
        (b"from=live", {b"from": b"live"}),
        (b"last_event_id=a%2eb&x", {b"last_event_id": b"a.b", b"x": b""}),
        (b"starting_after=%D9%A1", {b"starting_after": b"\xd9\xa1"}),
        (b"last_event_id=a%0D%0a&a=%00+%zz", {b"last_event_id": b"a\r\n", b"a": b"\0 %zz"}),
    ],
)
def test_a_query_is_decoded_to_whatever_bytes_it_says(query: bytes, found: dict[bytes, bytes]) -> None:
    assert parameters(query) == found


@pytest.mark.parametrize("tail", [b"%D9%A1", b"%0d%0a", b"%0a", b"%00", b"%09"])
def test_bytes_that_no_id_has_are_refused_wherever_they_stand(tail: bytes) -> None:
    for query in (b"last_event_id=" + SID + b".1" + tail, b"last_event_id=" + tail, b"starting_after=1" + tail):
        if tail == b"%09" and query.startswith(b"last"):
            continue  # blanks around a header field's value are no part of it
        with pytest.raises(BadCursor):
            parse_cursor(SID, [], parameters(query))


@given(st.binary(max_size=200))
def test_any_query_can_be_read(query: bytes) -> None:
    assert all(isinstance(name, bytes) and isinstance(value, bytes) for name, value in parameters(query).items())


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_cursor_or_refused(told: bytes) -> None:
    try:
        cursor = parse_cursor(SID, header(told), {})
    except BadCursor as bad:
        assert str(bad).isascii()
    else:
        assert cursor.foreign is None or (cursor.foreign == told.strip() and all(32 < byte < 127 for byte in cursor.foreign))


@given(st.sampled_from(["", "a", "node-1_b"]), st.integers(0, 10**10 - 1))
def test_ids_of_ours_are_known_again_and_browsers_send_them_without_asking(node: str, seq: int) -> None:
    sid = new_sid(node).encode("ascii")
    assert is_sid(sid)
    told = b"%b.%d" % (sid, seq)
    assert ours(header(told)) == (sid, seq)
    assert parse_cursor(sid, header(told), {}) == Cursor(seq)
    # The Fetch standard's safelist, and its 128 bytes.
    assert len(told) <= 128 and not set(told) & set(b'"():<>?@[\\]{}\x7f')


def test_no_two_streams_have_one_id() -> None:
    assert len({new_sid() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("told", [b"evt_1", b"", SID, SID[1:] + b".1", SID + b".x", b"a b~" + SID + b".1", b"a" * 33 + b"~" + SID + b".1"])
def test_what_is_not_ours(told: bytes) -> None:
    assert ours(header(told)) is None


@pytest.mark.parametrize("text", [b"", SID[1:], SID + b"a", SID[1:] + b"/", SID[1:] + b".", b"~" + SID, SID + b"\n"])
def test_what_is_no_id_of_a_stream(text: bytes) -> None:
    assert not is_sid(text)


@pytest.mark.parametrize(
    ("told", "mangled"),
    [
        (b"%b.x", True),
        (b"%b.-5", True),
        (b"%b.", True),
        (b" a~%b.1.2 ", True),
        (b"%b.12345678901", True),
        (b"%b.5", False),
        (b"a~%b.5", False),
        (b"%b", False),  # as many characters as a UUID in base64 has
        (b"x%b.5", False),
        (b"abc", False),
        (b"abc.x", False),
        (b"", False),
    ],
)
def test_what_looks_like_an_id_of_ours_and_is_none(told: bytes, mangled: bool) -> None:
    assert is_mangled(header(told.replace(b"%b", SID))) is mangled
    assert not is_mangled([])
