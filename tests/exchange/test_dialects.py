"""A request's life in each dialect: in which form it is kept alive, what its stream ends with, what is done to upstream's bytes."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.exchange.playbook import STREAM_HEAD, Feed, FeedEnd, Player, Wait
from tests.exchange.scripts import DONE, EVENT, LINE, STATUS, head
from tests.exchange.spoken import NDJSON_HEAD, PING, SPOKEN, Spoken, responses_error
from txsse.config import loads, model
from txsse.dialects import DIALECTS
from txsse.dialects.styles import STYLES
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.table import HeadOf, State
from txsse.interfaces import Failed, Fault
from txsse.proxy.routes import policy_of

READY = ev.Begin(ready=True)
NOT_READY = ev.Begin(ready=False)
COMMIT = ev.Elapsed(Timer.COMMIT)
KEEPALIVE = ev.Elapsed(Timer.KEEPALIVE)
HEARTBEAT = ev.Elapsed(Timer.HEARTBEAT)
STREAM = ev.HeadCame(STREAM_HEAD, True)
DIED = ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))

ENDING = [each for each in SPOKEN.values() if each.ending]
each_dialect = pytest.mark.parametrize("spoken", SPOKEN.values(), ids=list(SPOKEN))


def player(spoken: Spoken, **policy: Any) -> Player:
    return Player(dialect=spoken.dialect, **policy)


def streaming(spoken: Spoken, *more: Any, **policy: Any) -> Player:
    """Upstream's head and its first events are with the client."""
    play = player(spoken, **policy)
    play.play(READY, ev.HeadCame(spoken.head, True), Feed(spoken.opening + spoken.event), *more)
    return play


def said(play: Player, *steps: Any) -> bytes:
    """What the client gets in these steps."""
    before = len(play.client)
    play.play(*steps)
    return play.client[before:]


# -- forms


def in_form(spoken: Spoken, form: str) -> tuple[bytes, bytes, bytes]:
    """What is said in this form while held, in a gap, and in a gap after an ``id``."""
    if form == "none":
        return b"", b"", b""
    if form == "event" and spoken.beat:
        return spoken.beat, spoken.beat, spoken.beat
    if form == "auto":
        return spoken.status, spoken.sign, spoken.sign
    if spoken.dialect.by_lines:
        return b" ", b" ", b" "
    if form == "frame":
        return STATUS + b"\n", LINE + b"\n", LINE
    return STATUS, LINE, LINE


@each_dialect
@pytest.mark.parametrize("form", ["auto", "line", "frame", "event", "none"])
def test_each_form_in_each_dialect(spoken: Spoken, form: str) -> None:
    while_held, in_gap, after_id = in_form(spoken, form)
    hold = player(spoken, form=form)
    assert said(hold, NOT_READY, COMMIT) == while_held
    assert hold.machine.clocks.runs(Timer.KEEPALIVE) is (form != "none")
    silent = player(spoken, form=form)
    assert said(silent, READY, COMMIT) == in_gap
    stream = player(spoken, form=form)
    stream.play(READY, ev.HeadCame(spoken.head, True))
    if form != "none":
        assert said(stream, KEEPALIVE) == in_gap
        stream.play(Feed(b"id: 1\r\ndata: {}\r\n\r\n" if not spoken.dialect.by_lines else spoken.event))
        assert said(stream, KEEPALIVE) == after_id


@pytest.mark.parametrize("line", [b"id: 1", b"id", b"\xef\xbb\xbfid:1", b"data: x\rid: 1", b": x\nid:1"])
def test_an_id_is_seen_wherever_a_line_can_begin(line: bytes) -> None:
    play = player(SPOKEN["sse"], form="frame")
    play.play(READY, STREAM, Feed(line + b"\ndata: x\n\n"))
    assert said(play, KEEPALIVE) == LINE


@pytest.mark.parametrize("line", [b"data: id: 1", b"identity: 1", b": id: 1", b"data: x\n : id"])
def test_what_only_looks_like_an_id_is_none(line: bytes) -> None:
    play = player(SPOKEN["sse"], form="frame")
    play.play(READY, STREAM, Feed(line + b"\ndata: x\n\n"))
    assert said(play, KEEPALIVE) == LINE + b"\n"


# -- heartbeats

CHUNK = b'data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":5,"model":"theirs","choices":[{"index":0,"delta":{}}]}\n\n'


