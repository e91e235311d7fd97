"""Looking up and keeping: every way a request can go, whoever is asked for it, and however long that takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator, SchedulerStopped

from tests.conftest import ExpectedErrors
from tests.exchange.scripts import DONE
from tests.fakes import FakeBackend, Hall, Seat, a_request, bound
from txsse.clock import Alarms
from txsse.config import model
from txsse.dialects import DIALECTS, Dialect
from txsse.dialects.usage import Usage
from txsse.interfaces import Failed, Fault, Request
from txsse.metrics import Metrics
from txsse.proxy.caching import LOOKUP_DEADLINE, Caching, Found
from txsse.proxy.keeping import JUDGED_AT_ONCE
from txsse.proxy.playback import Stored
from txsse.proxy.routes import BoundRoute
from txsse.recordings.entry import Entry
from txsse.recordings.lookup import CacheLookup, Question
from txsse.recordings.store import MemoryStore, Quota, Store
from txsse.wire.headers import Headers
from txsse.wire.http1 import ResponseHead

TURN = 1e-6  # seconds
COLD = model.Upstream(name="llama", url="http://127.0.0.1:1", fallback="other")

KEY = (b"Authorization", b"Bearer one")
STREAM = b'{"model":"m","stream":true,"messages":[]}'
PLAIN = b'{"model":"m","messages":[]}'
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
LAST = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c","model":"tiny","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
WHOLE = CHUNK + LAST + USAGE + DONE
DOCUMENT = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
).encode()
LONG = CHUNK * (12 * JUDGED_AT_ONCE // len(CHUNK)) + LAST + DONE  # a dozen turns


@attrs.define(eq=False)
class Asked:
    request: Request
    route: BoundRoute
    dialect: Dialect
    streaming: bool
    credentials: Headers
    query_key: bytes
    opaque: bool


class SlowStore:
    """A store that has nothing in memory; what lies behind it comes when the test says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[tuple[bytes, Deferred[Entry | None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: bytes, now: float) -> None:
        return None

    def fetch(self, key: bytes, now: float) -> Deferred[Entry | None]:
        fetching: Deferred[Entry | None] = Deferred()
        self.asked.append((key, fetching))
        return fetching

    def bring(self) -> None:
        """Everything that was asked for."""
        asked, self.asked = self.asked, []
        for key, fetching in asked:
            fetching.callback(self._store.get(key, 0.0))


class Bench:
    """A cache, and runs that it watches."""

    def __init__(self, lookup: CacheLookup | None = None, *, slow: bool = False, space: int = 1 << 26, **cache: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics(upstreams=list)
        self.quota = Quota(space)
        self.memory = MemoryStore(self.quota)
        self.store: Any = SlowStore(self.memory) if slow else self.memory
        # One step a turn, however long that takes.
        self.cooperator = Cooperator(lambda: lambda: True, scheduler=lambda turn: self.clock.callLater(TURN, turn))
        self.wall = 1_000_000.0
        self.caching = Caching(self.store, self.metrics, Alarms(self.clock), self.cooperator, lambda: self.wall, self.quota, lookup)
        self.config = model.Route(name="llama", cache=model.Cache(**{"mode": "all", **cache}))

    def asked(
        self,
        body: bytes = STREAM,
        *headers: tuple[bytes, bytes],
        method: bytes = b"POST",
        credential: tuple[bytes, bytes] | None = KEY,
        query_key: bytes = b"",
        opaque: bool = False,
        host: bytes = b"x",
        preserve: bool = False,
        **route: Any,
    ) -> Asked:
        fields = [*headers, *([] if credential is None else [credential])]
        request = a_request(self.clock, method=method, body=body, headers=fields)
        request.host = host
        backend = FakeBackend()
        if preserve:
            backend.config = attrs.evolve(backend.config, host="preserve")
        where = bound(attrs.evolve(self.config, **route), backend)
        return Asked(request, where, DIALECTS["openai-chat"], b'"stream":true' in body, fields, query_key, opaque)

    def begin(self, *args: Any, **kwargs: Any) -> list[Found]:
        """Look up; what was found is in the list when it is."""
        found: list[Found] = []
        steps = self.caching.look_up(self.asked(*args, **kwargs))

        def look() -> Any:
            found.append((yield from steps))

        self.cooperator.coiterate(look()).addErrback(lambda failure: failure.trap(SchedulerStopped))
        self.turn(2)
        return found

    def look_up(self, *args: Any, **kwargs: Any) -> Found:
        (found,) = self.begin(*args, **kwargs)
        return found

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(TURN)

    def run(self, *args: Any, limit: int = 1 << 20, fallback: bool = False, **kwargs: Any) -> tuple[Hall, Seat]:
        """A request that is found nowhere goes upstream."""
        found = self.look_up(*args, **kwargs)
        assert found.question is not None
        # Their memory is not that of the cache: it is looked at by itself.
        hall = Hall(
            self.config,
            COLD if fallback else None,
            clock=self.clock,
            watcher=self.caching.keeping,
            limit=limit,
            fallback=fallback,
            ready=not fallback,
        )
        self.caching.keeping.began(hall.run, found.question)
        return hall, hall.seat(asked=True)

    def keep(self, body: bytes, asked: bytes = STREAM, *headers: tuple[bytes, bytes], kind: bytes = b"", status: int = 200) -> Seat:
        """One answer, from its question to its end."""
        hall, seat = self.run(asked)
        hall.answer(status, kind or (b"text/event-stream" if b'"stream":true' in asked else b"application/json"), *headers)
        hall.body(body)
        hall.ended()
        return seat

    @property
    def refusals(self) -> Counter[str]:
        return self.metrics.cache_refusals

    @property
    def entry(self) -> Entry:
        (summary,) = self.memory.entries()
        found = self.memory.get(summary.key, self.wall)
        assert found is not None
        return found


def stored(found: Found) -> Entry:
    assert isinstance(found.source, Stored)
    return found.source.entry


# -- what is looked up at all


@pytest.mark.parametrize(
    ("cache", "asked", "result", "reason"),
    [
        ({}, {"method": b"GET"}, "uncacheable", "method"),
        ({}, {"method": b"PUT"}, "uncacheable", "method"),
        ({}, {"opaque": True}, "uncacheable", "encoded"),
        ({}, {"credential": None}, "uncacheable", "no_credential"),
        ({}, {"credential": None, "query_key": b"secret"}, "miss", ""),
        ({"scope": "shared"}, {"credential": None}, "miss", ""),
        ({"scope": "header:x-tenant"}, {}, "uncacheable", "no_scope_header"),
        ({}, {"body": b'{"a":1,"a":2}'}, "uncacheable", "duplicate_member"),
        ({"mode": "deterministic"}, {}, "uncacheable", "not_deterministic"),
        ({"mode": "deterministic"}, {"body": b'{"temperature":0}'}, "miss", ""),
        ({"mode": "deterministic"}, {"body": b'{"seed":7}'}, "miss", ""),
        ({"mode": "opt-in"}, {}, "bypass", "not_asked_for"),
    ],
)
def test_which_requests_are_looked_up(cache: dict[str, Any], asked: dict[str, Any], result: str, reason: str) -> None:
    bench = Bench(**cache)
    found = bench.look_up(**asked)
    assert (found.result, found.reason) == (result, reason)
    assert (found.question is None) == bool(reason)
    assert bench.metrics.cache == {result: 1}
    assert bench.refusals == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("mode", "field", "result", "reason"),
    [
        ("all", (b"Cache-Control", b"no-store"), "bypass", "no_store"),
        ("all", (b"X-Txsse-Cache", b"0"), "bypass", "not_asked_for"),
        ("all", (b"x-txsse-cache", b" Off "), "bypass", "not_asked_for"),
        ("all", (b"X-Txsse-Cache", b"1"), "miss", ""),
        ("opt-in", (b"X-Txsse-Cache", b"1"), "miss", ""),
        ("opt-in", (b"X-Txsse-Cache", b"false"), "bypass", "not_asked_for"),
        ("deterministic", (b"X-Txsse-Cache", b"1"), "miss", ""),
        ("all", (b"Range", b"bytes=0-"), "bypass", "conditional"),
        ("all", (b"If-None-Match", b'"1"'), "bypass", "conditional"),
    ],
)
def test_what_a_request_can_say_itself(mode: str, field: tuple[bytes, bytes], result: str, reason: str) -> None:
    bench = Bench(mode=mode)
    found = bench.look_up(STREAM, field)
    assert (found.result, found.reason) == (result, reason)
    only = bench.look_up(STREAM, field, (b"Cache-Control", b"only-if-cached"))
    told = ("bypass", "only_if_cached") if reason == "no_store" else (result, reason)
    assert (only.result, only.reason, only.source, only.question) == (*told, None, None)
    assert only.error is not None
    assert (only.error.code, only.error.http_status) == ("cache_miss", 504)


@pytest.mark.parametrize("also", [b"no-cache", b"no-store"])
def test_who_wants_only_what_is_stored_and_not_what_is_stored_gets_nothing(also: bytes) -> None:
    bench = Bench()
    bench.keep(WHOLE)
    found = bench.look_up(STREAM, (b"Cache-Control", b"only-if-cached, " + also))
    assert found.error is not None


# -- hits


def test_a_question_asked_again() -> None:
    bench = Bench()
    assert bench.keep(WHOLE).downstream.body == WHOLE
    found = bench.look_up()
    assert found.result == "hit"
    assert stored(found).body == WHOLE
    assert stored(found).usage == Usage(3, 4)
    assert stored(found).model == "tiny"
    assert bench.metrics.cache == {"miss": 1, "store": 1, "hit": 1}
    assert bench.look_up(credential=(b"Authorization", b"Bearer two")).result == "miss"
    assert bench.look_up(STREAM[:-1] + b',"n":1}').result == "miss"


def test_the_host_counts_where_the_upstream_is_told_it() -> None:
    bench = Bench()
    bench.run(host=b"one.example")
    assert bench.look_up(host=b"two.example").result == "coalesced"
    bench = Bench()
    bench.run(host=b"one.example", preserve=True)
    assert bench.look_up(host=b"two.example", preserve=True).result == "miss"
    assert bench.look_up(host=b"one.example", preserve=True).result == "coalesced"


def test_as_old_as_the_request_allows() -> None:
    bench = Bench(ttl=60.0)
    bench.keep(WHOLE)
    bench.wall += 10
    assert bench.caching.age(bench.entry) == 10
    assert bench.look_up(STREAM, (b"Cache-Control", b"max-age=10")).result == "hit"
    assert bench.look_up(STREAM, (b"Cache-Control", b"max-age=9")).result == "miss"
    assert bench.look_up(STREAM, (b"Cache-Control", b"max-age=9, only-if-cached")).error is not None
    assert bench.look_up(STREAM, (b"Cache-Control", b"only-if-cached")).result == "hit"
    bench.wall += 50
    assert bench.look_up().result == "miss"


def test_no_cache_asks_anew_and_replaces() -> None:
    bench = Bench()
    bench.keep(WHOLE)
    hall, seat = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    assert (bench.metrics.cache["bypass"], bench.refusals["no_cache"]) == (1, 1)
    hall.answer()
    hall.body(CHUNK + WHOLE)
    hall.ended()
    assert seat.downstream.body == CHUNK + WHOLE
    assert stored(bench.look_up()).body == CHUNK + WHOLE


def test_an_answer_is_not_replaced_by_an_older_one() -> None:
    bench = Bench()
    earlier, _ = bench.run()
    later, _ = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    for hall in (later, earlier):
        hall.answer()
        hall.body(CHUNK + WHOLE if hall is later else WHOLE)
        hall.ended()
    assert stored(bench.look_up()).body == CHUNK + WHOLE
    assert bench.caching.flights == 0


def test_an_answer_that_cannot_be_kept_leaves_an_older_one_its_place() -> None:
    bench = Bench()
    earlier, _ = bench.run()
    later, _ = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    later.answer(500)
    later.ended()
    assert bench.look_up().source is earlier.run
    earlier.answer()
    earlier.body(WHOLE)
    earlier.ended()
    assert stored(bench.look_up()).body == WHOLE


@pytest.mark.parametrize("convert", [False, True])
def test_the_other_kind_of_answer(convert: bool) -> None:
    bench = Bench(convert=convert)
    bench.keep(DOCUMENT, PLAIN)
    found = bench.look_up(STREAM)
    assert found.result == ("hit" if convert else "miss")
    if convert:
        entry = stored(found)
        assert entry.streamed
        assert entry.headers == [(b"Content-Type", DIALECTS["openai-chat"].content_type)]
        assert entry.body.endswith(DONE)
        assert list(entry.ends)[-1] == len(entry.body)
    bench = Bench(convert=convert)
    bench.keep(WHOLE)
    found = bench.look_up(PLAIN)
    assert found.result == ("hit" if convert else "miss")
    if convert:
        entry = stored(found)
        assert not entry.streamed
        assert json.loads(entry.body)["choices"][0]["message"]["content"] == "hi"
    assert bench.look_up(PLAIN[:-1] + b',"n":1}').result == "miss"


# -- runs under way


def test_the_same_question_meanwhile_joins() -> None:
    bench = Bench()
    hall, first = bench.run()
    found = bench.look_up()
    assert (found.result, found.source) == ("coalesced", hall.run)
    assert bench.caching.flights == 1
    assert bench.look_up(STREAM, (b"Cache-Control", b"only-if-cached")).error is not None
    first.reader.client_gone()
    assert bench.caching.flights == 0
    assert bench.look_up().result == "miss"


def test_a_route_may_leave_them_apart() -> None:
    bench = Bench(coalesce=False)
    _, first = bench.run()
    assert bench.look_up().result == "miss"
    first.reader.client_gone()


def test_what_is_not_whole_any_more_cannot_be_joined() -> None:
    bench = Bench()
    hall, first = bench.run(limit=1000)
    hall.answer()
    hall.body(CHUNK * 20)
    other, second = bench.run()  # a miss
    assert bench.caching.flights == 1
    hall.body(LAST + DONE)
    hall.ended()
    assert bench.refusals == {"too_large": 1}
    assert bench.look_up().source is other.run  # its own end is not that of the newer one
    second.reader.client_gone()
    assert first.outcome == "ok"


def test_a_failed_one_is_no_answer() -> None:
    bench = Bench()
    hall, first = bench.run()
    hall.answer()
    hall.body(WHOLE[: -len(DONE) - 1])
    hall.failed(Failed(Fault.TRUNCATED, "closed"))
    assert (bench.look_up().result, bench.memory.count, bench.caching.flights) == ("miss", 0, 0)
    assert first.reader.tally.relayed == len(CHUNK + LAST)
    first.reader.client_gone()


# -- keeping


@pytest.mark.parametrize(
    ("body", "asked", "head", "reason"),
    [
        (WHOLE, STREAM, {"status": 404}, "status"),
        (WHOLE, STREAM, {"headers": [(b"Cache-Control", b"no-store")]}, "no_store"),
        (WHOLE, STREAM, {"headers": [(b"Vary", b"*")]}, "vary"),
        (CHUNK + LAST, STREAM, {}, "no_terminal"),
        (CHUNK + DONE, STREAM, {}, "unfinished"),
        (b"", STREAM, {}, "empty"),
        (b'{"error":{"message":"no"}}', PLAIN, {}, "error"),
    ],
)
def test_what_is_not_kept(body: bytes, asked: bytes, head: dict[str, Any], reason: str) -> None:
    bench = Bench()
    hall, seat = bench.run(asked)
    hall.answer(head.get("status", 200), b"text/event-stream" if asked is STREAM else b"application/json", *head.get("headers", []))
    if body:
        hall.body(body)
    hall.ended()
    assert (seat.downstream.body, seat.outcome) == (body, "ok")
    assert (bench.memory.count, dict(bench.refusals)) == (0, {reason: 1})
    assert bench.look_up(asked).result == "miss"


def test_the_fallbacks_answer_is_not_kept() -> None:
    bench = Bench()
    bench.config = attrs.evolve(bench.config, hold=model.Hold(timeout=1))
    hall, seat = bench.run(fallback=True)
    hall.wait(1.1)
    receiver = hall.fallback.last.receiver
    receiver.response_started(ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Content-Type", b"text/event-stream")]))
    receiver.body_received(WHOLE)
    receiver.response_ended()
    assert (seat.outcome, bench.memory.count, dict(bench.refusals)) == ("ok", 0, {"fallback": 1})


def test_there_may_be_no_room() -> None:
    bench = Bench(space=1100)
    bench.keep(WHOLE)
    assert (bench.memory.count, dict(bench.refusals)) == (0, {"too_large": 1})


def test_what_is_kept_of_a_stream() -> None:
    bench = Bench(ttl=7.0)
    hall, _ = bench.run()
    hall.answer(200, b"text/event-stream", (b"Set-Cookie", b"a=b"), (b"X-Accel-Buffering", b"no"))
    for piece in (CHUNK, LAST, DONE):
        hall.body(piece)
        hall.wait(0.1)
    hall.ended()
    entry = bench.entry
    assert (entry.body, entry.streamed, entry.route, entry.dialect) == (CHUNK + LAST + DONE, True, "llama", "openai-chat")
    assert list(entry.ends) == [len(CHUNK), len(CHUNK + LAST), len(CHUNK + LAST + DONE)]
    assert list(entry.times) == pytest.approx([0.0, 0.1, 0.2], abs=0.001)
    assert entry.headers == [(b"Content-Type", b"text/event-stream"), (b"X-Accel-Buffering", b"no")]
    assert (entry.stored, entry.ttl) == (bench.wall, 7.0)


def test_signs_of_life_are_relayed_and_not_kept() -> None:
    bench = Bench()
    hall, seat = bench.run()
    hall.answer()
    sent = [b": ping\n\n", CHUNK, b": ping\n\n" + LAST, b": a\n: b\n\n", DONE]
    hall.body(*sent)
    hall.ended()
    assert seat.downstream.body == b"".join(sent)
    assert bench.entry.body == CHUNK + LAST + DONE
    assert list(bench.entry.ends) == [len(CHUNK), len(CHUNK + LAST), len(CHUNK + LAST + DONE)]


@given(st.data())
def test_a_stream_that_is_not_cut_between_events_is_kept_whole(data: st.DataObject) -> None:
    """One with a Content-Length is relayed as it comes, so that any piece may begin with a colon."""
    body = b": ping\n\n" + CHUNK + LAST + DONE
    cuts = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=12))})
    bench = Bench()
    hall, seat = bench.run()
    hall.answer(200, b"text/event-stream", (b"Content-Length", b"%d" % len(body)))
    for begin, end in pairwise(cuts):
        hall.body(body[begin:end])
    hall.ended()
    assert seat.downstream.body == body
    entry = bench.entry
    assert (entry.streamed, entry.body, entry.ends[-1]) == (True, CHUNK + LAST + DONE, len(entry.body))
    assert len(entry.ends) == len(entry.times)


