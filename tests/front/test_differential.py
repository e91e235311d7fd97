"""Both fronts answer the same: random well-formed exchanges and every refusal of a front, cut at random.

``ProxySite`` against ``ProxyResource`` in a real ``twisted.web`` site. Where they differ is in two tables, with the reason: what a
stranger's site does before a resource is asked cannot be undone by the resource.

Never compared, for the site has its own way: letter case of field names and their order among different names (it gathers them), the
version in the status line (it repeats the client's), the answer's Connection field (what is done is compared, not what is said), and
``100 Continue`` (it sends one whenever it is asked for, also when the body is there already).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.front.fakes import PLAIN, Bench, Bounds, ScriptedExchange, ScriptedHandler, WebBench
from txsse.errors import ProxyError
from txsse.front.connection import LINGER_TIME
from txsse.interfaces import Downstream, Request
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

BOUNDS = Bounds(max_head=1024, max_body=1000)


class Answering(ScriptedHandler):
    """Answers as the path says: at once, or when it is told to."""

    def __init__(self, *, at_once: bool, objects: bool = False) -> None:
        super().__init__()
        self.objection = ProxyError("no_route", "no") if objects else None
        self._at_once = at_once
        self._open: list[ScriptedExchange] = []

    def open(self, request: Request, downstream: Downstream) -> ScriptedExchange:
        exchange = super().open(request, downstream)
        if self._at_once:
            respond(exchange)
        else:
            self._open.append(exchange)
        return exchange

    def answer_one(self) -> bool:
        if self._open:
            respond(self._open.pop())
            return True
        return False


def respond(exchange: ScriptedExchange) -> None:
    request, downstream = exchange.request, exchange.downstream
    how = request.path.partition(b"?")[0].rpartition(b"/")[2]
    has_body = request.head.method != b"HEAD" and how != b"empty"
    fields: Headers = [*PLAIN, (b"Date", b"d"), *([(b"Content-Length", b"11")] if how == b"sized" else [])]
    downstream.start(204 if how == b"empty" else 200, b"Fine", fields, has_body=has_body)
    if has_body:
        downstream.write(b"hello ")
        downstream.write(b"world")
    if how == b"cut" and has_body:
        downstream.cut()
    elif how == b"abort":
        downstream.abort()
    else:
        downstream.finish()


# What there is to see of a connection


@attrs.frozen
class Seen:
    calls: list[tuple[object, ...]]
    answers: list[tuple[int, frozenset[bytes], bytes]]
    gone: bool
    aborted: bool

    @property
    def gist(self) -> tuple[list[tuple[int, bytes]], bool]:
        """Statuses, the codes of refusals, and whether the connection was closed."""
        return [(status, body if status >= 400 else b"") for status, _, body in self.answers], self.gone


def plain(call: tuple[object, ...]) -> tuple[object, ...]:
    """A call of the handler, with its head as either front can have it."""
    return tuple(_fields(each) if isinstance(each, RequestHead) else each for each in call)


def _fields(head: RequestHead) -> object:
    gathered: dict[bytes, list[bytes]] = {}
    for name, value in head.headers:
        gathered.setdefault(name.lower(), []).append(value)
    return head.method, head.target, head.version, head.sized, gathered


_ANSWER = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n((?:(?!HTTP/1\.).)*+)", re.DOTALL)


def answers(data: bytes) -> Iterator[tuple[int, frozenset[bytes], bytes]]:
    for status, fields, body in _ANSWER.findall(data):
        if status != b"100":
            kept = [field for field in fields.split(b"\r\n") if not field.lower().startswith((b"connection:", b"date:"))]
            yield int(status), frozenset(kept), body


def play(bench: Bench | WebBench, pieces: list[bytes], wait: float) -> Seen:
    """Send *pieces*, answer what there is to answer after each, and wait until a refused client has read its answer."""
    handler = bench.handler
    assert isinstance(handler, Answering)
    transport = bench.connect()
    for piece in pieces:
        if not transport.gone:
            bench.send(piece, transport)
        bench.clock.advance(0)
        while handler.answer_one():
            bench.clock.advance(0)
    bench.pass_time(wait, 0.5)
    seen = Seen([plain(call) for call in handler.calls], list(answers(transport.value())), transport.gone, transport.aborted)
    transport.client_leaves()
    return seen


def both(
    stream: bytes, cuts: list[int], *, at_once: bool, bounds: Bounds = BOUNDS, objects: bool = False, wait: float = LINGER_TIME + 1
) -> tuple[Seen, Seen]:
    places = sorted({each % (len(stream) + 1) for each in cuts} | {0, len(stream)})
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    make: tuple[Callable[..., Bench | WebBench], ...] = (Bench, WebBench)
    ours, theirs = (play(each(Answering(at_once=at_once, objects=objects), bounds), pieces, wait) for each in make)
    return ours, theirs


# Well-formed exchanges

HOST = b"Host: h\r\n"
FIELDS = st.sampled_from(
    [
        b"X-A: 1",
        b"x-a:2",
        b"X-Empty:",
        b"X-Bytes: \x80\xff",
        b"X-Padded: \t a  b\t ",
        b"!#$%&'*+-.^_`|~x: y",
        b"Accept: */*",
        b"Content-Type: application/json",
        b"Content-Type: application/x-www-form-urlencoded",
    ]
)
CONNECTIONS = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"Connection: keep-alive\r\n",
        b"Connection: close\r\n",
        b"Connection: close,x\r\n",
        b"Connection: x\r\nConnection: Close\r\n",
    ]
)
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"pURGE-x"])
TARGETS = st.sampled_from([b"/", b"/a%2fb/", b"//", b"http://other:1/", b"HTTPS://x/a/"])
ANSWERS = st.sampled_from([b"sized", b"sized", b"chunked", b"chunked", b"empty", b"cut", b"abort"])
CUTS = st.lists(st.integers(0, 5000), max_size=8)


@st.composite
def requests(draw: st.DrawFn, *, kept_alive: bool = False) -> bytes:
    """A request; with *kept_alive* one that leaves the connection open."""
    version = b"1.1" if kept_alive else draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.1", b"1.0"]))
    target = b"%b%b%b" % (draw(TARGETS), b"sized" if kept_alive else draw(ANSWERS), draw(st.sampled_from([b"", b"?q=/../%zz"])))
    start = b"%b %b HTTP/%b\r\n" % (draw(METHODS), target, version)
    fields = b"".join(field + b"\r\n" for field in draw(st.lists(FIELDS, max_size=3)))
    fields += b"" if kept_alive else draw(CONNECTIONS)
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=3))
    framed = draw(st.sampled_from([b"none", b"length", b"chunks"])) if version == b"1.1" else b"length"
    if framed == b"none":
        return start + HOST + fields + b"\r\n"
    if draw(st.booleans()):
        fields += b"Expect: 100-continue\r\n"
    if framed == b"length":
        return start + fields + HOST + b"Content-Length: %d\r\n\r\n%b" % (sum(map(len, parts)), b"".join(parts))
    chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(part), draw(st.sampled_from([b"", b";a=b"])), part) for part in parts)
    end = draw(st.sampled_from([b"0\r\n\r\n", b"00;x\r\nTrailer: t\r\n\r\n"]))
    return start + HOST + fields + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + end


@given(st.lists(requests(), min_size=1, max_size=4).map(b"".join), CUTS, st.booleans())
@settings(max_examples=300)
def test_well_formed_exchanges_are_the_same(stream: bytes, cuts: list[int], at_once: bool) -> None:
    ours, theirs = both(stream, cuts, at_once=at_once)
    assert ours == theirs
    assert ours.calls[-1][0] == "open"


# Refusals


def message(start: bytes = b"GET / HTTP/1.1", fields: bytes = HOST, body: bytes = b"") -> bytes:
    return b"%b\r\n%b\r\n%b" % (start, fields, body)


def post(fields: bytes, body: bytes = b"") -> bytes:
    return message(b"POST / HTTP/1.1", HOST + fields, body)


SIZED, CHUNKED = b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    # name: (request, status, code)
    "no request line": (b"nonsense\r\n\r\n", 400, "bad_request"),
    "no version": (b"GET /\r\n\r\n", 400, "bad_request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "HTTP/1.2": (message(b"GET / HTTP/1.2"), 400, "bad_request"),
    "two blanks": (message(b"GET  / HTTP/1.1"), 400, "bad_request"),
    "bad method": (message(b"G(T / HTTP/1.1"), 400, "bad_request"),
    "blank in the target": (message(b"GET /a b HTTP/1.1"), 400, "bad_request"),
    "control byte in the target": (message(b"GET /\x01 HTTP/1.1"), 400, "bad_request"),
    "target not ASCII": (message(b"GET /\xc3\xa9 HTTP/1.1"), 400, "bad_request"),
    "fragment": (message(b"GET /a#b HTTP/1.1"), 400, "bad_request"),
    "neither path nor URL": (message(b"GET a HTTP/1.1"), 400, "bad_request"),
    "GET *": (message(b"GET * HTTP/1.1"), 400, "bad_request"),
    "ftp URL": (message(b"GET ftp://a/ HTTP/1.1"), 400, "bad_request"),
    "userinfo": (message(b"GET http://u@a/ HTTP/1.1"), 400, "bad_request"),
    "dot segments": (message(b"GET /a/../b HTTP/1.1"), 400, "bad_request"),
    "dot segments in a URL": (message(b"GET http://h/../x HTTP/1.1"), 400, "bad_request"),
    "escaped dot segments": (message(b"GET /a/%2e%2e/b HTTP/1.1"), 400, "bad_request"),
    "dot segments behind escaped slashes": (message(b"GET /a%2f..%2fb HTTP/1.1"), 400, "bad_request"),
    "%00": (message(b"GET /a%00 HTTP/1.1"), 400, "bad_request"),
    "%5c": (message(b"GET /a%5cb HTTP/1.1"), 400, "bad_request"),
    "backslash": (message(b"GET /a\\b HTTP/1.1"), 400, "bad_request"),
    "bad escape": (message(b"GET /a%zz HTTP/1.1"), 400, "bad_request"),
    "bare LFs": (b"GET / HTTP/1.1\nHost: h\n\n", 400, "bad_request"),
    "bare LF in a field": (message(fields=HOST + b"X: a\nY: b\r\n"), 400, "bad_request"),
    "bare CR": (message(fields=HOST + b"X: a\rb\r\n"), 400, "bad_request"),
    "folded line": (message(fields=HOST + b"X: a\r\n b\r\n"), 400, "bad_request"),
    "blank before the colon": (message(fields=HOST + b"X : a\r\n"), 400, "bad_request"),
    "no colon": (message(fields=HOST + b"X\r\n"), 400, "bad_request"),
    "no name": (message(fields=HOST + b": a\r\n"), 400, "bad_request"),
    "bad name": (message(fields=HOST + b"X(: a\r\n"), 400, "bad_request"),
    "control byte in a field": (message(fields=HOST + b"X: a\x01b\r\n"), 400, "bad_request"),
    "NUL in a field": (message(fields=HOST + b"X: a\x00b\r\n"), 400, "bad_request"),
    "DEL in a field": (message(fields=HOST + b"X: a\x7fb\r\n"), 400, "bad_request"),
    "no Host": (message(fields=b"X: y\r\n"), 400, "bad_request"),
    "two Hosts": (message(fields=HOST + HOST), 400, "bad_request"),
    "two Hosts in HTTP/1.0": (message(b"GET / HTTP/1.0", HOST + HOST), 400, "bad_request"),
    "Host is none": (message(fields=b"Host: a/b\r\n"), 400, "bad_request"),
    "length and chunks": (post(SIZED % 5 + CHUNKED, b"0\r\n\r\n"), 400, "bad_request"),
    "two lengths": (post(SIZED % 1 + SIZED % 1, b"x"), 400, "bad_request"),
    "list of lengths": (post(b"Content-Length: 1, 1\r\n", b"x"), 400, "bad_request"),
    "length with a sign": (post(b"Content-Length: +1\r\n", b"x"), 400, "bad_request"),
    "length of 16 digits": (post(b"Content-Length: 0000000000000001\r\n", b"x"), 400, "bad_request"),
    "chunks in HTTP/1.0": (message(b"POST / HTTP/1.0", HOST + CHUNKED, b"0\r\n\r\n"), 400, "bad_request"),
    "gzip coding": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400, "bad_request"),
    "identity coding": (post(b"Transfer-Encoding: identity\r\n"), 400, "bad_request"),
    "chunked twice": (post(CHUNKED + CHUNKED, b"0\r\n\r\n"), 400, "bad_request"),
    "chunk size is none": (post(CHUNKED, b"zz\r\n"), 400, "bad_request"),
    "chunk longer than its size": (post(CHUNKED, b"1\r\nxy\r\n0\r\n\r\n"), 400, "bad_request"),
    "bare LFs in a chunk": (post(CHUNKED, b"1\nx\n0\n\n"), 400, "bad_request"),
    "bad trailer": (post(CHUNKED, b"0\r\nbad trailer\r\n\r\n"), 400, "bad_request"),
    "CONNECT": (message(b"CONNECT h:1 HTTP/1.1"), 405, "bad_request"),
    "TRACE": (message(b"TRACE / HTTP/1.1"), 405, "bad_request"),
    "unknown expectation": (post(b"Expect: x\r\n" + SIZED % 1, b"x"), 417, "bad_request"),
    "one unknown expectation": (post(b"Expect: 100-continue, x\r\n" + SIZED % 1, b"x"), 417, "bad_request"),
    "head too large": (message(fields=HOST + b"X: " + b"x" * 1100 + b"\r\n"), 431, "head_too_large"),
    "head too large for a site": (message(fields=HOST + (b"X: " + b"x" * 1000 + b"\r\n") * 17), 431, "head_too_large"),
    "line too large for a site": (message(fields=HOST + b"X: " + b"x" * 17_000 + b"\r\n"), 431, "head_too_large"),
    "body too large": (post(SIZED % 1001, b"x" * 1001), 413, "body_too_large"),
    "chunks too large": (post(CHUNKED, b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"), 413, "body_too_large"),
}

BY_ITSELF = ([(400, b"")], True), "the site refuses it before a resource is asked: 400 without a body"
WAITS: tuple[tuple[list[tuple[int, bytes]], bool], str] = (
    ([], False),
    "the site's lines end with CRLF: it waits for one until its own timeout",
)
SERVED = [(200, b"")], False

ELSEWHERE = {
    # name: (what a resource's client sees, why)
    **dict.fromkeys(("no request line", "no version", "HTTP/2", "HTTP/1.2", "two blanks", "bad method", "blank in the target"), BY_ITSELF),
    **dict.fromkeys(("control byte in the target", "target not ASCII", "bare LF in a field", "bare CR", "NUL in a field"), BY_ITSELF),
    **dict.fromkeys(("blank before the colon", "no colon", "no name", "bad name"), BY_ITSELF),
    **dict.fromkeys(
        ("length and chunks", "two lengths", "list of lengths", "length with a sign", "gzip coding", "chunked twice"), BY_ITSELF
    ),
    **dict.fromkeys(("chunk size is none", "chunk longer than its size", "head too large for a site"), BY_ITSELF),
    **dict.fromkeys(("bare LFs", "bare LFs in a chunk"), WAITS),
    "folded line": (SERVED, "the site joins folded lines, so nobody behind it can take them for two"),
    "bad trailer": (SERVED, "the site drops trailers unread"),
    "GET *": (([(405, b"")], False), "the site answers every request to * itself"),
    "head too large": (SERVED, "the site has bounds of its own: 16 KiB, a line and a head"),
    "line too large for a site": (([], True), "the site has bounds of its own, and closes without a word"),
}


def _without_screens(seen: Seen) -> Seen:
    """Our front shows the proxy a head before its body is there; a resource is called when there is nothing left to refuse."""
    return attrs.evolve(seen, calls=[call for call in seen.calls if call[0] != "screen"])


# What a connection has carried before. An end of it would hide what comes then.
SERVED_BEFORE = st.lists(requests(kept_alive=True), max_size=1)


@given(SERVED_BEFORE, st.sampled_from([b"", message()]), CUTS, st.booleans())
@settings(max_examples=40)
def test_refusals_are_the_same_but_for_the_exceptions(before: list[bytes], behind: bytes, cuts: list[int], at_once: bool) -> None:
    for name, (request, status, code) in REFUSED.items():
        ours, theirs = both(b"".join((*before, request, b"" if name in ELSEWHERE else behind)), cuts, at_once=at_once)
        answered, closed = ours.gist
        assert (answered[len(before) :], closed) == ([(status, code.encode())], True), name
        if name not in ELSEWHERE:
            assert _without_screens(ours) == _without_screens(theirs), name
        else:
            (first, closes), why = ELSEWHERE[name]
            answered, closed = theirs.gist
            assert answered[len(before) :][:1] == first, (name, why)
            assert closed == closes, (name, why)


# What depends on more than the request's bytes, and what only one of the two refuses


@attrs.frozen
class Case:
    stream: bytes
    ours: list[tuple[int, bytes]]
    ours_closed: bool
    theirs: list[tuple[int, bytes]]
    theirs_closed: bool
    why: str = ""  # empty: no exception, everything is compared
    bounds: Bounds = BOUNDS
    objects: bool = False  # the proxy does, at the head
    wait: float = LINGER_TIME + 1


OK, NO_ROUTE, SLOW, FULL = (200, b""), (404, b"no_route"), (408, b"request_timeout"), (503, b"too_many_connections")
TIGHT = Bounds(max_buffered=900)

CASES = {
    "no byte at all": Case(b"", [], True, [], True, wait=70),
    "slow head": Case(b"GET / HT", [SLOW], True, [], True, "the site closes after a minute of silence, without a word", wait=70),
    "slow body": Case(post(SIZED % 5, b"12"), [SLOW], True, [], True, "the site closes after a minute of silence, without a word", wait=70),
    "too many connections": Case(
        message(), [FULL], True, [OK], False, "the site's connections are its owner's to count", attrs.evolve(BOUNDS, max_connections=0)
    ),
    "too much buffered": Case(post(SIZED % 901, b"x" * 901), [FULL], True, [FULL], True, bounds=TIGHT),
    "too much buffered in chunks": Case(
        post(CHUNKED, b"385\r\n" + b"x" * 901 + b"\r\n0\r\n\r\n"), [FULL], True, [FULL], True, bounds=TIGHT
    ),
    "objection": Case(message(), [NO_ROUTE], False, [NO_ROUTE], False, objects=True),
    "objection to an upload": Case(
        post(SIZED % 5, b"12345"), [NO_ROUTE], True, [NO_ROUTE], False, "the site has read the body by then", objects=True
    ),
    "an empty line before": Case(b"\r\n" + message(), [OK], False, [OK], False),
    "empty lines before": Case(b"\r\n\r\n" + message(), [OK], False, [(400, b"")], True, "the site lets one empty line pass"),
    "OPTIONS *": Case(message(b"OPTIONS * HTTP/1.1"), [OK], False, [OK], False, "the site answers every request to * itself"),
    "bad form": Case(
        post(b"Content-Type: multipart/form-data\r\n" + SIZED % 4, b"junk"),
        [OK],
        False,
        [(400, b"")],
        True,
        "the site parses forms, and refuses what it cannot",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_other_cases_are_the_same_but_for_the_exceptions(name: str) -> None:
    case = CASES[name]
    for cuts in ([], list(range(len(case.stream)))):
        ours, theirs = both(case.stream, cuts, at_once=True, bounds=case.bounds, objects=case.objects, wait=case.wait)
        assert ours.gist == (case.ours, case.ours_closed)
        assert theirs.gist == (case.theirs, case.theirs_closed)
        assert (_without_screens(ours) == _without_screens(theirs)) == (not case.why)