def test_a_heartbeat_between_events_speaks_in_upstreams_name_and_only_after_as_long_a_silence() -> None:
    play = Player(heartbeat_midstream=True)
    play.play(READY, STREAM, Feed(CHUNK))
    assert play.running[Timer.HEARTBEAT] == 45
    assert said(play, Wait(45), ev.Elapsed(Timer.HEARTBEAT, silent=30)) == b""
    assert play.running[Timer.HEARTBEAT] == 15
    beat = said(play, Wait(15), ev.Elapsed(Timer.HEARTBEAT, silent=45))
    assert beat == (
        b'data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":5,"model":"theirs",'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
    )
    assert play.outcomes[-1] == act.Send(beat, "gap")
    assert play.running[Timer.HEARTBEAT] == 45
    play.play(Feed(DONE))
    assert play.running == {Timer.TRAIL: 1}


@pytest.mark.parametrize(
    ("name", "beat"),
    [("openai-responses", b""), ("anthropic", PING), ("ollama", SPOKEN["ollama"].beat), ("sse", b"")],
)
def test_heartbeats_between_events_of_other_dialects(name: str, beat: bytes) -> None:
    play = streaming(SPOKEN[name], heartbeat_midstream=True)
    assert said(play, ev.Elapsed(Timer.HEARTBEAT, silent=45)) == beat


def test_codex_counts_events_of_responses() -> None:
    beat = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n'
    for client, expected in (("codex_cli_rs/0.98", beat), ("OpenAI/Python 3.51.0", b"")):
        play = Player(dialect="openai-responses", client=client)
        play.play(NOT_READY, COMMIT)
        assert said(play, HEARTBEAT) == expected


@each_dialect
def test_between_events_there_is_no_heartbeat_unless_asked_for(spoken: Spoken) -> None:
    assert Timer.HEARTBEAT not in streaming(spoken).running


def test_no_heartbeat_inside_an_event_that_is_partly_out() -> None:
    play = Player(heartbeat_midstream=True, hold_bytes=8)
    play.play(READY, STREAM, Feed(CHUNK), Feed(b'data: {"long":'))
    assert said(play, ev.Elapsed(Timer.HEARTBEAT, silent=45)) == b""
    assert play.running[Timer.HEARTBEAT] == 45


# -- visible text


def test_a_message_is_shown_with_the_first_sign_of_life_of_a_hold_that_begins_after_the_commit() -> None:
    play = Player(message="Waking", channel="content", separator="|")
    assert said(play, READY, COMMIT) == LINE
    play.play(ev.DispatchFailed(Failed(Fault.UNREACHABLE, "connection refused")))
    first = said(play, KEEPALIVE)
    assert json.loads(first.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": "Waking"}
    assert said(play, KEEPALIVE) == first.replace(b"Waking", b".")
    answer = said(play, ev.UpstreamReady(cold=True), STREAM, Feed(EVENT))
    assert answer == first.replace(b"Waking", b"|") + EVENT


def test_without_progress_a_message_is_followed_by_status_comments() -> None:
    play = Player(message="Waking", progress="")
    play.play(NOT_READY, COMMIT)
    assert said(play, KEEPALIVE) == STATUS


def test_upstreams_message_continues_ours_in_one_message() -> None:
    """Its blocks are counted from 1, and what it counted in its own beginning is told at the end."""
    play = Player(dialect="anthropic", message="Waking", channel="content")
    play.play(NOT_READY, COMMIT, ev.UpstreamReady(cold=True), STREAM)
    stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
    delta = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{%b"output_tokens":9}}\n\n'
    start, block = SPOKEN["anthropic"].opening.split(b"\n\n", 1)
    assert said(play, Feed(PING)) == stop % 0 + PING
    assert said(play, Feed(start + b"\n\n")) == b""
    assert said(play, Feed(block)) == block.replace(b'"index":0', b'"index":1')
    assert said(play, KEEPALIVE) == PING
    assert said(play, Feed(stop % 0 + delta % b"")) == stop % 1 + delta % b'"input_tokens":25,'
    assert said(play, Feed(SPOKEN["anthropic"].ending), FeedEnd()) == SPOKEN["anthropic"].ending
    assert play.outcomes[-1] == act.Done("ok")


def test_without_a_message_of_ours_nothing_of_upstreams_is_changed() -> None:
    spoken = SPOKEN["anthropic"]
    play = player(spoken, message="Waking")
    assert said(play, READY, COMMIT, STREAM, Feed(spoken.opening + spoken.event)) == PING + spoken.opening + spoken.event