def test_a_store_that_fails_is_no_trouble_of_the_readers(expected_errors: ExpectedErrors) -> None:
    bench = Bench()

    def put(entry: Entry, now: float) -> bool:
        raise OSError("disk")

    bench.memory.put = put  # type: ignore[method-assign]
    assert bench.keep(WHOLE).outcome == "ok"
    assert bench.keep(LONG).outcome == "ok"
    bench.turn(300)
    assert bench.look_up().result == "miss"
    assert len(expected_errors.flush(OSError)) == 2
    assert bench.quota.used == 0


def test_a_run_nobody_wanted_to_keep() -> None:
    """It was begun so that it can be come back to."""
    bench = Bench()
    hall = Hall(bench.config, clock=bench.clock, watcher=bench.caching.keeping)
    seat = hall.seat(asked=True)
    hall.answer()
    hall.body(WHOLE)
    hall.ended()
    assert (seat.outcome, bench.memory.count, bench.refusals) == ("ok", 0, {})


@pytest.mark.parametrize("scope", ["credential", "shared"])
@pytest.mark.parametrize(
    "field", [(b"Cache-Control", b"private"), (b"Cache-Control", b"no-store"), (b"Vary", b"Authorization"), (b"Cache-Control", b"no-cache")]
)
def test_nobody_joins_what_upstream_says_is_for_one_client_alone(scope: str, field: tuple[bytes, bytes]) -> None:
    bench = Bench(scope=scope)
    hall, _ = bench.run()
    assert bench.look_up().result == "coalesced", "nobody can know yet"
    hall.answer(200, b"text/event-stream", field)
    hall.body(CHUNK)
    assert bench.look_up().result == ("miss" if scope == "shared" and field[1] != b"no-cache" else "coalesced")


