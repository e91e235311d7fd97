"""The path of body bytes: cut elsewhere, never changed, and the turns of a stream told once and in order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.dialects import DIALECTS
from txsse.dialects.base import Filter, Witness
from txsse.dialects.progress import Progress
from txsse.dialects.usage import Usage, UsageWitness
from txsse.exchange.relay import DocumentRelay, PaddedRelay, Phase, PlainRelay, StreamRelay

BOM = b"\xef\xbb\xbf"
EVENT = b'data: {"id":"1"}\n\n'
DONE = b"data: [DONE]\n\n"


class Listener:
    """A relay, what it told and how many bytes were out by then."""

    def __init__(
        self,
        *,
        dialect: str = "openai-chat",
        hold_bytes: int = 65536,
        spoke: bool = False,
        comments_count: bool = True,
        ids: bool = False,
        filters: tuple[Filter, ...] = (),
        witness: Witness | None = None,
        follow: bool = False,
    ) -> None:
        self.told: list[tuple[Phase, int]] = []
        self.out = b""
        self.relay = StreamRelay(
            DIALECTS[dialect],
            hold_bytes,
            self,
            spoke=spoke,
            comments_count=comments_count,
            watch_ids=ids,
            filters=filters,
            witness=witness,
            follow=follow,
        )

    def turned(self, phase: Phase) -> None:
        self.told.append((phase, len(self.out)))

    def feed(self, *pieces: bytes) -> bytes:
        before = len(self.out)
        for piece in pieces:
            self.out += self.relay.feed(piece)
        return self.out[before:]

    def end(self) -> bytes:
        self.out += self.relay.end()
        return self.out

    @property
    def phases(self) -> list[Phase]:
        return [phase for phase, _ in self.told]


def cuts(stream: bytes, at: list[int]) -> list[bytes]:
    points = [0, *sorted({min(each, len(stream)) for each in at}), len(stream)]
    return [piece for start, end in pairwise(points) if (piece := stream[start:end])]


line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
words = st.sampled_from([b"data: x", b"data: [DONE]", b": ping", b"id: 1", b"", b"", b"event: a", b'data: {"a":"[DONE]"}', b":", b"data"])
streams = st.lists(st.tuples(words, line_ends), max_size=30).map(lambda lines: b"".join(word + end for word, end in lines))
raw = st.binary(max_size=60)


@given(
    stream=st.one_of(streams, streams.map(lambda it: BOM + it), st.builds(bytes.__add__, streams, raw)),
    at=st.lists(st.integers(0, 400), max_size=40),
    hold_bytes=st.sampled_from([0, 5, 64, 65536]),
    spoke=st.booleans(),
)
def test_any_cut_of_the_input_gives_the_same_bytes(stream: bytes, at: list[int], hold_bytes: int, spoke: bool) -> None:
    whole, pieces = Listener(spoke=spoke), Listener(spoke=spoke, hold_bytes=hold_bytes)
    whole.feed(stream)
    pieces.feed(*cuts(stream, at))
    expected = stream.removeprefix(BOM) if spoke else stream
    assert whole.end() == expected
    if hold_bytes >= 64 or not spoke:  # a BOM cut by a tiny hold bound is no BOM
        assert pieces.end() == expected


@given(stream=streams, at=st.lists(st.integers(0, 400), max_size=40))
def test_the_turns_are_told_once_in_order_and_the_same_for_any_cut(stream: bytes, at: list[int]) -> None:
    whole, pieces = Listener(), Listener()
    whole.feed(stream)
    whole.end()
    pieces.feed(*cuts(stream, at))
    pieces.end()
    order = [Phase.FIRST_BYTE, Phase.FIRST_EVENT, Phase.TERMINAL]
    assert pieces.phases == whole.phases
    assert pieces.phases == order[: len(pieces.phases)]


@given(stream=streams, at=st.lists(st.integers(0, 400), max_size=40))
def test_a_turn_is_told_before_its_bytes_are_handed_out(stream: bytes, at: list[int]) -> None:
    listener = Listener()
    listener.feed(*cuts(stream, at))
    listener.end()
    for phase, out in listener.told:
        if phase is Phase.FIRST_BYTE:
            assert out == 0
        elif phase is Phase.TERMINAL:
            assert not DIALECTS["openai-chat"].is_terminal(listener.out[:out] + b"\n\n" if out else b"")


@given(stream=streams, at=st.lists(st.integers(0, 400), max_size=40))
def test_words_of_ours_go_only_between_events(stream: bytes, at: list[int]) -> None:
    """A line put in wherever the relay allows it never ends up inside an event, nor between a CR and its LF."""
    listener = Listener()
    listener.relay.spoke = True
    with_words = b""
    for piece in cuts(stream, at):
        with_words += listener.feed(piece)
        if listener.relay.may_speak():
            with_words += b": txsse\n"
    with_words += listener.relay.end()
    assert with_words.replace(b": txsse\n", b"") == stream
    assert events(with_words) == events(stream)


def events(stream: bytes) -> list[bytes]:
    """The events as a parser sees them, comments left out; the unfinished last one as it is."""
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [
        block for text in b"\n".join(line for line in lines if not line.startswith(b":")).split(b"\n\n") if (block := text.strip(b"\n"))
    ]


# -- the byte order mark


@pytest.mark.parametrize(("spoke", "out"), [(False, BOM + EVENT), (True, EVENT)])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_bom_is_dropped_only_when_we_spoke_first(spoke: bool, out: bytes, size: int) -> None:
    listener = Listener(spoke=spoke)
    stream = BOM + EVENT
    assert listener.feed(*(stream[at : at + size] for at in range(0, len(stream), size))) == out
    assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT]


def test_only_the_first_bytes_can_hold_a_bom() -> None:
    listener = Listener(spoke=True)
    listener.feed(b": ping\n\n", BOM + EVENT)
    assert listener.out == b": ping\n\n" + BOM + EVENT


# -- the first event


@pytest.mark.parametrize("comment", [b": ping\n", b": ping\n\n", b":\r\n\r\n", BOM + b": ping\n\n", b"\n\n"])
def test_comments_and_blank_lines_are_bytes_but_no_event(comment: bytes) -> None:
    listener = Listener()
    listener.feed(comment)
    assert listener.phases == [Phase.FIRST_BYTE]
    listener.feed(EVENT)
    assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT]


def test_half_an_event_is_no_turn() -> None:
    listener = Listener()
    assert listener.feed(b"data: x\n") == b""
    assert listener.phases == []
    assert listener.relay.may_speak()
    assert listener.feed(b"\n") == b"data: x\n\n"
    assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT]


def test_an_unfinished_last_event_is_handed_out_at_the_end() -> None:
    listener = Listener()
    listener.feed(b"data: x")
    assert listener.end() == b"data: x"
    assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT]
    assert listener.relay.cut_inside_event


# -- the terminal event


@pytest.mark.parametrize("mark", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE]\r\r", b"id: 1\ndata: [DONE]\n\n"])
def test_the_terminal_event_is_seen_wherever_it_is_cut(mark: bytes) -> None:
    stream = EVENT + mark
    for at in range(1, len(stream)):
        listener = Listener()
        listener.feed(stream[:at], stream[at:])
        assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT, Phase.TERMINAL], at
        assert listener.end() == stream


@pytest.mark.parametrize("rest", [b"data: [DONE]", b"data: [DONE]\n"])
def test_a_terminal_line_at_the_very_end_counts(rest: bytes) -> None:
    listener = Listener()
    listener.feed(EVENT, rest)
    assert Phase.TERMINAL not in listener.phases
    assert listener.end() == EVENT + rest
    assert listener.phases[-1] is Phase.TERMINAL


@pytest.mark.parametrize(
    "event",
    [b'data: {"content":"data: [DONE]"}\n\n', b"data: x[DONE]\n\n", b": [DONE]\n\n", b"data: [DONE] \n\n", b"id: [DONE]\ndata: 1\n\n"],
)
def test_done_in_the_text_of_an_event_ends_nothing(event: bytes) -> None:
    listener = Listener()
    listener.feed(event)
    listener.end()
    assert Phase.TERMINAL not in listener.phases


def test_a_dialect_without_a_terminal_event_has_none() -> None:
    listener = Listener(dialect="sse")
    listener.feed(EVENT + DONE)
    listener.end()
    assert listener.phases == [Phase.FIRST_BYTE, Phase.FIRST_EVENT]


def test_a_second_done_is_relayed_and_not_told() -> None:
    listener = Listener()
    listener.feed(DONE, DONE)
    assert listener.out == DONE + DONE
    assert listener.phases.count(Phase.TERMINAL) == 1


def test_the_terminal_event_is_seen_in_the_read_that_ends_an_event_past_the_hold_bound() -> None:
    listener = Listener(hold_bytes=8)
    listener.feed(b'data: "long, long')
    assert listener.relay.cut_inside_event
    listener.feed(b' text"\n\n' + DONE)
    assert listener.phases[-1] is Phase.TERMINAL


def test_a_terminal_line_inside_an_event_past_the_hold_bound_ends_nothing() -> None:
    listener = Listener(hold_bytes=8)
    listener.feed(b'data: "the mark is ', b"data: [DONE]\n\n")
    assert Phase.TERMINAL not in listener.phases


# -- past the hold bound


def test_past_the_hold_bound_bytes_pass_as_they_come_until_the_next_boundary() -> None:
    listener = Listener(hold_bytes=8)
    assert listener.feed(b"data: 12") == b""
    assert listener.feed(b"3") == b"data: 123"
    assert listener.relay.cut_inside_event
    assert not listener.relay.may_speak()
    assert listener.feed(b"4\n") == b"4\n"
    assert not listener.relay.may_speak()
    assert listener.feed(b"\ndata") == b"\n"
    assert not listener.relay.cut_inside_event
    assert listener.relay.may_speak()


def test_an_endless_line_passes_with_bounded_memory() -> None:
    listener = Listener(hold_bytes=1024)
    piece = b"x" * 1000
    out = sum(len(listener.relay.feed(piece)) for _ in range(1000))
    assert out >= 1_000_000 - 1024
    assert not listener.relay.may_speak()


# -- lone CR


def test_after_a_cr_whose_lf_may_still_come_nothing_is_said() -> None:
    listener = Listener()
    listener.feed(b"data: a\r\n\r")
    assert not listener.relay.may_speak()
    listener.feed(b"\n")
    assert listener.relay.may_speak()


def test_a_lone_cr_is_a_boundary_once_the_stream_has_shown_such_endings() -> None:
    listener = Listener()
    assert listener.feed(b"data: a\rdata: b\r\r") == b"data: a\rdata: b\r\r"
    assert listener.relay.may_speak()


# -- ids, and comments that do not count


@pytest.mark.parametrize(("event", "seen"), [(b"id: 1\ndata: x\n\n", True), (b"data: x\nid\n\n", True), (b"data: id: 1\n\n", False)])
def test_ids_are_watched_where_it_matters(event: bytes, seen: bool) -> None:
    watching, other = Listener(ids=True), Listener()
    for listener in (watching, other):
        listener.feed(event)
    assert watching.relay.id_seen is seen
    assert not other.relay.id_seen


@pytest.mark.parametrize(
    ("event", "seen"),
    [(b"event: note\nid: 1\ndata: x\n\n", True), (b"event: note\rid\r\r", True), (b"event: of id:1 id: 2\nidle: x\n\n", False)],
)
def test_ids_are_seen_wherever_an_event_past_the_hold_bound_is_cut(event: bytes, seen: bool) -> None:
    for pieces in ([bytes([each]) for each in event], *([event[:at], event[at:]] for at in range(1, len(event)))):
        listener = Listener(ids=True, hold_bytes=8)
        listener.feed(*pieces)
        assert listener.relay.id_seen is seen, pieces


@pytest.mark.parametrize(
    ("piece", "quiet"),
    [
        (b": ping\n\n", True),
        (b": ping\n", True),
        (b": a\n: b\n\n", True),
        (EVENT, False),
        (b": ping\n\n" + EVENT, False),
        (b"data: h", False),
    ],
)
def test_quiet_is_a_read_of_comments_alone_where_they_do_not_count(piece: bytes, quiet: bool) -> None:
    listener = Listener(comments_count=False)
    listener.feed(piece)
    assert listener.relay.quiet is quiet
    listener.feed(b"\n\n" + EVENT)
    assert not listener.relay.quiet


def test_where_comments_count_nothing_is_quiet() -> None:
    listener = Listener()
    listener.feed(b": ping\n\n")
    assert not listener.relay.quiet


def test_a_plain_body_passes_untouched_and_nothing_is_said_in_it() -> None:
    relay = PlainRelay()
    assert relay.feed(b"\xef\xbb\xbfdata: half") == b"\xef\xbb\xbfdata: half"
    assert relay.end() == b""
    assert not relay.may_speak()
    assert not relay.quiet


# -- what only some streams need


def test_filters_follow_each_other_and_see_whole_events_only() -> None:
    listener = Listener(filters=(lambda data: data.replace(b"x", b"y"), lambda data: data.replace(b"y", b"z")))
    assert listener.feed(b"data: x", b"x\n") == b""
    assert listener.feed(b"\ndata: x") == b"data: zz\n\n"
    assert listener.end() == b"data: zz\n\ndata: z"


def test_the_turns_of_a_filtered_stream() -> None:
    """The first byte is upstream's, the first event the client's; what ends the stream does, whatever becomes of it."""
    listener = Listener(spoke=True, filters=(lambda data: b"",))
    listener.feed(BOM + EVENT)
    assert listener.phases == [Phase.FIRST_BYTE]
    listener.feed(DONE)
    assert listener.phases == [Phase.FIRST_BYTE, Phase.TERMINAL]
    assert listener.out == b""


def test_a_filter_gets_no_bom_that_was_dropped() -> None:
    seen: list[bytes] = []

    def note(data: bytes) -> bytes:
        seen.append(data)
        return data

    Listener(spoke=True, filters=(note,)).feed(BOM + EVENT)
    Listener(spoke=False, filters=(note,)).feed(BOM + EVENT)
    assert seen == [EVENT, BOM + EVENT]


class Once:
    """A witness that wants to see two reads."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def see(self, frames: bytes) -> bool:
        self.seen.append(frames)
        return len(self.seen) < 2