# -- ends


@each_dialect
@pytest.mark.parametrize("require_done", [False, True])
def test_an_end_without_the_terminal_event(spoken: Spoken, require_done: bool) -> None:
    play = streaming(spoken, require_done=require_done)
    frame = said(play, FeedEnd())
    if not spoken.ending:
        assert play.outcomes[-2:] == [act.Finish(), act.Done("ok")]
    elif not require_done:
        assert play.outcomes[-2:] == [act.Finish(), act.Done("ok", unterminated=True)]
    else:
        assert play.state is State.FAILING
        text = "The upstream ended its stream before it was complete."
        expected = spoken.error(text, "upstream_disconnected", "server_error", "api_error")
        assert frame == (responses_error(text, number=8, ident="resp_1") if spoken.dialect.name == "openai-responses" else expected)


@pytest.mark.parametrize("spoken", ENDING, ids=lambda each: each.dialect.name)
def test_after_the_terminal_event_there_is_only_what_upstream_says(spoken: Spoken) -> None:
    play = streaming(spoken, require_done=True, heartbeat_midstream=True)
    assert said(play, Feed(spoken.ending)) == spoken.ending
    assert play.running == {Timer.TRAIL: 1}
    assert said(play, Feed(spoken.event)) == spoken.event
    assert play.play(ev.Elapsed(Timer.TRAIL)) == [act.AbortUpstream(), act.Finish(), act.Done("ok")]


@each_dialect
def test_an_upstream_that_ends_by_itself_keeps_its_connection(spoken: Spoken) -> None:
    play = streaming(spoken, Feed(spoken.ending or spoken.event))
    assert play.play(FeedEnd()) == [act.Finish(), act.Done("ok")]


@pytest.mark.parametrize("kind", ["completed", "failed", "incomplete"])
def test_each_end_of_a_response_is_one(kind: str) -> None:
    play = streaming(SPOKEN["openai-responses"])
    play.play(Feed(b'data: {"type":"response.%b","sequence_number":9,"response":{"id":"resp_1"}}\r\n\r\n' % kind.encode()))
    assert play.state is State.TRAILING


def test_a_last_line_without_its_end_is_one_too() -> None:
    play = streaming(SPOKEN["ollama"], require_done=True)
    assert said(play, Feed(b'{"done":true}'), FeedEnd()) == b'{"done":true}'
    assert play.outcomes[-1] == act.Done("ok")


# -- Ollama


def test_a_blank_goes_between_lines_and_never_into_one() -> None:
    play = streaming(SPOKEN["ollama"], hold_bytes=16)
    assert said(play, KEEPALIVE) == b" "
    assert said(play, Feed(b'{"half":')) == b""
    assert said(play, KEEPALIVE) == b" "
    assert said(play, Feed(b'"and more than sixteen')) == b'{"half":"and more than sixteen'
    assert said(play, KEEPALIVE) == b""
    assert said(play, Feed(b'"}\n'), KEEPALIVE) == b'"}\n '


def test_a_half_line_is_with_nobody_when_upstream_dies() -> None:
    play = streaming(SPOKEN["ollama"], Feed(b'{"half":'))
    assert said(play, DIED) == b'{"error":"The upstream disconnected before its answer was complete."}\n'


def test_upstreams_blanks_are_signs_of_life_where_comments_are() -> None:
    for counts in (True, False):
        play = Player(dialect="ollama", comments_count=counts)
        play.play(READY, ev.HeadCame(NDJSON_HEAD, True))
        assert said(play, Feed(b" ")) == b" "
        assert Timer.HEARTBEAT in play.running
        assert (Timer.FIRST_BYTE in play.running) is not counts


def test_an_event_stream_on_a_path_of_another_dialect_is_spoken_to_as_one() -> None:
    play = Player(dialect="ollama")
    play.play(READY, STREAM)
    assert said(play, KEEPALIVE) == LINE
    assert said(play, HEARTBEAT) == b""
    assert said(play, Feed(EVENT + b"data: half"), KEEPALIVE) == EVENT + LINE
    assert said(play, DIED) == b"", "its head is not ours, and an unknown stream has no error event"
    assert play.outcomes[-2:] == [act.Cut(), act.Done("upstream_error", "upstream_disconnected")]