@pytest.mark.parametrize("short_by", [0, 1])
def test_an_answer_is_kept_up_to_max_entry_however_much_is_recorded(short_by: int) -> None:
    bench = Bench(max_entry=len(WHOLE) - short_by)
    assert bench.keep(WHOLE).outcome == "ok"
    assert (bench.memory.count, bench.refusals) == ((0, {"too_large": 1}) if short_by else (1, {}))


# -- long answers


def test_a_long_answer_is_looked_through_in_turns_and_who_asks_meanwhile_waits_for_the_verdict() -> None:
    bench = Bench()
    seat = bench.keep(LONG)
    assert (seat.downstream.body, seat.outcome) == (LONG, "ok")
    first, second = bench.begin(), bench.begin()
    other = bench.begin(STREAM[:-1] + b',"n":1}')
    bench.turn()  # it shares them with what is being looked through
    assert [found.result for found in other] == ["miss"]
    assert (first, second, bench.memory.count) == ([], [], 0)
    assert bench.quota.used >= len(LONG)
    bench.turn(300)
    assert [found.result for found in (*first, *second)] == ["hit", "hit"]
    assert bench.quota.used == bench.memory.bytes_used == bench.entry.size


def test_they_are_told_too_if_it_is_not_kept() -> None:
    bench = Bench()
    bench.keep(LONG[: -len(DONE)])
    first = bench.begin()
    assert first == []
    bench.turn(300)
    assert first[0].result == "miss"
    assert (dict(bench.refusals), bench.quota.used) == ({"no_terminal": 1}, 0)