def test_a_witness_sees_what_upstream_said_until_it_has_seen_enough() -> None:
    witness = Once()
    listener = Listener(witness=witness, filters=(lambda data: b"",))
    listener.feed(EVENT, b"data: ha", b"lf\n\n", EVENT)
    assert witness.seen == [EVENT, b"data: half\n\n"]


def test_progress_is_that_of_the_last_event() -> None:
    listener = Listener(follow=True)
    told = b'data: {"prompt_progress":{"total":4,"cache":0,"processed":%d,"time_ms":10}}\n\n'
    listener.feed(told % 1, b": ping\n\n", b"data: ha")
    assert listener.relay.progress == Progress("prefill", 1, 4, 0, 0.01)
    listener.feed(b"lf\n\n")
    assert listener.relay.progress is None
    listener.feed(told % 2 + told % 3)
    assert listener.relay.progress == Progress("prefill", 3, 4, 0, 0.01)
    other = Listener()
    other.feed(told % 1)
    assert other.relay.progress is None


def test_what_needs_nothing_is_not_attended_to_once_it_has_begun() -> None:
    for needs, attentive in (({}, False), ({"ids": True}, True), ({"follow": True}, True), ({"comments_count": False}, True)):
        listener = Listener(**needs)  # type: ignore[arg-type]  # one flag each
        listener.feed(EVENT)
        assert listener.relay.attentive is attentive
    listener = Listener(ids=True)
    listener.feed(b"id: 1\ndata: x\n\n")
    assert not listener.relay.attentive


