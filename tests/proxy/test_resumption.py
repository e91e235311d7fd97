"""Which requests go on with a stream, from where, and what they are told of it."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from tests.fakes import a_request
from tests.proxy.test_resumable import BIG, SID, TRUNCATED, Resumed, event
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.interfaces import Request
from txsse.proxy.resumption import (
    ANONYMOUS,
    Resumption,
    body_hash,
    claim_of,
    place_notes,
    responds_async,
    scope_or_anonymous,
    split_path,
    summary,
    wants_ids,
)
from txsse.proxy.streams import Claim, Streams
from txsse.recordings.cursor import Cursor
from txsse.recordings.numbering import Ids
from txsse.wire.headers import Headers

KEY: Headers = [(b"Authorization", b"Bearer one")]
CHAT = DIALECTS["openai-chat"]


class Come(Resumed):
    """A stream, and those who want to go on with it."""

    def __init__(self, dialect: str = "openai-chat", *, max_readers: int = 64, on_gap: str = "skip", max_bytes: int = 1 << 20) -> None:
        super().__init__(dialect, max_readers=max_readers, on_gap=on_gap, max_bytes=max_bytes)
        self.counts: Counter[str] = Counter()
        self.streams = Streams(self.owner.alarms, self._count)
        self.resumption = Resumption(self.streams, self._count)
        self.streams.add(self.run)

    def _count(self, result: str) -> None:
        self.counts[result] += 1

    def place(self, cursor: Cursor) -> tuple[int, int] | None:
        return self.resumption.place(self.run, cursor)

    def code(self, cursor: Cursor) -> str:
        with pytest.raises(ProxyError) as caught:
            self.place(cursor)
        return caught.value.code

    def request(self, method: bytes = b"POST", *headers: tuple[bytes, bytes], body: bytes = b"{}") -> Request:
        return a_request(self.clock, method=method, headers=[*headers], body=body)


# -- places


@pytest.mark.parametrize(
    ("cursor", "place"), [(Cursor(), (0, 0)), (Cursor(1), (1, 0)), (Cursor(2), (2, 0)), (Cursor(9), (3, 0)), (Cursor(live=True), (2, 0))]
)
def test_while_it_runs_everybody_has_a_place(cursor: Cursor, place: tuple[int, int]) -> None:
    come = Come()
    come.streaming(event(1), event(2))
    assert come.place(cursor) == place
    assert come.counts == {"resumed": 1}


@pytest.mark.parametrize(
    ("cursor", "place"), [(Cursor(), (0, 0)), (Cursor(1), (1, 0)), (Cursor(2), None), (Cursor(9), None), (Cursor(live=True), None)]
)
def test_when_it_is_over_not_those_who_have_it_all(cursor: Cursor, place: tuple[int, int] | None) -> None:
    come = Come()
    come.streaming(event(1), event(2))
    come.ended()
    assert come.place(cursor) == place
    assert come.counts == {"resumed" if place else "complete": 1}


@pytest.mark.parametrize(("cursor", "place"), [(Cursor(1), (1, 0)), (Cursor(2), (2, 0)), (Cursor(3), None)])
def test_an_error_is_an_event_more(cursor: Cursor, place: tuple[int, int] | None) -> None:
    come = Come()
    come.streaming(event(1), event(2))
    come.failed(TRUNCATED)
    assert come.place(cursor) == place


def test_who_has_the_last_event_that_has_an_end_has_all() -> None:
    come = Come("sse")
    come.streaming(event(1) + b"data: 2")
    come.ended()
    assert come.place(Cursor(1)) is None


@pytest.mark.parametrize(("after", "gap"), [(0, 8), (7, 1), (8, 0), (9, 0)])
def test_what_is_not_kept_is_a_gap_of_its_size(after: int, gap: int) -> None:
    come = Come(max_bytes=51 * 1024)
    come.streaming(*[BIG] * 11)
    assert come.run.recording.first == 9
    assert come.place(Cursor(after)) == (after + gap, gap)
    assert come.counts == {"gap" if gap else "resumed": 1}
    assert dict(place_notes(come.run, gap)).get(b"X-Stream-Gap") == (b"%d" % gap if gap else None)


def test_or_a_refusal() -> None:
    come = Come(max_bytes=51 * 1024, on_gap="error")
    come.streaming(*[BIG] * 11)
    assert come.code(Cursor(7)) == "stream_gone"
    assert come.place(Cursor(8)) == (8, 0)
    assert come.counts == {"gap": 1, "resumed": 1}


def test_where_nothing_is_left_to_tell_of_a_stream_that_is_over_it_is_gone() -> None:
    come = Come()
    come.streaming(event(1), event(2), event(3))
    come.ended()
    come.run.recording.close()  # evicted
    for cursor in (Cursor(), Cursor(1), Cursor(2)):
        assert come.code(cursor) == "stream_gone"
    assert come.place(Cursor(live=True)) is None
    assert come.place(Cursor(3)) is None, "who has it all has it all"
    assert come.counts == {"gone": 3, "complete": 2}


def test_but_not_where_an_error_is_left() -> None:
    come = Come()
    come.streaming(event(1), event(2))
    come.failed(TRUNCATED)
    come.run.recording.close()
    assert [come.place(Cursor(after)) for after in (0, 2, 3)] == [(2, 2), (2, 0), None]


def test_part_of_a_document_is_told_to_nobody() -> None:
    come = Come(max_bytes=51 * 1024)
    come.join(asked=True)
    come.answer(200, b"application/json")
    come.body(*[b"x" * 16384] * 11)
    assert come.code(Cursor()) == "stream_gone"


def test_an_id_of_upstream_that_is_not_there() -> None:
    come = Come("sse", max_bytes=51 * 1024)
    come.streaming(b"id: a\n" + event(1))
    assert come.place(Cursor(foreign=b"a")) == (1, 0)
    assert come.code(Cursor(foreign=b"b")) == "bad_cursor"
    come.body(*[BIG] * 11)
    assert come.code(Cursor(foreign=b"a")) == "stream_gone", "it may have been there"
    assert come.counts == {"resumed": 1, "bad_cursor": 1, "gap": 1}


@pytest.mark.parametrize("told", [b"undefined", b"abc", b"null"])
def test_what_is_no_id_is_none_whatever_is_not_kept_any_more(told: bytes) -> None:
    come = Come(max_bytes=51 * 1024)
    come.streaming(*[BIG] * 11)
    assert come.run.recording.first == 9
    assert come.code(Cursor(foreign=told)) == "bad_cursor"


def test_no_more_readers_than_may_be() -> None:
    come = Come(max_readers=2)
    come.streaming(event(1))
    assert come.place(Cursor()) == (0, 0)
    come.join().reader.cache = ""
    assert come.code(Cursor()) == "too_many_readers"
    come.ended()
    assert come.place(Cursor(1)) is None, "who has it all needs no place"


def test_of_whom_those_are_none_who_asked_the_same_while_it_ran() -> None:
    come = Come(max_readers=2)
    come.streaming(event(1))
    for _ in range(3):
        come.join().reader.cache = "coalesced"
    assert come.place(Cursor()) == (0, 0)
    come.join().reader.cache = ""
    assert come.code(Cursor()) == "too_many_readers"


def test_where_an_event_was_too_long_nobody_comes_back() -> None:
    come = Come(max_bytes=70_000)
    come.streaming(event(1), b"data: " + b"x" * 80_000)
    assert come.code(Cursor()) == come.code(Cursor(1)) == "stream_gone"


# -- requests that look like new ones


def test_a_cursor_of_ours_means_its_stream_whatever_else_is_asked() -> None:
    come = Come()
    request = come.request(b"POST", (b"Last-Event-ID", SID.encode() + b".5"), (b"Idempotency-Key", b"k"))
    scopes = lambda setting: ANONYMOUS  # noqa: E731
    assert come.resumption.earlier(request, None, scopes) == (come.run, Cursor(5))
    with pytest.raises(ProxyError, match="no stream"):
        come.resumption.earlier(request, None, lambda setting: b"y" * 32)
    unknown = come.request(b"POST", (b"Last-Event-ID", b"U" * 22 + b".5"))
    with pytest.raises(ProxyError, match="no stream"):
        come.resumption.earlier(unknown, None, scopes)


def test_another_ones_cursor_and_a_claim_that_nobody_made_mean_nothing() -> None:
    come = Come()
    claim = Claim("llama", ANONYMOUS, b"k")
    assert come.resumption.earlier(come.request(b"POST", (b"Last-Event-ID", b"evt_5")), claim, lambda setting: ANONYMOUS) is None
    come.streams.add(come.run, claim, body_hash(b"{}"))
    assert come.resumption.earlier(come.request(), claim, lambda setting: ANONYMOUS) == (come.run, Cursor())


@pytest.mark.parametrize("told", [b"%b.x", b"%b.-5", b"%b.", b"%b.12345678901", b"node~%b.x"])
def test_what_begins_as_a_cursor_of_ours_and_is_none_is_no_new_request(told: bytes) -> None:
    come = Come()
    with pytest.raises(ProxyError) as caught:
        come.resumption.earlier(come.request(b"POST", (b"Last-Event-ID", told % SID.encode())), None, lambda setting: ANONYMOUS)
    assert (caught.value.code, come.counts) == ("bad_cursor", {"bad_cursor": 1})


def test_whose_stream_it_is_is_said_in_the_terms_of_its_own_route() -> None:
    come = Come()
    config = attrs.evolve(come.run.home.config, cache=attrs.evolve(come.run.home.config.cache, scope="header:X-User"))
    come.run.home = attrs.evolve(come.run.home, config=config)
    asked: list[str] = []

    def scopes(setting: str) -> bytes:
        asked.append(setting)
        return come.run.scope

    assert come.resumption.find(SID, scopes) is come.run
    assert asked == ["header:X-User"]


def test_a_claim_is_a_keys_within_a_credential_and_a_route() -> None:
    assert claim_of("r", ANONYMOUS, [(b"idempotency-key", b" k ")]) == Claim("r", ANONYMOUS, b"k")
    for value in (None, b"", b"  "):
        assert claim_of("r", ANONYMOUS, [] if value is None else [(b"Idempotency-Key", value)]) is None


def test_a_long_key_is_as_good_as_a_short_one() -> None:
    long, other = ([(b"Idempotency-Key", b"k" * 5000 + tail)] for tail in (b"1", b"2"))
    claim = claim_of("r", ANONYMOUS, long)
    assert claim is not None and claim == claim_of("r", ANONYMOUS, long) != claim_of("r", ANONYMOUS, other)
    assert len(claim.key) == 32


def test_who_shows_no_credential_is_nobody_in_particular() -> None:
    mine = scope_or_anonymous(KEY, "credential", b"")
    assert mine != scope_or_anonymous([(b"Authorization", b"Bearer two")], "credential", b"") != ANONYMOUS
    assert scope_or_anonymous([], "credential", b"") == ANONYMOUS
    assert scope_or_anonymous([], "credential", b"key") != ANONYMOUS


@pytest.mark.parametrize(
    ("mode", "method", "headers", "ids"),
    [
        ("auto", b"GET", [], Ids.UNLESS_OWN),
        ("auto", b"GET", [(b"X-Txsse-Resume", b"1")], Ids.EACH),
        ("auto", b"GET", [(b"Last-Event-ID", SID.encode() + b".1")], Ids.EACH),
        ("auto", b"POST", [], Ids.NONE),
        ("auto", b"POST", [(b"X-Txsse-Resume", b"1")], Ids.EACH),
        ("auto", b"POST", [(b"x-txsse-resume", b"yes")], Ids.EACH),
        ("auto", b"POST", [(b"Last-Event-ID", SID.encode() + b".1")], Ids.EACH),
        ("auto", b"POST", [(b"Last-Event-ID", b"evt_1")], Ids.NONE),
        *(("auto", b"GET", [(b"X-Txsse-Resume", no)], Ids.NONE) for no in (b"0", b"off", b"False", b"no", b"")),
        ("always", b"POST", [(b"X-Txsse-Resume", b"0")], Ids.EACH),
    ],
)
def test_who_gets_ids(mode: str, method: bytes, headers: Headers, ids: Ids) -> None:
    request = Come().request(method, *headers)
    assert wants_ids(mode, request, CHAT) is ids
    assert wants_ids(mode, request, DIALECTS["ollama"]) is Ids.NONE
    request.path = b"/-/streams/" + SID.encode()
    if ids is Ids.UNLESS_OWN:
        assert wants_ids(mode, request, CHAT) is Ids.EACH


@pytest.mark.parametrize(
    ("prefer", "asynchronous"),
    [
        (b"respond-async", True),
        (b"Respond-Async", True),
        (b"wait=10, respond-async", True),
        (b"respond-async; foo=bar", True),
        (b"respond-asynchronously", False),
        (b"x-respond-async", False),
        (b"wait=10", False),
    ],
)
def test_who_is_not_to_be_kept_waiting(prefer: bytes, asynchronous: bool) -> None:
    assert responds_async([(b"Prefer", prefer)]) is asynchronous


# -- what is told


def test_how_a_stream_stands() -> None:
    come = Come()
    assert summary(come.run)["state"] == "waiting"
    come.streaming(event(1))
    told = summary(come.run)
    assert told == {
        "id": SID,
        "state": "live",
        "created": 0.0,
        "first": 1,
        "last": 1,
        "bytes": come.run.recording.size,
        "readers": 1,
        "status": 200,
    }
    usage = b'data: {"model":"tiny","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    come.body(usage)
    come.ended()
    told = summary(come.run)
    assert (told["state"], told["last"], told["readers"]) == ("done", 2, 0)
    assert (told["usage"], told["model"]) == ({"prompt": 3, "completion": 4}, "tiny")


def test_what_became_of_one_that_failed() -> None:
    come = Come()
    come.streaming(event(1))
    come.failed(TRUNCATED)
    told = summary(come.run)
    assert told["state"] == "error"
    assert told["error"]["code"] == "upstream_disconnected"
    assert told["last"] == 2, "the error is an event"
    assert dict(place_notes(come.run, 0)) == {b"X-Stream-State": b"error", b"X-Stream-First": b"1", b"X-Stream-Last": b"2"}


def test_an_error_that_cannot_be_told_in_the_stream_is_no_event_of_it_and_yet_to_be_heard() -> None:
    come = Come("sse")
    come.streaming(event(1))
    come.failed(TRUNCATED)
    assert (summary(come.run)["last"], come.place(Cursor(1))) == (1, (1, 0))


def test_what_became_of_one_that_upstream_refused() -> None:
    come = Come()
    come.join(asked=True)
    come.answer(500, b"application/json", (b"Content-Length", b"2"))
    come.body(b"no")
    come.ended()
    told = summary(come.run)
    assert (told["state"], told["status"], told["error"]["code"]) == ("error", 500, "upstream_error")
    assert dict(place_notes(come.run, 0))[b"X-Stream-State"] == b"error"


def test_the_path_of_a_stream() -> None:
    path = b"/-/streams/" + SID.encode()
    assert split_path(path) == (SID, {})
    assert split_path(path + b"?starting_after=5&x=%61&y") == (SID, {b"starting_after": b"5", b"x": b"a", b"y": b""})
    assert split_path(b"/-/streams/node~" + SID.encode())[0] == f"node~{SID}"
    for wrong in (b"/-/streams/", path + b"x", path + b"/cancel", path + b"/", b"/-/streams/%53" + SID[1:].encode()):
        with pytest.raises(ProxyError, match="no stream"):
            split_path(wrong)


def test_a_cursor_that_is_none_is_counted() -> None:
    come = Come()
    assert come.resumption.cursor(SID, [], {b"starting_after": b"3"}) == Cursor(3)
    with pytest.raises(ProxyError) as caught:
        come.resumption.cursor(SID, [(b"Last-Event-ID", SID.encode())], {})
    assert (caught.value.code, come.counts) == ("bad_cursor", {"bad_cursor": 1})