def test_two_of_the_same_at_once() -> None:
    bench = Bench()
    hall, _ = bench.run()
    other, _ = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    waiting: list[list[Found]] = []
    for each in (hall, other):
        each.answer()
        each.body(LONG)
        each.ended()
        waiting.append(bench.begin())
    bench.turn(600)
    assert [found.result for each in waiting for found in each] == ["hit", "hit"]
    assert bench.quota.used == bench.memory.bytes_used


def test_the_proxy_is_closed_while_it_looks() -> None:
    bench = Bench()
    bench.keep(LONG)
    bench.begin()
    bench.cooperator.stop()
    assert (bench.memory.count, bench.quota.used) == (0, 0)
    assert bench.caching.keeping._settling == {}


@pytest.mark.parametrize("what", ["all", "route", "key", "other"])
def test_a_purge_while_it_is_looked_through(what: str) -> None:
    bench = Bench()
    hall, _ = bench.run()
    key = bench.caching.keeping._questions[hall.run].key
    hall.answer()
    hall.body(LONG)
    hall.ended()
    asking = bench.begin()
    if what == "key":
        bench.caching.delete(key)
    else:
        bench.caching.purge({"all": None, "route": "llama"}.get(what, what))
    bench.turn(300)
    assert [found.result for found in asking] == ["hit" if what == "other" else "miss"]
    assert bench.quota.used == bench.memory.bytes_used