@pytest.mark.parametrize(("name", "kind"), [("ollama", b"text/event-stream"), ("openai-chat", b"application/x-ndjson")])
def test_after_the_commit_another_kind_of_stream_is_an_error(name: str, kind: bytes) -> None:
    play = Player(dialect=name)
    play.play(READY, COMMIT, ev.HeadCame(head(200, kind), True))
    assert b"The upstream answered 200 with %b where" % kind in play.client
    assert play.state is State.FAILING


LOADED = b'{"model":"m","created_at":"2026-11-20T10:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}'


def test_a_model_that_was_only_to_be_loaded_is_told_of_in_one_object() -> None:
    play = Player(dialect="ollama", message="Waking", channel="content", separator="|")
    play.play(NOT_READY, COMMIT, ev.UpstreamReady(cold=True))
    answer = said(play, ev.HeadCame(head(), True), KEEPALIVE, ev.BodyCollected(LOADED, complete=True))
    assert answer.startswith(b" {")
    assert b'"content":"|"' in answer
    assert answer.endswith(b"\n" + LOADED)
    assert play.outcomes[-2:] == [act.Finish(), act.Done("ok")]


@pytest.mark.parametrize(
    ("body", "complete"),
    [(b'{"choices":[{"message":{"content":"hi"}}]}', True), (b"{}", True), (b"", True), (b"<h1>no</h1>", True), (LOADED, False)],
)
def test_any_other_json_where_lines_were_asked_for_is_an_error(body: bytes, complete: bool) -> None:
    play = Player(dialect="ollama")
    play.play(READY, COMMIT, ev.HeadCame(head(), True), ev.BodyCollected(body, complete=complete))
    assert (
        play.client
        == b' {"error":"The upstream answered 200 with application/json where a stream of JSON lines was expected.","status":200}\n'
    )


def test_lines_of_json_on_other_paths_are_none_of_our_business() -> None:
    play = Player(dialect="openai-chat")
    play.play(READY, ev.HeadCame(NDJSON_HEAD, True))
    assert play.state is State.PLAIN


# -- Responses


def test_an_error_continues_upstreams_response() -> None:
    spoken = SPOKEN["openai-responses"]
    play = player(spoken)
    play.play(READY, COMMIT, STREAM, Feed(spoken.opening), Feed(spoken.event + b"event: response.out"))
    text = "The upstream disconnected before its answer was complete."
    assert said(play, DIED) == responses_error(text, number=8, ident="resp_1")


# -- keepalives of upstream

NORMALISED = [
    ("openai-chat", b": ping\n\n:\n\nevent: ping\n\n" + EVENT, b": txsse\n: txsse\n" + EVENT),
    ("openai-chat", b'data: {"type":"ping"}\n\n', b""),
    ("openai-responses", PING, b""),
    ("anthropic", b"event: ping\n\n" + PING, PING),
    ("ollama", b"\n{}\n" + SPOKEN["ollama"].event, SPOKEN["ollama"].event),
    ("sse", b": OPENROUTER PROCESSING\n\nretry: 3000\n\n" + EVENT, b": OPENROUTER PROCESSING\nretry: 3000\n" + EVENT),
]


@pytest.mark.parametrize(("name", "theirs", "ours"), NORMALISED)
def test_keepalives_that_break_clients_are_rewritten_where_that_is_asked_for(name: str, theirs: bytes, ours: bytes) -> None:
    spoken = SPOKEN[name]
    for normalise, expected in ((False, theirs), (True, ours)):
        play = player(spoken, normalise=normalise)
        assert said(play, READY, ev.HeadCame(spoken.head, True), Feed(theirs)) == expected


def test_a_dropped_keepalive_is_no_first_event() -> None:
    """Whoever counts events has got none, so the heartbeat goes on."""
    play = Player(normalise=True)
    play.play(READY, STREAM, Feed(b'data: {"type":"ping"}\n\n'))
    assert Timer.HEARTBEAT in play.running
    play.play(Feed(EVENT))
    assert Timer.HEARTBEAT not in play.running


def test_normalising_goes_before_the_shift() -> None:
    spoken = SPOKEN["anthropic"]
    play = player(spoken, normalise=True, message="Waking", channel="content")
    play.play(NOT_READY, COMMIT, ev.UpstreamReady(cold=True), ev.HeadCame(spoken.head, True))
    stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    assert said(play, Feed(b": ping\n\n" + spoken.opening + spoken.event)) == stop + b": txsse\n" + spoken.after_message


