"""The event-stream decoder against web-platform-tests' vectors, and the encoder against the decoder."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.wire.eventstream import Event, EventStreamDecoder, EventTooLong, comment, encode_event, is_event_stream

BOM = b"\xef\xbb\xbf"


def decode(stream: bytes, size: int = 0) -> tuple[list[Event], EventStreamDecoder]:
    decoder = EventStreamDecoder()
    events = []
    for at in range(0, len(stream), size or len(stream) or 1):
        events += decoder.feed(stream[at : at + size] if size else stream)
    return events, decoder


VECTORS: dict[str, tuple[bytes, list[str]]] = {
    "W1 event-data": (
        b"data:msg\ndata:msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
        ["msg\nmsg", "", "end"],
    ),
    "W2 bom": (BOM + b"data:1\n\n" + BOM + b"data:2\n\ndata:3\n\n", ["1", "3"]),
    "W3 bom-2": (BOM + BOM + b"data:1\n\ndata:2\n\ndata:3\n\n", ["2", "3"]),
    "W4 comments": (
        b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 2049 + b"\rdata:3\n:data:fail\r:" + b"x" * 2049 + b"\ndata:4\n\n",
        ["1\n2\n3\n4"],
    ),
    "W5 final": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", ["test1"]),
    "W6 field-data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"]),
    "W9 parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
        ["\0\n 2\n1\n3\n\n4"],
    ),
    "W13 unknown": (b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", ["test\n\ntest"]),
    "W14 leading": (b"data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"]),
    "W15 newlines": (b"data:test\r\ndata\ndata:test\r\n\r", ["test\n\ntest"]),
    "W16 null character": (b"data:\0\n\n\n\n", ["\0"]),
    "W17 utf-8": (b"data:ok\xe2\x80\xa6\n\n", ["ok\u2026"]),
    "W21 CRLF cut": (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    "no UTF-8": (b"data:a\xff\xe2\x80b\n\n", ["a\ufffd\ufffdb"]),
}
SIZES = pytest.mark.parametrize("size", [0, 1, 2, 3, 37])


@SIZES
@pytest.mark.parametrize("name", VECTORS)
def test_data_is_decoded_as_browsers_do(name: str, size: int) -> None:
    stream, expected = VECTORS[name]
    assert [event.data for event in decode(stream, size)[0]] == expected


@SIZES
def test_a_last_event_without_its_blank_line_is_dropped_with_its_id(size: int) -> None:
    events, decoder = decode(VECTORS["W5 final"][0], size)
    assert events == [Event("message", "test1", "", 1000)]
    assert decoder.last_event_id == ""


@SIZES
@pytest.mark.parametrize(
    ("stream", "types"),
    [
        (b"event: \ndata:data\n\n", ["message"]),  # W7
        (b"event:test\ndata:x\n\ndata:x\n\n", ["test", "message"]),  # W8
        (b"event:lost\n\ndata:x\n\n", ["message"]),
    ],
)
def test_the_event_line_names_the_type_of_one_event(stream: bytes, types: list[str], size: int) -> None:
    assert [event.type for event in decode(stream, size)[0]] == types


@SIZES
@pytest.mark.parametrize(
    ("stream", "retry"),
    [
        (b"retry:3000\nretry:1000x\ndata:x\n\n", 3000),  # W10
        (b"retry\ndata:test\n\n", None),  # W11
        (b"retry:03000\ndata:x\n\n", 3000),  # W12
        (b"retry:-1\nretry:+1\nretry: 1 \nretry:\xd9\xa1\ndata:x\n\n", None),
        (b"retry:" + b"9" * 5000 + b"\ndata:x\n\n", None),
    ],
)
def test_retry_is_digits_or_nothing(stream: bytes, retry: int | None, size: int) -> None:
    events, decoder = decode(stream, size)
    assert (events[0].retry, decoder.retry) == (retry, retry)


@SIZES
@pytest.mark.parametrize(
    ("stream", "ids"),
    [
        (b"id:1\ndata:a\n\ndata:b\n\n", ["1", "1"]),
        (b"id:1\ndata:a\n\nid:2\ndata:b\n\ndata:c\n\n", ["1", "2", "2"]),
        (b"id:1\ndata:a\n\nid\ndata:b\n\ndata:c\n\n", ["1", "", ""]),
        (b"id:1\n\ndata:b\n\n", ["1"]),
    ],
)
def test_ids_are_kept_across_events(stream: bytes, ids: list[str], size: int) -> None:  # W18
    events, decoder = decode(stream, size)
    assert [event.id for event in events] == ids
    assert decoder.last_event_id == ids[-1]


@SIZES
@pytest.mark.parametrize("value", [b"\0\0", b"x\0", b"\0x", b"x\0x", b" \0"])
def test_an_id_with_nul_is_no_id(value: bytes, size: int) -> None:  # W19
    events, decoder = decode(b"id:" + value + b"\ndata:a\n\n", size)
    assert events == [Event("message", "a")]
    assert decoder.last_event_id == ""


@pytest.mark.parametrize("size", [1, 2])
def test_a_stream_shorter_than_a_byte_order_mark_is_read(size: int) -> None:
    assert decode(b"\n", size)[0] == []
    assert decode(b"\xefdata\n\ndata\n\n", size)[0] == [Event("message", "")]


@given(
    st.lists(
        st.sampled_from([b"data", b"id", b"event", b":", b": ", b"\r", b"\n", b"\r\n", b"x", BOM, b"\xe2", b"\n\n", b"7"]), max_size=30
    ),
    st.data(),
)
def test_any_cut_gives_the_same_events(pieces: list[bytes], draw: st.DataObject) -> None:
    stream = b"".join(pieces)
    at = draw.draw(st.integers(0, len(stream)))
    decoder = EventStreamDecoder()
    cut = decoder.feed(stream[:at]) + decoder.feed(stream[at:])
    assert cut == decode(stream)[0] == decode(stream, 1)[0]


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=8)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), LINES, LINES, st.integers(0, 10**9))
def test_what_is_encoded_decodes_to_itself(data: str, kind: str, ident: str, retry: int) -> None:
    normal = data.replace("\r\n", "\n").replace("\r", "\n")
    assert decode(encode_event(data, kind, ident, retry))[0] == [Event(kind, normal, ident, retry)]
    assert encode_event(data) == encode_event(data.encode())


def test_encoded_bytes_are_the_usual_ones() -> None:
    assert encode_event('{"a":1}') == b'data: {"a":1}\n\n'
    assert encode_event(b"a\nb", event="e", id="1", retry=5) == b"event: e\nid: 1\nretry: 5\ndata: a\ndata: b\n\n"
    assert comment("txsse") == b": txsse\n"
    assert comment("a\r\nb\rc") == b": a\n: b\n: c\n"


@pytest.mark.parametrize(("event", "ident"), [("a\nb", None), ("a\r", None), (None, "a\nb"), (None, "a\0")])
def test_a_newline_cannot_be_smuggled_into_a_field(event: str | None, ident: str | None) -> None:
    with pytest.raises(ValueError, match="newline"):
        encode_event("x", event, ident)


def test_a_time_to_reconnect_is_not_negative() -> None:
    with pytest.raises(ValueError, match="retry"):
        encode_event("x", retry=-1)


@pytest.mark.parametrize("stream", [b"data:" + b"x" * 200, b"data:xxxxxxxxx\n" * 30, b":" + b"x" * 200, b"data:" + b"x" * 200 + b"\n\n"])
@SIZES
def test_an_event_over_the_bound_is_an_error(stream: bytes, size: int) -> None:
    decoder = EventStreamDecoder(max_event_bytes=100)
    with pytest.raises(EventTooLong):
        for at in range(0, len(stream), size or 1000):
            decoder.feed(stream[at : at + (size or 1000)])


def test_many_events_under_the_bound_are_none() -> None:
    decoder = EventStreamDecoder(max_event_bytes=100)
    assert len(decoder.feed(b": comment\ndata: x\n\n" * 100)) == 100


def test_an_endless_line_in_single_bytes_costs_linear_time() -> None:
    decoder = EventStreamDecoder(1 << 20)
    began = time.process_time()
    for _ in range(400_000):
        decoder.feed(b"x")
    assert time.process_time() - began < 4
    assert decoder.feed(b"\ndata:a\n\n") == [Event("message", "a")]


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"text/event-stream", True),
        (b"text/event-stream;charset=UTF-8", True),
        (b"text/event-stream;", True),
        (b" Text/Event-Stream ; charset=utf-8", True),
        (b"text/event-stream-foo", False),
        (b"text/html", False),
        (b"", False),
        (None, False),
    ],
)
def test_the_media_type_decides_what_is_an_event_stream(content_type: bytes | None, expected: bool) -> None:  # W20
    assert is_event_stream(content_type) is expected


def test_the_last_event_id_of_the_connection_before_holds_until_another_one_comes() -> None:
    decoder = EventStreamDecoder(last_event_id="7")
    assert decoder.last_event_id == "7"
    assert [event.id for event in decoder.feed(b"data: a\n\nid: 8\ndata: b\n\nid\ndata: c\n\n")] == ["7", "8", ""]