def test_a_newer_answer_comes_while_it_is_looked_through() -> None:
    bench = Bench()
    older, _ = bench.run()
    newer, _ = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    for hall, body in ((older, LONG), (newer, WHOLE)):
        hall.answer()
        hall.body(body)
        hall.ended()
    bench.turn(300)
    assert stored(bench.look_up()).body == WHOLE
    assert bench.quota.used == bench.memory.bytes_used


# -- slow stores


def test_what_is_fetched_is_waited_for() -> None:
    bench = Bench(slow=True)
    looking = bench.begin()
    assert looking == []
    bench.store.bring()
    bench.turn()
    assert looking[0].result == "miss"
    assert looking[0].question is not None
    hall = Hall(bench.config, clock=bench.clock, watcher=bench.caching.keeping)
    bench.caching.keeping.began(hall.run, looking[0].question)
    again = bench.begin()
    hall.seat(asked=True)
    hall.answer()
    hall.body(WHOLE)
    hall.ended()
    bench.store.bring()
    bench.turn()
    assert again[0].result == "hit"
    assert stored(again[0]).body == WHOLE


def test_who_leaves_while_it_is_fetched() -> None:
    bench = Bench(slow=True)
    steps = bench.caching.look_up(bench.asked())
    fetching = next(steps)
    steps.close()
    assert fetching is bench.store.asked[0][1]
    bench.store.bring()
    assert bench.metrics.cache == {}