# -- what upstream tells of its progress


def prefill(processed: int, milliseconds: int = 2000) -> bytes:
    told = f'{{"total":1000,"cache":0,"processed":{processed},"time_ms":{milliseconds}}}'
    return f'data: {{"choices":[],"prompt_progress":{told}}}\n\n'.encode()


def test_prompt_progress_is_told_in_the_keepalives_and_passes_untouched() -> None:
    play = Player(follows=True)
    assert said(play, READY, STREAM, Feed(prefill(420))) == prefill(420)
    assert said(play, KEEPALIVE) == b': txsse {"state":"prefill","elapsed":12.3,"eta":3,"progress":0.42}\n'
    assert said(play, Feed(b": ping\n"), KEEPALIVE) == b': ping\n: txsse {"state":"prefill","elapsed":12.3,"eta":3,"progress":0.42}\n'
    play.play(Feed(prefill(700)))
    assert b'"progress":0.70' in said(play, KEEPALIVE)
    play.play(Feed(prefill(1000)))
    assert said(play, KEEPALIVE) == LINE


def test_once_the_answer_has_begun_no_progress_is_told() -> None:
    play = Player(follows=True)
    play.play(READY, STREAM, Feed(prefill(980)), Feed(EVENT))
    assert said(play, KEEPALIVE) == LINE


def test_the_routers_status_events_are_told_too() -> None:
    play = Player(dialect="sse", follows=True)
    stages = '{"stages":["a","b"],"current":"b","value":0.5}'
    status = f'data: {{"model":"m","event":"model_status","data":{{"status":"loading","progress":{stages}}}}}\n\n'.encode()
    play.play(READY, STREAM, Feed(status))
    assert said(play, KEEPALIVE) == b': txsse {"state":"loading","elapsed":12.3,"progress":0.75}\n'


@pytest.mark.parametrize("policy", [{"follows": False}, {"status_comments": False}])
def test_progress_is_not_told_where_nobody_wants_it(policy: Any) -> None:
    play = Player(**{"follows": True, **policy})
    play.play(READY, STREAM, Feed(prefill(420)))
    assert said(play, KEEPALIVE) == LINE


def test_progress_is_told_in_the_form_of_the_route() -> None:
    for form, expected in (("frame", b'"progress":0.42}\n\n'), ("event", SPOKEN["openai-chat"].beat)):
        play = Player(follows=True, form=form)
        play.play(READY, STREAM, Feed(prefill(420)))
        assert said(play, KEEPALIVE).endswith(expected)


# -- answers that mean "not yet"


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
@pytest.mark.parametrize("status", [202, 302, 503])
def test_any_status_may_mean_loading_also_after_the_commit(status: int, kind: bytes) -> None:
    play = Player(loading_status=frozenset((202, 302, 503)), is_loading=lambda status, body: body == b"loading")
    play.play(READY, COMMIT, ev.HeadCame(head(status, kind), True))
    if (status, kind) == (202, b"text/event-stream"):
        assert play.state is State.STREAMING, "what was asked for"
        return
    assert play.outcomes[-1] == act.Collect(65536)
    play.play(ev.BodyCollected(b"loading", complete=True))
    assert play.state is State.HELD
    assert play.client == LINE


def test_one_that_does_not_mean_loading_is_the_failure_it_is() -> None:
    play = Player(loading_status=frozenset((202,)), is_loading=lambda status, body: False)
    play.play(READY, COMMIT, ev.HeadCame(head(202), True), ev.BodyCollected(b'{"ok":true}', complete=True))
    assert b"answered 202 with application/json where an event stream was expected" in play.client
    assert play.outcomes[-1] == act.AwaitDrain()


# -- JSON with blanks before it


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (b"application/json", True),
        (b"application/json; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"text/plain", False),
        (b"text/event-stream", False),
        (b"application/x-ndjson", False),
    ],
)
def test_after_the_commit_only_json_is_welcome(kind: bytes, fits: bool) -> None:
    play = Player(streaming=False, pads=True)
    play.play(READY, COMMIT, ev.HeadCame(head(200, kind), True))
    assert (play.state is State.PLAIN) is fits
    if fits:
        play.play(Feed(b"\xef\xbb\xbf{}"), FeedEnd())
        assert play.client == b" {}", "a mark of the byte order is none after a blank"
        assert play.outcomes[-1] == act.Done("ok")
    else:
        assert play.client == b" "
        assert play.outcomes[-2:] == [act.Cut(), act.Done("upstream_error", "upstream_invalid")]


