"""Header fields: looked up without regard to case, and stripped of what belongs to one hop."""

from __future__ import annotations

from txsse.wire.headers import end_to_end, get, get_all, tokens, without

FIELDS = [
    (b"Accept", b"a"),
    (b"X-Dup", b"1"),
    (b"x-dup", b"2"),
    (b"Connection", b"Keep-Alive, ,X-Hop "),
    (b"CONNECTION", b"close"),
    (b"x-hop", b"h"),
]


def test_a_field_is_found_in_any_case() -> None:
    assert get(FIELDS, b"x-dup") == b"1"
    assert get_all(FIELDS, b"x-dup") == [b"1", b"2"]
    assert get(FIELDS, b"absent") is None


def test_list_members_of_all_lines_are_lower_cased() -> None:
    assert tokens(FIELDS, b"connection") == [b"keep-alive", b"x-hop", b"close"]


def test_fields_are_left_out_by_name() -> None:
    assert without(FIELDS, [b"x-dup", b"connection"]) == [(b"Accept", b"a"), (b"x-hop", b"h")]


def test_what_belongs_to_one_hop_is_not_passed_on() -> None:
    hop = [
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"x"),
        (b"Proxy-Authorization", b"y"),
        (b"Keep-Alive", b"1"),
    ]
    assert end_to_end(FIELDS + hop) == [(b"Accept", b"a"), (b"X-Dup", b"1"), (b"x-dup", b"2")]