# -- somebody else's look-up


class Similar:
    """Answers as the test says."""

    def __init__(self, answer: Callable[[Question], Any]) -> None:
        self.asked: list[Question] = []
        self.kept: list[Question] = []
        self.broken = False
        self._answer = answer

    async def look_up(self, question: Question) -> bytes | None:
        self.asked.append(question)
        answer = self._answer(question)
        found: bytes | None = await answer if isinstance(answer, Deferred) else answer
        return found

    def stored(self, question: Question) -> None:
        self.kept.append(question)
        if self.broken:
            raise ZeroDivisionError("a bug of theirs")


OTHER = STREAM[:-1] + b',"user":"x"}'


def test_an_entry_that_somebody_else_finds() -> None:
    similar = Similar(lambda question: similar.kept[0].key if similar.kept else None)
    bench = Bench(similar)
    bench.keep(WHOLE)
    assert [question.body for question in similar.asked] == [STREAM]
    assert [question.body for question in similar.kept] == [STREAM]
    assert bench.look_up().result == "hit"
    assert len(similar.asked) == 1  # it is there
    found = bench.look_up(OTHER)
    assert (found.result, stored(found).body) == ("hit", WHOLE)
    assert similar.asked[1].context == similar.asked[0].context
    assert bench.look_up(OTHER, (b"Cache-Control", b"max-age=0")).result == "hit"
    bench.wall += 1
    assert bench.look_up(OTHER, (b"Cache-Control", b"max-age=0")).result == "miss"