@pytest.mark.parametrize(
    "answer", [head(204), head(302), head(200, b"application/json", (b"Content-Encoding", b"gzip"))], ids=["204", "302", "gzip"]
)
def test_what_cannot_follow_a_blank_is_cut(answer: Any) -> None:
    play = Player(streaming=False, pads=True)
    play.play(READY, COMMIT, ev.HeadCame(answer, answer.status != 204))
    assert play.client == b" "
    assert play.outcomes[-2] == act.Cut()


@pytest.mark.parametrize("end", ["abort", "done"])
def test_no_error_is_made_up_whatever_the_route_says_of_the_end(end: str) -> None:
    play = Player(streaming=False, pads=True, error_end=end)
    play.play(NOT_READY, COMMIT, ev.Shutdown())
    assert play.client == b" "
    assert play.outcomes[-2:] == [act.Cut(), act.Done("shutdown", "shutting_down")]


def test_form_none_commits_without_a_blank() -> None:
    play = Player(streaming=False, pads=True, form="none")
    play.play(NOT_READY, COMMIT)
    assert play.client == b""
    assert play.head_of is HeadOf.US
    assert Timer.KEEPALIVE not in play.running


# -- styles


def styled(name: str, message: str = "") -> Player:
    """As a configuration has it that says nothing else."""
    hold = f'[route.hold]\nstyle = "{name}"\nmessage = "{message}"' if message else f'[route.hold]\nstyle = "{name}"'
    text = f'[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:1"\n[[route]]\n{hold}\n'
    policy = policy_of(loads(text).route[0], model.Upstream())
    return Player(dialect=STYLES[name].vary(DIALECTS["openai-chat"]), **attrs.asdict(policy, recurse=False))


def _keda(text: str) -> bytes:
    return (
        'data: {"id":"keda-cold-start","object":"chat.completion.chunk","created":1700000000,"model":"system",'
        f'"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}\n\n'
    ).encode()


def test_keda_from_the_first_frame_to_upstreams_bytes() -> None:
    play = styled("keda", "Model is waking up...")
    play.play(NOT_READY)
    assert play.running[Timer.COMMIT] == 0
    assert said(play, COMMIT) == _keda("Model is waking up...")
    assert said(play, KEEPALIVE) == _keda("")
    assert said(play, ev.UpstreamReady(cold=True), STREAM, Feed(EVENT)) == _keda("\\n\\n---\\n\u200b") + EVENT


def test_keda_gives_up_in_words_and_ends_well() -> None:
    play = styled("keda", "Model is waking up...")
    play.play(NOT_READY, COMMIT, ev.Elapsed(Timer.HOLD))
    last = play.client.removeprefix(_keda("Model is waking up..."))
    assert b'{"content":"Backend did not become ready: ' in last
    assert last.endswith(b"\n\n" + DONE)
    assert play.outcomes[-2:] == [act.Finish(), act.Done("timeout", "readiness_timeout")]


def test_llama_swap_thinks_aloud_and_is_done_before_the_answer_only() -> None:
    def thought(text: str) -> bytes:
        return f'data: {{"choices":[{{"delta":{{"reasoning_content":"{text}"}}}}]}}\n\n'.encode()

    play = styled("llama-swap")
    assert said(play, NOT_READY, COMMIT) == thought("━━━━━\\nllama-swap loading model: tiny\\n")
    assert said(play, KEEPALIVE) == thought(".")
    failing = styled("llama-swap")
    assert b"Done" not in said(failing, NOT_READY, COMMIT, ev.Elapsed(Timer.HOLD))
    assert said(play, ev.UpstreamReady(cold=True), STREAM, Feed(EVENT)) == thought("\\nDone! (12s)\\n━━━━━\\n \\n") + EVENT


@pytest.mark.parametrize(("name", "word"), [("hearth", b"heartbeat"), ("ds4", b"prefill")])
def test_styles_of_comments(name: str, word: bytes) -> None:
    frame = b": %b\n\n" % word
    play = styled(name)
    assert said(play, NOT_READY, COMMIT, KEEPALIVE) == frame * 2
    assert said(play, ev.UpstreamReady(cold=False), STREAM, Feed(EVENT), KEEPALIVE) == EVENT + frame