# -- a body with blanks before it


@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_padded_body_tells_its_first_byte_and_is_none_of_our_business_then(mark: bytes) -> None:
    told: list[Phase] = []

    class Note:
        def turned(self, phase: Phase) -> None:
            told.append(phase)

    relay = PaddedRelay("openai-chat", Note())
    assert relay.feed(mark + b'{"a":') == b'{"a":'
    assert told == [Phase.FIRST_BYTE]
    assert relay.feed(BOM + b"1}") == BOM + b"1}"
    assert told == [Phase.FIRST_BYTE]
    assert relay.end() == b""
    assert not relay.may_speak()
    assert not relay.quiet


def test_a_document_tells_its_usage_however_it_was_cut() -> None:
    body = b'{"id":"1","model":"tiny","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}'
    for cut in range(len(body)):
        relay = DocumentRelay("openai-chat")
        assert relay.feed(body[:cut]) + relay.feed(body[cut:]) + relay.end() == body
        assert relay.read_usage()[0] == Usage(11, 2)
    assert DocumentRelay("openai-chat").read_usage() == (None, "")


class Nobody:
    def turned(self, phase: Phase) -> None: ...


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""])
def test_a_stream_tells_its_last_usage_even_if_its_last_event_is_not_ended(end: bytes) -> None:
    relay = StreamRelay(
        DIALECTS["openai-chat"],
        65536,
        Nobody(),
        spoke=False,
        comments_count=True,
        watch_ids=False,
        filters=(),
        witness=None,
        follow=False,
        usage=UsageWitness("openai-chat"),
    )
    relay.feed(b'data: {"id":"1","usage":{"total_tokens":3}}\n\n')
    relay.feed(b'data: {"id":"1","usage":{"prompt_tokens":5,\ndata: "completion_tokens":3}}' + end)
    relay.end()
    assert relay.read_usage() == (Usage(5, 3), "")