def test_a_document_is_no_answer_to_who_wants_a_stream_nor_is_another_routes() -> None:
    similar = Similar(lambda question: similar.kept[0].key if similar.kept else None)
    bench = Bench(similar)
    bench.keep(WHOLE)
    assert bench.look_up(PLAIN).result == "miss"
    assert bench.look_up(OTHER, name="other").result == "miss"


def test_a_key_of_nothing() -> None:
    assert Bench(Similar(lambda question: b"?" * 32)).look_up().result == "miss"


def _fail(question: Question) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize("answer", [_fail, lambda question: None])
def test_a_failure_is_a_miss(answer: Callable[[Question], Any]) -> None:
    assert Bench(Similar(answer)).look_up().result == "miss"


def test_an_answer_in_time() -> None:
    asked: list[Deferred[bytes | None]] = []

    def later(question: Question) -> Deferred[bytes | None]:
        asked.append(Deferred())
        return asked[-1]

    bench = Bench(Similar(later))
    looking = bench.begin()
    bench.clock.advance(LOOKUP_DEADLINE - 0.01)
    assert looking == []
    asked[0].callback(None)
    bench.turn()
    assert looking[0].result == "miss"
    bench.clock.advance(1)
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize("stubborn", [False, True])
def test_no_answer_in_time_is_a_miss(stubborn: bool) -> None:
    """Also of those who try again when they are cancelled."""
    cancelled: list[Deferred[bytes | None]] = []

    async def ask(question: Question) -> bytes | None:
        while True:
            try:
                return await Deferred(cancelled.append)
            except Exception:
                if not stubborn or len(cancelled) > 1:
                    raise

    bench = Bench(Similar(lambda question: Deferred.fromCoroutine(ask(question))))
    looking = bench.begin()
    bench.clock.pump([0.01] * 28)
    assert [found.result for found in looking] == ["miss"]
    assert len(cancelled) == 1
    assert bench.clock.getDelayedCalls() == []


