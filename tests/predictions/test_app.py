"""The API whole: which answer a request gets in which form, what is invalid, cursors and gaps, the same PUT again, webhooks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.predictions.bench import ASYNC, EVENTS, JSON, FunctionBench
from tests.web.bench import Client, sleep
from tests.webhooks.rig import HTTP, Post
from txsse import streaming
from txsse.config.model import Resume
from txsse.web.context import Context

Steps = AsyncIterator[str]
WORDS = ["a", "b", "c"]


@streaming
def at_once(input: Any) -> Iterator[str]:
    yield from WORDS


class Slow:
    """A function that yields what it is told to, when it is told to."""

    def __init__(self, **given: Any) -> None:
        self.runs = 0
        self.next: Deferred[str] = Deferred()

        @streaming
        async def predict(input: Any, ctx: Context) -> Steps:
            self.runs += 1
            while word := await self.next:
                if word.startswith("log "):
                    ctx.log(word[4:])
                else:
                    yield word

        self.bench = FunctionBench(predict, **given)

    def say(self, word: str) -> None:
        """Nothing ends it."""
        given, self.next = self.next, Deferred()
        given.callback(word)


def detail(client: Client) -> tuple[Any, str]:
    """Where a request is invalid, and why."""
    assert client.answer.status == 422
    (told,) = client.document["detail"]
    assert set(told) == {"loc", "msg", "type"}
    return told["loc"], told["msg"]


def error(client: Client) -> tuple[int, str]:
    assert isinstance(client.document["error"], str), "as Cog's"
    return client.answer.status, client.document["code"]


# -- forms


def test_forms_of_a_new_one() -> None:
    bench = FunctionBench(at_once)
    document = bench.post().answer
    assert (document.status, document.header("content-type")) == (200, b"application/json")
    later = bench.post(ASYNC)
    assert (later.answer.status, later.document["status"]) == (202, "starting"), "whatever it is by now"
    assert later.answer.header("preference-applied") == b"respond-async"
    stream = bench.post("Accept: application/json, text/event-stream;q=0.5", ASYNC)
    assert (stream.answer.status, stream.answer.header("content-type")) == (200, b"text/event-stream; charset=utf-8")
    assert stream.answer.header("preference-applied") == b"respond-async"
    for client in (later, stream):
        location = client.answer.header("location")
        assert location is not None and bench.ask("GET", location.decode()).document["output"] == WORDS


def test_events_have_ids() -> None:
    client = FunctionBench(at_once).put("one", EVENTS)
    sids, numbers = zip(*(each.id.rsplit(".", 1) for each in client.events), strict=True)
    assert numbers == ("1", "2", "3", "4", "5") and len(set(sids)) == 1 and len(sids[0]) == 22


def test_the_state_while_it_runs_and_after() -> None:
    slow = Slow()
    slow.bench.put("one", ASYNC)
    slow.say("a")
    document = slow.bench.look("one").document
    assert (document["status"], document["output"]) == ("processing", ["a"])
    assert slow.bench.ask("HEAD", "/predictions/one", EVENTS).answer.status == 200
    slow.say("")
    assert slow.bench.look("one").document["status"] == "succeeded"


def test_a_document_for_each_who_waits() -> None:
    slow = Slow()
    first, second = slow.bench.put("one"), slow.bench.put("one")
    first.leave()
    slow.say("a")
    slow.say("")
    assert (slow.runs, second.document["output"]) == (1, ["a"])


def test_index_and_what_there_is_not() -> None:
    bench = FunctionBench(at_once)
    index = bench.ask("GET", "/").document
    assert index["predictions_url"] == "/predictions" and index["healthcheck_url"] == "/health-check"
    assert bench.ask("GET", "/health-check").document["status"] == "READY"
    assert error(bench.ask("GET", "/nothing")) == (404, "no_route")
    assert error(bench.look("one")) == (404, "stream_not_found")
    refused = bench.ask("DELETE", "/predictions")
    assert (refused.answer.status, refused.answer.header("allow")) == (405, b"POST")


# -- invalid requests


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", ["body"]),
        (b"[]", ["body"]),
        (b'{"input":1}', ["body", "input"]),
        (b'{"input":[]}', ["body", "input"]),
        (b'{"input":{"a":nope}}', ["body", "input"]),
        (b'{"id":1}', ["body", "id"]),
        (b'{"id":"a b"}', ["body", "id"]),
        (b'{"id":""}', ["body", "id"]),
        (b'{"webhook":"http://hooks.test/"}', ["body", "webhook"]),
        (b'{"webhook_events_filter":["begun"]}', ["body", "webhook_events_filter"]),
    ],
)
def test_what_is_invalid(body: bytes, where: list[str]) -> None:
    bench = FunctionBench(at_once)
    assert detail(bench.ask("POST", "/predictions", body=body))[0] == where
    assert len(bench.jobs) == 0


def test_the_id_in_the_body_must_be_that_of_the_path() -> None:
    bench = FunctionBench(at_once)
    told = detail(bench.ask("PUT", "/predictions/one", body={"id": "two", "input": {}}))
    assert told == (["body", "id"], "prediction ID must match the ID supplied in the URL")
    assert detail(bench.ask("PUT", "/predictions/a%20b", body={"input": {}}))[0] == ["path", "prediction_id"]
    assert bench.ask("PUT", "/predictions/one", body={"input": {}}).document["id"] == "one"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input":null}', b' {"input":{},"input":{"a":1}} '])
def test_a_function_needs_no_input(body: bytes) -> None:
    assert FunctionBench(at_once).ask("POST", "/predictions", body=body).document["status"] == "succeeded"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("application/x-www-form-urlencoded", 415),
        ("text/json", 415),
    ],
)
def test_the_body_is_json(kind: str, status: int) -> None:
    client = FunctionBench(at_once).service.ask("POST", "/predictions", f"Content-Type: {kind}", body=b'{"input":{}}')
    assert client.answer.status == status


def test_a_large_body_is_read_in_turns() -> None:
    given: list[int] = []

    @streaming
    def measure(input: Any) -> Iterator[str]:
        given.append(len(input["image"]))
        yield "x"

    bench = FunctionBench(measure)
    body = json.dumps({"input": {"image": "x" * 3_000_000}, "id": "large"}).encode()
    client = bench.service.ask("POST", "/predictions", JSON, body=body)
    assert not client.transport.value(), "it takes some turns"
    bench.wait(5)
    assert client.document["id"] == "large" and given == [3_000_000]


def test_who_leaves_meanwhile_is_not_served() -> None:
    slow = Slow()
    client = slow.bench.service.ask("POST", "/predictions", JSON, body=b'{"input":{"a":"%b"}}' % (b"x" * 1_000_000))
    client.leave()
    slow.bench.wait(2)
    assert slow.runs == 0 and len(slow.bench.jobs) == 0


# -- the same again


def test_a_put_is_done_once() -> None:
    slow = Slow()
    first = slow.bench.put("one", EVENTS)
    slow.say("a")
    again = slow.bench.put("one", EVENTS, other="input")
    assert again.told == first.told
    assert slow.bench.put("one", ASYNC).document["status"] == "processing"
    slow.say("")
    assert again.told == first.told
    assert slow.bench.put("one", EVENTS).told == first.told, "also after the end"
    assert slow.bench.put("one").document == first.told[-1][1]
    assert slow.bench.put("one", ASYNC).answer.status == 200, "it is done"
    assert slow.runs == 1


def test_until_it_is_forgotten() -> None:
    bench = FunctionBench(at_once, ttl=10)
    first = bench.put("one", EVENTS)
    cursor = f"Last-Event-ID: {first.events[0].id}"
    bench.wait(9)
    assert bench.look("one").answer.status == 200
    bench.wait(3)
    assert error(bench.look("one")) == (410, "stream_gone")
    assert error(bench.put("one", EVENTS, cursor)) == (410, "stream_gone"), "who has a part of it gets no other one"
    assert error(bench.post(EVENTS, cursor)) == (410, "stream_gone")
    second = bench.put("one", EVENTS)
    assert second.events[0].id != first.events[0].id
    assert error(bench.look("one", EVENTS, cursor)) == (400, "bad_cursor")
    bench.wait(700)
    assert error(bench.look("one")) == (404, "stream_not_found")


def test_a_post_goes_on_with_what_it_has_begun() -> None:
    slow = Slow()
    first = slow.bench.post(EVENTS, ASYNC)
    slow.say("a")
    first.leave()
    slow.say("b")
    again = slow.bench.post(EVENTS, f"Last-Event-ID: {first.events[-1].id}")
    slow.say("")
    assert [name for name, _ in again.told] == ["output", "completed"]
    assert slow.runs == 1
    other = slow.bench.put("other", EVENTS, f"Last-Event-ID: {first.events[-1].id}")
    assert error(other) == (400, "bad_cursor")
    assert error(slow.bench.post(EVENTS, f"Last-Event-ID: {'A' * 22}.3")) == (404, "stream_not_found")


# -- cursors


def numbers(client: Client) -> list[int]:
    return [int(each.id.rpartition(".")[2]) for each in client.events]


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ("", "", [1, 2, 3, 4, 5]),
        ("", "S.2", [3, 4, 5]),
        ("?last_event_id=S.2", "", [3, 4, 5]),
        ("?starting_after=4", "", [5]),
        ("?last_event_id=S.1", "S.3", [4, 5]),
        ("?last_event_id=earliest", "", [1, 2, 3, 4, 5]),
        ("?starting_after=-1", "", [1, 2, 3, 4, 5]),
    ],
)
def test_where_a_reader_goes_on(query: str, field: str, told: list[int]) -> None:
    bench = FunctionBench(at_once)
    sid = bench.put("one", EVENTS).events[0].id.partition(".")[0]
    fields = [f"Last-Event-ID: {field.replace('S', sid)}"] if field else []
    client = bench.ask("GET", f"/predictions/one{query.replace('S.', sid + '.')}", EVENTS, *fields)
    assert numbers(client) == told
    assert client.answer.header("x-stream-state") == b"done"
    assert (client.answer.header("x-stream-first"), client.answer.header("x-stream-last")) == (b"1", b"5")


def test_who_has_all_of_it_is_told_to_stop() -> None:
    bench = FunctionBench(at_once)
    last = bench.put("one", EVENTS).events[-1].id
    for client in (bench.look("one", EVENTS, f"Last-Event-ID: {last}"), bench.put("one", EVENTS, f"Last-Event-ID: {last}")):
        assert client.answer.status == 204 and not client.body
    assert bench.ask("GET", "/predictions/one?from=live", EVENTS).answer.status == 200


def test_from_now_on() -> None:
    slow = Slow()
    slow.bench.put("one", ASYNC)
    slow.say("a")
    client = slow.bench.ask("GET", "/predictions/one?from=live", EVENTS)
    ahead = slow.bench.ask("GET", "/predictions/one?starting_after=99", EVENTS)
    slow.say("b")
    slow.say("")
    assert numbers(client) == numbers(ahead) == [3, 4]


def test_what_is_no_cursor_begins_nothing() -> None:
    slow = Slow()
    assert error(slow.bench.put("one", EVENTS, "Last-Event-ID: undefined")) == (400, "bad_cursor")
    assert slow.runs == 0 and len(slow.bench.jobs) == 0


def test_who_prefers_not_to_wait_after_all() -> None:
    bench = Slow(on_disconnect="grace", grace=2).bench
    bench.put("one", EVENTS).leave()
    bench.wait(1)
    assert bench.put("one", ASYNC).answer.status == 202
    bench.wait(5)
    assert bench.status("one") == "processing"
    bench.ask("POST", "/predictions/one/cancel")


@pytest.mark.parametrize("cursor", ["undefined", "S.x", "S.-5", "A.1", "x" * 200])
def test_what_is_no_cursor(cursor: str) -> None:
    bench = FunctionBench(at_once)
    sid = bench.put("one", EVENTS).events[0].id.partition(".")[0]
    assert error(bench.look("one", EVENTS, f"Last-Event-ID: {cursor.replace('S', sid)}")) == (400, "bad_cursor")


def test_readers_have_a_bound() -> None:
    slow = Slow(max_readers=2)
    first, _ = slow.bench.put("one", EVENTS), slow.bench.look("one", EVENTS)
    refused = slow.bench.look("one", EVENTS)
    assert error(refused) == (429, "too_many_readers") and refused.answer.header("retry-after") == b"5"
    first.leave()
    assert slow.bench.look("one", EVENTS).answer.status == 200
    slow.say("")


# -- gaps

SMALL = 1200


def long(count: int) -> Callable[..., Any]:
    @streaming
    def predict(input: Any) -> Iterator[str]:
        yield from map(str, range(count))

    return predict


def test_a_gap_is_told_in_the_head() -> None:
    bench = FunctionBench(long(100), max_bytes=SMALL)
    bench.put("one")
    late = bench.look("one", EVENTS)
    gap = int(late.answer.header("x-stream-gap") or b"0")
    assert numbers(late) == list(range(gap + 1, 103)) and 0 < gap < 101
    assert late.answer.header("x-stream-first") == b"%d" % (gap + 1)
    told = numbers(bench.ask("GET", f"/predictions/one?starting_after={gap}", EVENTS))
    assert told == numbers(late), "who has what is gone misses nothing"


def test_or_is_an_error() -> None:
    bench = FunctionBench(long(100), on_gap="error", max_bytes=SMALL)
    bench.put("one")
    assert error(bench.look("one", EVENTS)) == (410, "stream_gone")
    as_cog = bench.put("one", EVENTS)
    assert [name for name, _ in as_cog.told] == ["error"]
    assert bench.look("one").document["status"] == "succeeded"


@pytest.mark.parametrize("on_gap", ["skip", "error"])
def test_a_reader_that_falls_behind_one_that_does_not(on_gap: str) -> None:
    slow = Slow(on_gap=on_gap, max_bytes=SMALL)
    quick, lazy = slow.bench.put("one", EVENTS), slow.bench.look("one", EVENTS)
    lazy.stop_reading()
    for number in range(50):
        slow.say(f"{number}")
    lazy.read_on()
    slow.say("")
    assert numbers(quick) == list(range(1, 53))
    if on_gap == "skip":
        (comment,) = [each for each in lazy.comments if "gap" in each]
        gap = json.loads(comment.removeprefix(" txsse ").removeprefix("txsse "))["gap"]
        assert len(lazy.events) + gap == 52 and numbers(lazy)[-1] == 52
    else:
        name, told = lazy.told[-1]
        assert (name, told["code"]) == ("error", "replay_truncated")
        assert told["skipped"] + len(lazy.events) - 1 == int(told["first"].rpartition(".")[2]) - 1


def test_twenty_thousand_events_in_order_in_one_connection() -> None:
    bench = FunctionBench(long(20_000), max_bytes=4 * 2**20, memory=2**24)
    bench.put("one")
    assert numbers(bench.look("one", EVENTS)) == list(range(1, 20_003))


# -- memory


def test_what_is_over_makes_room() -> None:
    bench = FunctionBench(long(100), memory=32 * 1024)
    for number in range(10):
        assert bench.put(f"n{number}").answer.status == 200
    assert bench.quota.used <= 32 * 1024
    assert bench.look("n9").answer.status == 200
    assert error(bench.look("n0")) == (410, "stream_gone")


def test_no_memory_no_prediction() -> None:
    @streaming
    async def predict(input: Any) -> Steps:
        await sleep(bench.clock, 1)
        yield "x"

    bench = FunctionBench(predict, memory=20_000)
    made = 0
    while (client := bench.put(f"n{made}", ASYNC)).answer.status == 202:
        made += 1
    assert made in (2, 3, 4) and error(client) == (409, "at_capacity")
    bench.ask("POST", "/predictions/n0/cancel")
    assert bench.put("another", ASYNC).answer.status == 202
    bench.wait(2)


def test_all_of_it_is_given_back() -> None:
    bench = FunctionBench(long(100), ttl=1)
    bench.put("one")
    bench.put("two", EVENTS)
    bench.service.assert_nothing_ticks()
    assert (bench.quota.used, bench.jobs.bytes_used, len(bench.jobs)) == (0, 0, 0)


# -- webhooks


def test_webhooks() -> None:
    post = Post()
    slow = Slow(sender=post.sender)
    given = {"input": {}, "webhook": HTTP}
    assert slow.bench.ask("PUT", "/predictions/one", ASYNC, body=given).answer.status == 202
    started = post.next()
    assert (started.document["id"], started.document["status"]) == ("one", "starting")
    started.answer()
    slow.say("a")
    slow.say("log b")
    post.net.wait(1)
    update = post.next()
    assert (update.document["status"], update.document["output"], update.document["logs"]) == ("processing", ["a"], "b\n")
    update.answer()
    slow.say("")
    completed = post.next()
    assert completed.document == slow.bench.look("one").document
    completed.answer()
    slow.bench.ask("PUT", "/predictions/one", ASYNC, body=given)
    post.net.wait(1)
    assert post.quiet, "a retry makes no second run, nor second news"


def test_webhooks_of_what_is_over_at_once() -> None:
    post = Post()
    bench = FunctionBench(at_once, sender=post.sender)
    filtered = {"input": {}, "webhook": HTTP, "webhook_events_filter": ["completed"]}
    bench.ask("PUT", "/predictions/one", body=filtered)
    assert post.next().document["output"] == WORDS
    assert post.quiet


def test_webhooks_go_only_where_they_may() -> None:
    bench = FunctionBench(at_once, sender=Post().sender)
    where, why = detail(bench.ask("PUT", "/predictions/one", body={"input": {}, "webhook": "http://other.test/"}))
    assert where == ["body", "webhook"] and "other.test" not in why
    assert len(bench.jobs) == 0


# -- a service with more than predictions


def test_the_api_below_a_path() -> None:
    from klein import Klein
    from twisted.internet.testing import MemoryReactorClock

    from tests.web.bench import Service
    from txsse.clock import Alarms
    from txsse.predictions.app import PredictionsApp
    from txsse.predictions.handlers import HandlerModels
    from txsse.predictions.jobs import Jobs
    from txsse.recordings.store import Quota

    outer = Klein()

    def make(clock: MemoryReactorClock) -> Any:
        api = PredictionsApp(HandlerModels(at_once, resume=Resume()), Jobs(Alarms(clock), Quota(2**20)))

        @outer.route("/api/", branch=True)
        def mounted(request: object) -> Any:
            return api.app.resource()

        return outer.resource()

    service = Service(make)
    client = service.ask("POST", "/api/predictions", JSON, body=b'{"id":"one","input":{}}')
    assert client.answer.header("location") == b"/api/predictions/one"
    assert service.ask("GET", "/api/predictions/one").document["output"] == WORDS


def test_a_slow_source_is_not_begun_twice_by_two_at_once() -> None:
    runs: list[str] = []

    @streaming
    async def predict(input: Any) -> Steps:
        runs.append("x")
        await sleep(bench.clock, 1)
        yield "x"

    bench = FunctionBench(predict)
    body = b'{"input":{"a":"%b"}}' % (b"x" * 1_000_000)
    clients = [bench.service.ask("PUT", "/predictions/one", JSON, body=body) for _ in range(2)]
    bench.wait(5)
    assert [client.document["status"] for client in clients] == ["succeeded"] * 2 and runs == ["x"]
