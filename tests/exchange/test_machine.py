"""The life of a request: what follows from each event in each state."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.exchange.dialect_scripts import COLD_STARTS
from tests.exchange.playbook import STREAM_HEAD, Feed, FeedEnd, Player, Wait, all_rows
from tests.exchange.scripts import BEAT, CHUNK, DONE, EVENT, LINE, REFUSED, SCRIPTS, STATUS, head
from tests.exchange.spoken import SPOKEN, responses_error
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.failures import outcome_of
from txsse.exchange.table import TABLE, HeadOf, State
from txsse.exchange.voice import HoldStatus
from txsse.interfaces import Failed, Fault
from txsse.wire.http1 import ResponseHead

READY = ev.Begin(ready=True)
NOT_READY = ev.Begin(ready=False)
COMMIT = ev.Elapsed(Timer.COMMIT)
KEEPALIVE = ev.Elapsed(Timer.KEEPALIVE)
HEARTBEAT = ev.Elapsed(Timer.HEARTBEAT)
STREAM = ev.HeadCame(STREAM_HEAD, True)


def about(seconds: float) -> Any:
    return pytest.approx(seconds)


@pytest.mark.parametrize("name", [*SCRIPTS, *COLD_STARTS])
def test_script(name: str) -> None:
    assert (SCRIPTS | COLD_STARTS)[name]()


def test_the_scripts_visit_every_row_of_the_table() -> None:
    visited = set()
    for script in SCRIPTS.values():
        play = script()
        assert play
        visited |= {(state, key) for state, key, _ in play.player.visited}
    assert all_rows() - visited == set()


def test_every_row_leads_only_where_it_says_and_says_why() -> None:
    for state, rows in TABLE.items():
        for row in rows.values():
            assert row.to
            assert row.why
            assert state is not State.ENDED


# -- every failure, in every phase, whoever's head the client has

Failure = tuple[str, Callable[[Player], Any]]


def _too_late(player: Player) -> Any:
    return player.play(ev.Elapsed(Timer.FIRST_BYTE))


def _died(player: Player) -> Any:
    return player.play(ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response")))


def _malformed(player: Player) -> Any:
    return player.play(ev.DispatchFailed(Failed(Fault.INVALID, "malformed chunk")))


def _reset(player: Player) -> Any:
    return player.play(ev.DispatchFailed(Failed(Fault.RESET, "connection reset before a response")))


def _idle(player: Player) -> Any:
    return player.play(ev.Elapsed(Timer.IDLE))


def _total(player: Player) -> Any:
    return player.play(ev.Elapsed(Timer.TOTAL))


def _shutdown(player: Player) -> Any:
    return player.play(ev.Shutdown())


def _hold(player: Player) -> Any:
    return player.play(ev.Elapsed(Timer.HOLD))


def _wake(player: Player) -> Any:
    return player.play(ev.UpstreamFailed(ProxyError("wake_failed", "The start failed.")))


def _answer(status: int, kind: bytes, body: bytes) -> Callable[[Player], Any]:
    def play(player: Player) -> Any:
        player.play(ev.HeadCame(head(status, kind), True))
        return player.play(ev.BodyCollected(body, complete=True)) if status >= 400 else None

    return play


JSON_ERROR = b'{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}'
HELD: list[tuple[str, Callable[[Player], Any], str, str, str]] = [
    (
        "hold",
        _hold,
        "The upstream llama was not ready within 600 s (it is down, connection refused). Try again later.",
        "readiness_timeout",
        "overloaded_error",
    ),
    ("wake", _wake, "The start failed.", "wake_failed", "api_error"),
    ("total", _total, "The request was not answered within 90 s.", "upstream_timeout", "api_error"),
    ("shutdown", _shutdown, "The proxy is shutting down. Try again in a moment.", "shutting_down", "overloaded_error"),
]
SENT: list[tuple[str, Callable[[Player], Any], str, str, str]] = [
    ("first byte", _too_late, "The upstream sent nothing within 600 s.", "upstream_timeout", "api_error"),
    (
        "reset",
        _reset,
        "The upstream could not be reached: connection reset before a response. Try again in a moment.",
        "upstream_unavailable",
        "api_error",
    ),
    ("invalid", _malformed, "The upstream's answer could not be used: malformed chunk.", "upstream_invalid", "api_error"),
    *HELD[2:],
]
STREAMING: list[tuple[str, Callable[[Player], Any], str, str, str]] = [
    ("died", _died, "The upstream disconnected before its answer was complete.", "upstream_disconnected", "api_error"),
    ("invalid", _malformed, "The upstream's stream could not be read: malformed chunk.", "upstream_invalid", "api_error"),
    ("idle", _idle, "The upstream was silent for 300 s.", "upstream_timeout", "api_error"),
    *HELD[2:],
]


# What is said once upstream's own events have begun continues them.
HEAD = "its head"
EVENTS = "its first events"
PHASES: dict[str, tuple[tuple[Any, ...], list[tuple[str, Callable[[Player], Any], str, str, str]]]] = {
    "held": ((NOT_READY,), HELD),
    "sent": ((READY,), SENT),
    "held, committed": ((NOT_READY, COMMIT), HELD),
    "sent, committed": ((READY, COMMIT), SENT),
    "streaming, our head": ((READY, COMMIT, HEAD, EVENTS), STREAMING),
    "streaming, upstream's head": ((READY, HEAD, EVENTS), STREAMING),
    "silent, upstream's head": ((READY, HEAD), [SENT[0], *STREAMING[:2], *HELD[2:]]),
}
MATRIX = [
    pytest.param(phase, failure, dialect, end, id=f"{phase}: {failure[0]} ({dialect}, {end})")
    for phase, (_, failures) in PHASES.items()
    for failure, dialect, end in itertools.product(failures, SPOKEN, ("abort", "done"))
]


@pytest.mark.parametrize(("phase", "failure", "dialect", "end"), MATRIX)
def test_a_failure_is_said_in_the_way_the_client_can_still_read(phase: str, failure: Any, dialect: str, end: str) -> None:
    _, fail, message, code, anthropic_type = failure
    spoken = SPOKEN[dialect]
    frame = spoken.error(message, code, "server_error", anthropic_type)
    player = Player(dialect=spoken.dialect, error_end=end, total=90)
    for step in PHASES[phase][0]:
        player.play(ev.HeadCame(spoken.head, True) if step == HEAD else Feed(spoken.opening + spoken.event) if step == EVENTS else step)
        if step == EVENTS and dialect == "openai-responses":
            frame = responses_error(message, number=8, ident="resp_1")
    before, at = player.client, len(player.outcomes)
    whose = player.head_of
    fail(player)
    said, outcomes = player.client[len(before) :], player.outcomes[at:]
    if player.state is State.FAILING:
        player.play(ev.ClientDrained(), Wait(0.2), ev.Elapsed(Timer.LINGER))
    assert player.state is State.ENDED
    assert player.outcomes[-1] == act.Done(outcome_of(code), code)
    assert [each for each in outcomes if isinstance(each, act.Refuse)] == ([] if whose is not HeadOf.NOBODY else [outcomes[-2]])
    if whose is HeadOf.NOBODY:
        assert isinstance(outcomes[-2], act.Refuse)
        assert (outcomes[-2].error.code, outcomes[-2].error.message) == (code, message)
        assert said == b""
    elif dialect == "sse" and whose is HeadOf.UPSTREAM:
        assert said == b""
        assert player.outcomes[-2] == act.Cut()
    elif end == "abort":
        assert said == frame
        assert player.outcomes[-2] == act.Cut()
        assert act.Finish() not in player.outcomes
    else:
        assert said == frame + spoken.done
        assert player.outcomes[-2] == act.Finish()
        assert act.Cut() not in player.outcomes


@pytest.mark.parametrize("dialect", ["openai-chat", "sse"])
@pytest.mark.parametrize(
    ("answer", "openai", "anthropic"),
    [
        (
            _answer(400, b"application/json", JSON_ERROR),
            '{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","status":400}',
            '{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","status":400}',
        ),
        (
            _answer(500, b"text/html; charset=utf-8", b"<html><title>500</title><h1>Internal   Server Error</h1></html>"),
            '{"message":"500 Internal Server Error","type":"server_error","param":null,"code":"upstream_error","status":500}',
            '{"type":"api_error","message":"500 Internal Server Error","code":"upstream_error","status":500}',
        ),
        (
            _answer(429, b"application/json", b'{"error":"slow down"}'),
            '{"message":"slow down","type":"server_error","param":null,"code":"upstream_error","status":429}',
            '{"type":"api_error","message":"slow down","code":"upstream_error","status":429}',
        ),
        (
            _answer(200, b"application/json", b""),
            '{"message":"The upstream answered 200 with application/json where an event stream was expected.",'
            '"type":"server_error","param":null,"code":"upstream_invalid","status":200}',
            '{"type":"api_error","message":"The upstream answered 200 with application/json where an event stream was expected.",'
            '"code":"upstream_invalid","status":200}',
        ),
        (
            _answer(302, b"text/html", b""),
            '{"message":"The upstream answered 302 where an event stream was expected.",'
            '"type":"server_error","param":null,"code":"upstream_invalid","status":302}',
            '{"type":"api_error","message":"The upstream answered 302 where an event stream was expected.",'
            '"code":"upstream_invalid","status":302}',
        ),
    ],
    ids=["400 JSON", "500 HTML", "429 string", "200 JSON", "302"],
)
def test_an_unwelcome_answer_after_the_commit_becomes_one_frame(answer: Any, openai: str, anthropic: str, dialect: str) -> None:
    player = Player(dialect=dialect)
    player.play(READY, COMMIT)
    before = player.client
    answer(player)
    data = f'{{"error":{openai}}}' if dialect == "openai-chat" else f'{{"type":"error","error":{anthropic}}}'
    event = "" if dialect == "openai-chat" else "event: error\n"
    assert player.client[len(before) :] == f"{event}data: {data}\n\n".encode()
    assert player.state is State.FAILING


def test_a_compressed_stream_after_the_commit_is_an_error() -> None:
    player = Player()
    player.play(READY, COMMIT, ev.HeadCame(head(200, b"text/event-stream", (b"Content-Encoding", b"gzip")), True))
    assert b"a compressed stream" in player.client
    assert b'"code":"upstream_invalid"' in player.client
    assert act.AbortUpstream() in player.outcomes


def test_an_answer_to_an_exchange_that_fell_to_error_event_gets_its_frame_after_upstreams_head() -> None:
    player = Player(dialect="sse", error_event=True)
    player.play(READY, STREAM, Feed(EVENT))
    _died(player)
    assert player.client.startswith(EVENT + b"event: error\ndata: ")


# -- holding, grace, commit


def test_nothing_is_injected_before_a_gap_reaches_the_interval() -> None:
    player = Player()
    player.play(READY, Wait(4.9), STREAM, Feed(EVENT), Feed(DONE), FeedEnd())
    assert player.client == EVENT + DONE
    assert [each for each in player.outcomes if isinstance(each, act.RelayHead)] == [act.RelayHead(STREAM_HEAD, True)]


def test_commit_after_counts_from_the_end_of_the_request_when_it_is_not_ready() -> None:
    player = Player(hold_commit_after=1.0)
    player.play(Wait(0.4), NOT_READY)
    assert player.running[Timer.COMMIT] == about(0.6)


def test_a_second_hold_commits_by_the_same_clock() -> None:
    player = Player(hold_commit_after=1.0)
    player.play(READY, Wait(0.3))
    player.play(ev.DispatchFailed(REFUSED))
    assert player.running[Timer.COMMIT] == about(0.7)


def test_commit_after_counts_from_the_dispatch_when_upstream_is_silent() -> None:
    player = Player(commit_after=5.0)
    player.play(NOT_READY, Wait(0.9))
    player.play(ev.UpstreamReady(cold=True))
    assert player.running[Timer.COMMIT] == 5.0


def test_a_request_for_no_stream_is_never_committed() -> None:
    player = Player(streaming=False)
    for step in (NOT_READY, Wait(30), ev.UpstreamReady(cold=True), ev.DispatchFailed(REFUSED)):
        player.play(step)
        assert Timer.COMMIT not in player.running


def test_hold_timeout_zero_waits_for_ever() -> None:
    player = Player(hold_timeout=0)
    player.play(NOT_READY)
    assert Timer.HOLD not in player.running
    player.play(Wait(600), ev.UpstreamReady(cold=True))
    assert player.state is State.SENT


def test_the_first_byte_timeout_does_not_include_the_wait() -> None:
    player = Player(first_byte=0.2)
    player.play(NOT_READY, Wait(0.3))
    player.play(ev.UpstreamReady(cold=True))
    assert player.running[Timer.FIRST_BYTE] == about(0.2)


def test_the_status_of_a_hold_that_is_over_is_the_routes() -> None:
    player = Player(hold_timeout_status=504)
    player.play(NOT_READY)
    refused = next(each for each in player.play(ev.Elapsed(Timer.HOLD)) if isinstance(each, act.Refuse))
    assert (refused.error.http_status, refused.error.code) == (504, "readiness_timeout")


@pytest.mark.parametrize(
    ("steps", "cold"),
    [
        ((READY,), False),
        ((NOT_READY, ev.UpstreamReady(cold=False)), False),
        ((NOT_READY, ev.UpstreamReady(cold=True)), True),
        ((NOT_READY, COMMIT), True),
        ((NOT_READY, COMMIT, ev.UpstreamReady(cold=False)), True),
        ((READY, COMMIT), False),
        ((NOT_READY, ev.Elapsed(Timer.HOLD)), True),
        ((NOT_READY, ev.Elapsed(Timer.TOTAL)), True),
        ((NOT_READY, ev.Shutdown()), True),
        ((READY, ev.Elapsed(Timer.TOTAL)), False),
        ((READY, ev.Shutdown()), False),
    ],
    ids=[
        "warm",
        "first probe succeeds",
        "waited",
        "committed while held",
        "committed, then a first probe succeeds",
        "only silent",
        "waited in vain",
        "total deadline while held",
        "shut down while held",
        "total deadline while silent",
        "shut down while silent",
    ],
)
def test_cold_says_whether_it_waited_for_readiness(steps: Any, cold: bool) -> None:
    player = Player()
    player.play(*steps)
    assert player.machine.cold is cold


# -- what is said in a gap


@pytest.mark.parametrize(
    ("policy", "dialect", "held", "silent"),
    [
        ({}, "openai-chat", STATUS, LINE),
        ({}, "sse", STATUS, LINE),
        ({"status_comments": False}, "openai-chat", LINE, LINE),
        ({"form": "line"}, "openai-chat", STATUS, LINE),
        ({"form": "frame"}, "openai-chat", STATUS + b"\n", LINE + b"\n"),
        ({"form": "frame", "status_comments": False}, "sse", LINE + b"\n", LINE + b"\n"),
        ({"form": "event"}, "openai-chat", BEAT, BEAT),
        ({"form": "event"}, "sse", STATUS, LINE),
        ({"form": "none"}, "openai-chat", b"", b""),
    ],
)
def test_keepalives_have_the_form_the_route_asks_for(policy: Any, dialect: str, held: bytes, silent: bytes) -> None:
    first = Player(dialect=dialect, **policy)
    first.play(NOT_READY, COMMIT)
    assert first.client == held
    second = Player(dialect=dialect, **policy)
    second.play(READY, COMMIT)
    assert second.client == silent


def test_form_none_sets_no_timer_and_beats_no_heart() -> None:
    player = Player(form="none")
    player.play(NOT_READY, COMMIT)
    assert Timer.KEEPALIVE not in player.running
    player.play(HEARTBEAT)
    assert player.client == b""


def test_no_blank_line_after_an_id_has_passed() -> None:
    player = Player(form="frame")
    player.play(READY, STREAM, Feed(EVENT), KEEPALIVE)
    assert player.client == EVENT + LINE + b"\n"
    player.play(Feed(b"id: 1\ndata: x\n\n"), KEEPALIVE)
    assert player.client == EVENT + LINE + b"\nid: 1\ndata: x\n\n" + LINE


def test_a_dialect_without_a_no_op_event_has_no_heartbeat() -> None:
    player = Player(dialect="sse")
    player.play(NOT_READY, COMMIT)
    before = player.client
    assert player.play(HEARTBEAT) == []
    assert player.client == before


def test_heartbeat_zero_is_off() -> None:
    player = Player(heartbeat=0)
    player.play(NOT_READY, COMMIT)
    assert player.running.keys() == {Timer.HOLD, Timer.KEEPALIVE}


def test_upstreams_comments_do_not_end_the_heartbeat_but_its_first_event_does() -> None:
    player = Player()
    player.play(READY, STREAM, Feed(b": OPENROUTER PROCESSING\n\n"))
    assert Timer.HEARTBEAT in player.running
    player.play(Feed(EVENT))
    assert Timer.HEARTBEAT not in player.running


# -- visible text

MESSAGE = "Waking {model}, {elapsed} s, {eta} left, place {position}. {unknown}"


def _delta(name: str, text: str) -> bytes:
    return CHUNK + f'"choices":[{{"index":0,"delta":{{"{name}":"{text}"}},"finish_reason":null}}]}}\n\n'.encode()


@pytest.mark.parametrize(("channel", "name"), [("reasoning", "reasoning_content"), ("content", "content")])
def test_message_progress_and_separator(channel: str, name: str) -> None:
    player = Player(message=MESSAGE, channel=channel)
    player.play(NOT_READY, COMMIT)
    message = _delta(name, "Waking tiny, 12 s, ? left, place ?. {unknown}")
    assert player.client == message
    player.play(KEEPALIVE)
    assert player.client == message + _delta(name, ".")
    player.play(ev.UpstreamReady(cold=True), KEEPALIVE, STREAM, Feed(EVENT), Feed(DONE))
    separator = _delta("content", r"\n\n---\n\n") if channel == "content" else b""
    assert player.client == message + _delta(name, ".") + LINE + separator + EVENT + DONE


def test_the_separator_comes_once_and_before_upstreams_first_byte() -> None:
    player = Player(message="Hello", channel="content", separator="|")
    player.play(NOT_READY, COMMIT, ev.UpstreamReady(cold=True), STREAM, Feed(b"\xef\xbb\xbf: ping\n\n"), Feed(EVENT))
    assert player.client == _delta("content", "Hello") + _delta("content", "|") + b": ping\n\n" + EVENT


def test_no_separator_where_no_message_was_shown() -> None:
    player = Player(message="Hello", channel="content")
    player.play(READY, COMMIT, STREAM, Feed(EVENT))
    assert player.client == LINE + EVENT


@pytest.mark.parametrize(
    "player",
    [{"show_text": False, "message": "Hello"}, {"dialect": "sse", "message": "Hello"}, {}],
    ids=["the answer is for a program", "no such thing in the dialect", "no message"],
)
def test_without_visible_text_the_hold_is_invisible(player: Any) -> None:
    play = Player(**player, channel="content")
    play.play(NOT_READY, COMMIT, KEEPALIVE, ev.UpstreamReady(cold=True), STREAM, Feed(EVENT))
    assert play.client == STATUS + STATUS + EVENT


def test_a_message_counts_as_words_of_ours_also_with_form_none() -> None:
    player = Player(message="Hello", form="none")
    player.play(NOT_READY, COMMIT, ev.UpstreamReady(cold=True), STREAM, Feed(b"\xef\xbb\xbf" + EVENT))
    assert player.client == _delta("reasoning_content", "Hello") + EVENT


def test_a_status_comment_has_its_members_in_the_documented_order() -> None:
    full = HoldStatus("llama", "waking", 12.34, eta=31.2, position=2)
    assert full.as_comment() == '{"state":"waking","elapsed":12.3,"eta":31,"position":2}'
    assert HoldStatus("llama", "down", 0.0).as_comment() == '{"state":"down","elapsed":0.0}'


# -- heads


@pytest.mark.parametrize(
    ("answer", "has_body"),
    [
        (head(200, b"text/event-stream", (b"Content-Encoding", b"gzip")), True),
        (head(200, b"text/event-stream", (b"Content-Length", b"20")), True),
        (head(200, b"text/event-stream-foo"), True),
        (head(200, b"text/html"), True),
        (head(404), True),
        (head(500, b"text/html"), True),
        (ResponseHead(204, b"", b"HTTP/1.1", []), False),
        (ResponseHead(304, b"", b"HTTP/1.1", [(b"Content-Type", b"text/event-stream")]), False),
    ],
    ids=["compressed", "of known length", "another type", "HTML", "404", "500", "204", "304"],
)
def test_what_is_no_stream_of_ours_to_speak_in_is_relayed_untouched(answer: ResponseHead, has_body: bool) -> None:
    player = Player()
    player.play(READY)
    assert act.RelayHead(answer, has_body) in player.play(ev.HeadCame(answer, has_body))
    assert player.state is State.PLAIN
    player.play(Feed(b"data: half"))
    assert player.client == b"data: half"


@pytest.mark.parametrize("kind", [b"text/event-stream;charset=UTF-8", b"text/event-stream;", b"Text/Event-Stream"])
@pytest.mark.parametrize("asked", [True, False])
def test_any_event_stream_is_frame_aligned_also_for_who_did_not_ask(kind: bytes, asked: bool) -> None:
    player = Player(streaming=asked)
    player.play(READY, ev.HeadCame(head(200, kind), True), Feed(EVENT + b"data: half"))
    assert player.client == EVENT
    player.play(KEEPALIVE)
    assert player.client == EVENT + LINE


@pytest.mark.parametrize("kept", ["headers", "loading"])
def test_without_a_hold_no_answer_is_a_loading_one(kept: str) -> None:
    player = Player(holds=False)
    player.play(READY, ev.HeadCame(head(503), True))
    assert player.state is State.PLAIN
    assert act.RelayHead(head(503), True) in player.outcomes


def test_a_loading_answer_after_the_commit_goes_back_to_hold_too() -> None:
    player = Player()
    player.play(READY, COMMIT, ev.HeadCame(head(503), True), ev.BodyCollected(b"Loading model", complete=True))
    assert player.state is State.HELD
    assert player.client == LINE
    player.play(ev.UpstreamReady(cold=True), STREAM, Feed(EVENT))
    assert player.client == LINE + EVENT


def test_only_the_first_4_kib_are_looked_at_for_loading() -> None:
    player = Player()
    player.play(READY, COMMIT, ev.HeadCame(head(503), True), ev.BodyCollected(b" " * 4096 + b"loading", complete=True))
    assert player.state is State.FAILING


# -- ends


@pytest.mark.parametrize(
    ("dialect", "body", "require_done", "ends"),
    [
        ("openai-chat", EVENT, False, act.Done("ok", unterminated=True)),
        ("openai-chat", EVENT + DONE, True, act.Done("ok")),
        ("openai-chat", EVENT + b"data: [DONE]", True, act.Done("ok")),
        ("openai-chat", EVENT + b"data: [DONE]\n", True, act.Done("ok")),
        ("sse", EVENT, True, act.Done("ok")),
    ],
)
def test_a_clean_end(dialect: str, body: bytes, require_done: bool, ends: act.Done) -> None:
    player = Player(dialect=dialect, require_done=require_done)
    player.play(READY, STREAM, Feed(body), FeedEnd())
    assert player.outcomes[-2:] == [act.Finish(), ends]
    assert player.client == body


def test_require_done_turns_a_clean_end_without_the_terminal_event_into_a_failure() -> None:
    player = Player(require_done=True)
    player.play(READY, STREAM, Feed(EVENT), FeedEnd())
    assert player.state is State.FAILING
    assert player.client.startswith(EVENT + b'data: {"error":{"message":"The upstream ended its stream before it was complete."')


def test_require_done_with_half_an_event_out_cuts_without_a_frame() -> None:
    player = Player(require_done=True)
    player.play(READY, STREAM, Feed(EVENT + b'data: {"a'), FeedEnd())
    assert player.client == EVENT + b'data: {"a'
    assert player.outcomes[-2] == act.Cut()


def test_no_keepalive_and_no_error_after_the_terminal_event() -> None:
    player = Player()
    player.play(READY, STREAM, Feed(EVENT + DONE))
    assert Timer.KEEPALIVE not in TABLE[player.state]
    player.play(ev.Shutdown())
    assert player.client == EVENT + DONE
    assert player.outcomes[-2:] == [act.Finish(), act.Done("ok")]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("readiness_timeout", "timeout"),
        ("upstream_timeout", "timeout"),
        ("shutting_down", "shutdown"),
        ("wake_failed", "upstream_error"),
        ("upstream_invalid", "upstream_error"),
        ("no_route", "rejected"),
        ("too_many_waiting", "rejected"),
    ],
)
def test_outcome_of_a_code(code: str, outcome: str) -> None:
    assert outcome_of(code) == outcome


# -- which sign of life counts


@pytest.mark.parametrize("counts", [True, False])
def test_whether_upstreams_comments_are_a_sign_of_life_is_the_routes_choice(counts: bool) -> None:
    player = Player(comments_count=counts)
    player.play(READY, STREAM, Feed(b": ping\n\n"))
    assert (Timer.FIRST_BYTE not in player.running) is counts
    assert player.relay is not None
    assert player.relay.quiet is not counts
    player.play(Feed(EVENT))
    assert Timer.FIRST_BYTE not in player.running
    assert not player.relay.quiet