def test_who_leaves_meanwhile_leaves_no_clock_behind() -> None:
    asked: Deferred[bytes | None] = Deferred()
    bench = Bench(Similar(lambda question: asked))
    steps = bench.caching.look_up(bench.asked())
    next(steps)
    steps.close()
    asked.callback(None)
    bench.clock.advance(1)
    assert bench.clock.getDelayedCalls() == []


def test_a_bug_of_theirs_when_it_is_stored(expected_errors: ExpectedErrors) -> None:
    similar = Similar(lambda question: None)
    similar.broken = True
    bench = Bench(similar)
    assert bench.keep(WHOLE).outcome == "ok"
    assert bench.look_up().result == "hit"
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


def test_prompts_are_not_kept_for_nobody() -> None:
    bench = Bench()
    _, seat = bench.run()
    assert [question.body for question in bench.caching.keeping._questions.values()] == [b""]
    seat.reader.client_gone()
    assert bench.caching.keeping._questions == {}


# -- for the operator


@pytest.mark.parametrize("what", ["all", "route", "key"])
def test_what_was_asked_before_a_purge_is_neither_joined_nor_kept(what: str) -> None:
    bench = Bench()
    bench.keep(WHOLE)
    (kept,) = bench.caching.entries(None)
    hall, seat = bench.run(STREAM, (b"Cache-Control", b"no-cache"))
    assert bench.caching.purge("other") == 0
    assert bench.caching.flights == 1
    if what == "key":
        assert bench.caching.delete(kept.key)
    else:
        assert bench.caching.purge(None if what == "all" else "llama") == 1
    assert bench.look_up().result == "miss"
    hall.answer()
    hall.body(WHOLE)
    hall.ended()
    assert seat.downstream.body == WHOLE
    assert bench.look_up().result == "miss"
    assert bench.caching.flights == 0
    bench.keep(WHOLE)
    assert bench.look_up().result == "hit"


def test_what_the_operator_sees_and_may_do() -> None:
    bench = Bench(ttl=60.0)
    bench.keep(WHOLE)
    bench.keep(DOCUMENT, PLAIN)
    bench.wall += 10
    bench.look_up()
    caching = bench.caching
    assert (caching.count, caching.used, caching.limit, caching.evicted) == (2, bench.memory.bytes_used, 1 << 26, 0)
    newest, oldest = caching.entries(None)
    assert (newest.hits, newest.age, newest.expires_in, newest.model) == (1, 10.0, 50.0, "tiny")
    assert list(caching.entries("other")) == []
    assert len(list(caching.entries("llama"))) == 2
    assert caching.delete(oldest.key)
    assert not caching.delete(oldest.key)
    assert (caching.purge("other"), caching.purge(None), caching.count) == (0, 1, 0)
    assert bench.quota.used == 0
