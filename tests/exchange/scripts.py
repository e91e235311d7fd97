"""Lives of requests, written out: every action in its order. Together they visit every cell of the machine's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.exchange.playbook import RELAY, STREAM_HEAD, Feed, FeedEnd, Playbook, Starts, Stops, Through, Wait
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.interfaces import Failed, Fault
from txsse.wire.headers import Headers
from txsse.wire.http1 import ResponseHead

Script = Callable[[], Playbook]
SCRIPTS: Final[dict[str, Script]] = {}

STATUS: Final = b': txsse {"state":"down","elapsed":12.3}\n'
LINE: Final = b": txsse\n"
CHUNK: Final = b'data: {"id":"chatcmpl-txsse-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"tiny",'
BEAT: Final = CHUNK + b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
EVENT: Final = b'data: {"id":"1"}\n\n'
DONE: Final = b"data: [DONE]\n\n"
REFUSED: Final = Failed(Fault.UNREACHABLE, "connection refused")
TIMEOUT_FRAME: Final = (
    b'data: {"error":{"message":"The upstream sent nothing within 600 s.","type":"server_error","param":null,'
    b'"code":"upstream_timeout"}}\n\n'
)
SHUTDOWN: Final = ProxyError("shutting_down", "The proxy is shutting down. Try again in a moment.")
SHUTDOWN_FRAME: Final = (
    b'data: {"error":{"message":"The proxy is shutting down. Try again in a moment.","type":"server_error","param":null,'
    b'"code":"shutting_down"}}\n\n'
)


class Same:
    """Stands in a script for an error equal to another one, which exceptions are not by themselves."""

    def __init__(self, error: ProxyError) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        mine = self.error
        return isinstance(other, ProxyError) and (other.code, other.message, other.http_status, other.upstream_status) == (
            mine.code,
            mine.message,
            mine.http_status,
            mine.upstream_status,
        )

    __hash__ = None  # type: ignore[assignment]  # as of everything that is equal by content and mutable

    def __repr__(self) -> str:
        return repr(self.error)


def refuse(code: str, message: str, status: int | None = None, upstream_status: int | None = None) -> act.Refuse:
    return act.Refuse(Same(ProxyError(code, message, status=status, upstream_status=upstream_status)))  # type: ignore[arg-type]


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


def head(status: int = 200, kind: bytes = b"application/json", *more: tuple[bytes, bytes]) -> ResponseHead:
    headers: Headers = [(b"Content-Type", kind), *more]
    return ResponseHead(status, b"", b"HTTP/1.1", headers)


# -- how lives begin


def sent(**player: object) -> Playbook:
    """Ready: dispatched at once, silent so far."""
    return Playbook(**player) >> ev.Begin(ready=True) << Starts(Timer.COMMIT, 5) << Starts(Timer.FIRST_BYTE, 600) << act.Dispatch()


def held(**player: object) -> Playbook:
    return Playbook(**player) >> ev.Begin(ready=False) << Starts(Timer.HOLD, 600) << Starts(Timer.COMMIT, 1) << act.AwaitReady()


def speaks(play: Playbook) -> Playbook:
    return play << Starts(Timer.KEEPALIVE, 15) << Starts(Timer.HEARTBEAT, 45)


def committed(**player: object) -> Playbook:
    """Held, and committed while held."""
    return speaks(held(**player) >> Wait(1) >> ev.Elapsed(Timer.COMMIT) << act.Commit(STATUS, "hold"))


def committed_sent(**player: object) -> Playbook:
    """Dispatched, and committed because upstream is silent."""
    return speaks(sent(**player) >> Wait(5) >> ev.Elapsed(Timer.COMMIT) << act.Commit(LINE, "first_byte"))


def streaming(**player: object) -> Playbook:
    """Upstream's own head is out, and one event."""
    return (
        speaks(sent(**player) >> ev.HeadCame(STREAM_HEAD, True) << Stops(Timer.COMMIT) << act.RelayHead(STREAM_HEAD, True))
        << act.OpenRelay(RELAY)
        >> Feed(EVENT)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Stops(Timer.HEARTBEAT)
        << Through(EVENT)
    )


def plain(**player: object) -> Playbook:
    json = head()
    return (
        sent(**player)
        >> ev.HeadCame(json, True)
        << Stops(Timer.COMMIT)
        << act.RelayHead(json, True)
        << Stops(Timer.FIRST_BYTE)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Starts(Timer.IDLE, 300)
        << act.OpenRelay(RELAY)
    )


def judging(**player: object) -> Playbook:
    return sent(**player) >> ev.HeadCame(head(503), True) << act.Collect(4096)


def trailing(**player: object) -> Playbook:
    return (
        streaming(**player)
        >> Feed(DONE)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Stops(Timer.IDLE)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.TRAIL, 1)
        << Through(DONE)
    )


def failing(**player: object) -> Playbook:
    return committed_sent(**player) >> ev.Elapsed(Timer.FIRST_BYTE) << act.AbortUpstream() << act.Send(TIMEOUT_FRAME) << act.AwaitDrain()


def _aborted(play: Playbook, *last: act.Action) -> Playbook:
    """The end of a life with a dispatch under way."""
    play = play << act.AbortUpstream()
    for action in last:
        play = play << action
    return play


# -- new


@script
def left_before_it_began() -> Playbook:
    return Playbook() >> ev.ClientGone() << act.Done("client_closed")


@script
def stalled_before_it_began() -> Playbook:
    return Playbook() >> ev.ClientStalled() << act.AbortClient() << act.Done("client_closed")


@script
def shut_down_before_it_began() -> Playbook:
    return Playbook() >> ev.Shutdown() << act.Refuse(Same(SHUTDOWN)) << act.Done("shutdown", "shutting_down")  # type: ignore[arg-type]


# -- a ready upstream


@script
def ready_and_streaming_to_the_end() -> Playbook:
    return trailing() >> FeedEnd() << act.Finish() << act.Done("ok")


@script
def ready_and_plain_json() -> Playbook:
    """A request for no stream is never committed: no COMMIT timer, and the body goes through as it comes."""
    answer = head()
    return (
        Playbook(streaming=False)
        >> ev.Begin(ready=True)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.HeadCame(answer, True)
        << Stops(Timer.COMMIT)
        << act.RelayHead(answer, True)
        << Stops(Timer.FIRST_BYTE)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Starts(Timer.IDLE, 300)
        << act.OpenRelay(RELAY)
        >> Feed(b'{"a":')
        << Through(b'{"a":')
        >> Feed(b"1}")
        << Through(b"1}")
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok")
    )


@script
def silent_for_a_long_prefill() -> Playbook:
    """Committed after the grace, keepalives each interval, a heartbeat, then upstream's events."""
    return (
        committed_sent()
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "first_byte")
        << Starts(Timer.KEEPALIVE, 15)
        >> Wait(30)
        >> ev.Elapsed(Timer.HEARTBEAT)
        << act.Send(BEAT, "first_byte")
        << Starts(Timer.HEARTBEAT, 45)
        >> ev.HeadCame(STREAM_HEAD, True)
        << act.OpenRelay(RELAY)
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "first_byte")
        << Starts(Timer.KEEPALIVE, 15)
        >> ev.Elapsed(Timer.HEARTBEAT)
        << act.Send(BEAT, "first_byte")
        << Starts(Timer.HEARTBEAT, 45)
        >> Feed(EVENT)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Stops(Timer.HEARTBEAT)
        << Through(EVENT)
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "gap")
        << Starts(Timer.KEEPALIVE, 15)
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok", unterminated=True)
    )


@script
def stalled_inside_an_event() -> Playbook:
    """The half event is kept back, so a keepalive may go out before it; the event then comes in one piece."""
    return (
        streaming()
        >> Feed(b'data: {"a":')
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "gap")
        << Starts(Timer.KEEPALIVE, 15)
        >> Feed(b"1}\n\n")
        << Through(b'data: {"a":1}\n\n')
        >> ev.ClientGone()
        << act.AbortUpstream()
        << act.Done("client_closed")
    )


@script
def stalled_inside_an_event_past_the_hold_bound() -> Playbook:
    """Part of the event is out: silence until its end, whatever time passes."""
    return (
        streaming(hold_bytes=4)
        >> Feed(b"data: {")
        << Through(b"data: {")
        >> ev.Elapsed(Timer.KEEPALIVE)
        << Starts(Timer.KEEPALIVE, 15)
        >> Feed(b"}\n\n")
        << Through(b"}\n\n")
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "gap")
        << Starts(Timer.KEEPALIVE, 15)
        >> ev.ClientStalled()
        << act.AbortUpstream()
        << act.AbortClient()
        << act.Done("client_closed")
    )


@script
def no_heartbeat_inside_an_event() -> Playbook:
    """Past the hold bound a heartbeat, too, waits for the boundary. (Comments are no event, so it is still wanted.)"""
    return (
        speaks(sent(hold_bytes=4) >> ev.HeadCame(STREAM_HEAD, True) << Stops(Timer.COMMIT) << act.RelayHead(STREAM_HEAD, True))
        << act.OpenRelay(RELAY)
        >> Feed(b": loading")
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Through(b": loading")
        >> ev.Elapsed(Timer.HEARTBEAT)
        << Starts(Timer.HEARTBEAT, 45)
        >> ev.ClientGone()
        << act.AbortUpstream()
        << act.Done("client_closed")
    )


# -- holding


@script
def held_committed_and_served() -> Playbook:
    return (
        committed()
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(STATUS, "hold")
        << Starts(Timer.KEEPALIVE, 15)
        >> Wait(30)
        >> ev.Elapsed(Timer.HEARTBEAT)
        << act.Send(BEAT, "hold")
        << Starts(Timer.HEARTBEAT, 45)
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.HeadCame(STREAM_HEAD, True)
        << act.OpenRelay(RELAY)
        >> Feed(EVENT + DONE)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Stops(Timer.HEARTBEAT)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Stops(Timer.IDLE)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.TRAIL, 1)
        << Through(EVENT + DONE)
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok")
    )


@script
def held_within_the_grace_and_served_as_if_nothing_had_been() -> Playbook:
    return (
        held()
        >> Wait(0.9)
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.COMMIT, 5)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.ClientGone()
        << act.AbortUpstream()
        << act.Done("client_closed")
    )


@script
def never_ready_and_uncommitted() -> Playbook:
    """A request for no stream is held silently and gets its true status."""
    return (
        Playbook(streaming=False)
        >> ev.Begin(ready=False)
        << Starts(Timer.HOLD, 600)
        << act.AwaitReady()
        >> Wait(600)
        >> ev.Elapsed(Timer.HOLD)
        << act.StopWaiting()
        << refuse(
            "readiness_timeout", "The upstream llama was not ready within 600 s (it is down, connection refused). Try again later.", 503
        )
        << act.Done("timeout", "readiness_timeout")
    )


@script
def a_failed_wake_ends_the_hold_at_once() -> Playbook:
    error = ProxyError("wake_failed", "It exited.")
    return held() >> ev.UpstreamFailed(error) << act.StopWaiting() << act.Refuse(error) << act.Done("upstream_error", "wake_failed")


@script
def all_holds_share_one_timeout() -> Playbook:
    return (
        held()
        >> Wait(200)
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.COMMIT, 5)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> Wait(50)  # dispatched: this is not hold time
        >> ev.DispatchFailed(REFUSED)
        << Stops(Timer.FIRST_BYTE)
        << act.MarkDown("connection refused")
        << Starts(Timer.HOLD, 400)
        << Starts(Timer.COMMIT, 0)
        << act.AwaitReady()
        >> Wait(400)
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.COMMIT, 5)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.DispatchFailed(REFUSED)
        << Stops(Timer.FIRST_BYTE)
        << act.MarkDown("connection refused")
        << Starts(Timer.HOLD, 0)
        << Starts(Timer.COMMIT, 0)
        << act.AwaitReady()
        >> ev.ClientGone()
        << act.StopWaiting()
        << act.Done("client_closed")
    )


@script
def a_loading_answer_goes_back_to_hold() -> Playbook:
    return (
        judging()
        >> ev.BodyCollected(b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', complete=True)
        << Stops(Timer.FIRST_BYTE)
        << act.MarkLoading("HTTP 503, loading")
        << Starts(Timer.HOLD, 600)
        << Starts(Timer.COMMIT, 1)
        << act.AwaitReady()
        >> ev.ClientStalled()
        << act.StopWaiting()
        << act.AbortClient()
        << act.Done("client_closed")
    )


@script
def a_loading_answer_too_long_to_be_read_whole_is_dropped() -> Playbook:
    return (
        judging()
        >> ev.BodyCollected(b"Not Ready" + b" " * 5000, complete=False)
        << act.AbortUpstream()
        << Stops(Timer.FIRST_BYTE)
        << act.MarkLoading("HTTP 503, loading")
        << Starts(Timer.HOLD, 600)
        << Starts(Timer.COMMIT, 1)
        << act.AwaitReady()
        >> ev.Shutdown()
        << act.StopWaiting()
        << act.Refuse(Same(SHUTDOWN))  # type: ignore[arg-type]
        << act.Done("shutdown", "shutting_down")
    )


@script
def a_503_that_means_something_else_is_passed_on_as_it_is() -> Playbook:
    return (
        judging()
        >> ev.BodyCollected(b'{"error":"out of memory"}', complete=True)
        << Stops(Timer.COMMIT)
        << act.RelayHead(head(503), True)
        << act.PassOn(b'{"error":"out of memory"}')
        << act.Finish()
        << act.Done("upstream_error")
    )


@script
def a_long_503_is_passed_on_while_it_still_comes() -> Playbook:
    return (
        judging()
        >> ev.BodyCollected(b"x" * 4096, complete=False)
        << Stops(Timer.COMMIT)
        << act.RelayHead(head(503), True)
        << act.PassOn(b"x" * 4096)
        << Stops(Timer.FIRST_BYTE)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Starts(Timer.IDLE, 300)
        << act.OpenRelay(RELAY)
        >> Feed(b"y")
        << Through(b"y")
        >> FeedEnd()
        << act.Finish()
        << act.Done("upstream_error")
    )


@script
def a_stale_pooled_connection_is_tried_once_more_on_a_fresh_one() -> Playbook:
    return (
        sent()
        >> ev.DispatchFailed(Failed(Fault.STALE, "kept-alive connection closed"))
        << Starts(Timer.COMMIT, 5)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch(fresh=True)
        >> ev.DispatchFailed(Failed(Fault.STALE, "kept-alive connection closed"))
        << refuse("upstream_unavailable", "The upstream could not be reached: kept-alive connection closed. Try again in a moment.")
        << act.Done("upstream_error", "upstream_unavailable")
    )


@script
def refused_after_the_commit_goes_back_to_hold() -> Playbook:
    return (
        committed_sent()
        >> ev.DispatchFailed(REFUSED)
        << Stops(Timer.FIRST_BYTE)
        << act.MarkDown("connection refused")
        << Starts(Timer.HOLD, 600)
        << act.AwaitReady()
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(STATUS, "hold")
        << Starts(Timer.KEEPALIVE, 15)
        >> ev.ClientPaused()
        >> ev.ClientResumed()
        >> ev.ClientGone()
        << act.StopWaiting()
        << act.Done("client_closed")
    )


@script
def total_deadline_while_held() -> Playbook:
    return (
        Playbook(total=30)
        >> Wait(2)
        >> ev.Begin(ready=False)
        << Starts(Timer.TOTAL, 28)
        << Starts(Timer.HOLD, 600)
        << Starts(Timer.COMMIT, 0)
        << act.AwaitReady()
        >> Wait(28)
        >> ev.Elapsed(Timer.TOTAL)
        << act.StopWaiting()
        << refuse("upstream_timeout", "The request was not answered within 30 s.")
        << act.Done("timeout", "upstream_timeout")
    )


# -- before the head


@script
def sent_paused_resumed_and_stalled() -> Playbook:
    return _aborted(
        sent() >> ev.ClientPaused() << act.PauseUpstream() >> ev.ClientResumed() << act.ResumeUpstream() >> ev.ClientStalled(),
        act.AbortClient(),
        act.Done("client_closed"),
    )


@script
def sent_and_shut_down() -> Playbook:
    return _aborted(sent() >> ev.Shutdown(), act.Refuse(Same(SHUTDOWN)), act.Done("shutdown", "shutting_down"))  # type: ignore[arg-type]


@script
def sent_and_never_answered() -> Playbook:
    return _aborted(
        sent() >> Wait(600) >> ev.Elapsed(Timer.FIRST_BYTE),
        refuse("upstream_timeout", "The upstream sent nothing within 600 s."),
        act.Done("timeout", "upstream_timeout"),
    )


@script
def sent_and_total_deadline() -> Playbook:
    return _aborted(
        sent() >> ev.Elapsed(Timer.TOTAL),
        refuse("upstream_timeout", "The request was not answered within 0 s."),
        act.Done("timeout", "upstream_timeout"),
    )


@script
def reset_before_the_first_byte() -> Playbook:
    return (
        sent()
        >> ev.DispatchFailed(Failed(Fault.RESET, "connection reset before a response"))
        << refuse("upstream_unavailable", "The upstream could not be reached: connection reset before a response. Try again in a moment.")
        << act.Done("upstream_error", "upstream_unavailable")
    )


@script
def refused_without_a_hold() -> Playbook:
    return (
        sent(holds=False)
        >> ev.DispatchFailed(REFUSED)
        << refuse("upstream_unavailable", "The upstream could not be reached: connection refused. Try again in a moment.")
        << act.Done("upstream_error", "upstream_unavailable")
    )


@script
def no_http_at_all() -> Playbook:
    return (
        sent()
        >> ev.DispatchFailed(Failed(Fault.INVALID, "malformed response head"))
        << refuse("upstream_invalid", "The upstream's answer could not be used: malformed response head.")
        << act.Done("upstream_error", "upstream_invalid")
    )


# -- judging an unwelcome head


@script
def committed_while_judging() -> Playbook:
    """The grace is over while the body of a 503 is still coming."""
    return (
        speaks(judging() >> Wait(5) >> ev.Elapsed(Timer.COMMIT) << act.Commit(LINE, "first_byte") << act.Collect(65536))
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "first_byte")
        << Starts(Timer.KEEPALIVE, 15)
        >> ev.Elapsed(Timer.HEARTBEAT)
        << act.Send(BEAT, "first_byte")
        << Starts(Timer.HEARTBEAT, 45)
        >> ev.ClientPaused()
        << act.PauseUpstream()
        >> ev.ClientResumed()
        << act.ResumeUpstream()
        >> ev.BodyCollected(b"gone wrong", complete=True)
        << act.Send(b'data: {"error":{"message":"gone wrong","type":"server_error","param":null,"code":"upstream_error","status":503}}\n\n')
        << act.AwaitDrain()
        >> ev.ClientGone()
        << act.Cut()
        << act.Done("upstream_error", "upstream_error")
    )


@script
def judging_and_left() -> Playbook:
    return _aborted(judging() >> ev.ClientGone(), act.Done("client_closed"))


@script
def judging_and_stalled() -> Playbook:
    return _aborted(judging() >> ev.ClientStalled(), act.AbortClient(), act.Done("client_closed"))


@script
def judging_and_shut_down() -> Playbook:
    return _aborted(judging() >> ev.Shutdown(), act.Refuse(Same(SHUTDOWN)), act.Done("shutdown", "shutting_down"))  # type: ignore[arg-type]


@script
def judging_and_too_late() -> Playbook:
    return _aborted(
        judging() >> ev.Elapsed(Timer.FIRST_BYTE),
        refuse("upstream_timeout", "The upstream sent nothing within 600 s."),
        act.Done("timeout", "upstream_timeout"),
    )


@script
def judging_and_total_deadline() -> Playbook:
    return _aborted(
        judging() >> ev.Elapsed(Timer.TOTAL),
        refuse("upstream_timeout", "The request was not answered within 0 s."),
        act.Done("timeout", "upstream_timeout"),
    )


@script
def died_inside_its_refusal() -> Playbook:
    return (
        judging()
        >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
        << refuse("upstream_invalid", "The upstream answered 503 and broke off: connection closed inside the response.", None, 503)
        << act.Done("upstream_error", "upstream_invalid")
    )


# -- plain bodies


@script
def plain_paused_resumed_and_left() -> Playbook:
    return _aborted(
        plain() >> ev.ClientPaused() << act.PauseUpstream() >> ev.ClientResumed() << act.ResumeUpstream() >> ev.ClientGone(),
        act.Done("client_closed"),
    )


@script
def plain_and_stalled() -> Playbook:
    return _aborted(plain() >> ev.ClientStalled(), act.AbortClient(), act.Done("client_closed"))


@script
def plain_and_shut_down() -> Playbook:
    return _aborted(plain() >> ev.Shutdown(), act.Cut(), act.Done("shutdown", "shutting_down"))


@script
def plain_and_silent() -> Playbook:
    return _aborted(plain() >> ev.Elapsed(Timer.IDLE), act.Cut(), act.Done("timeout", "upstream_timeout"))


@script
def plain_and_total_deadline() -> Playbook:
    return _aborted(plain() >> ev.Elapsed(Timer.TOTAL), act.Cut(), act.Done("timeout", "upstream_timeout"))


@script
def died_inside_a_plain_body() -> Playbook:
    return (
        plain()
        >> Feed(b"half")
        << Through(b"half")
        >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
        << act.Cut()
        << act.Done("upstream_error", "upstream_disconnected")
    )


@script
def a_204_after_the_commit_is_a_clean_end() -> Playbook:
    return (
        committed_sent()
        >> ev.HeadCame(ResponseHead(204, b"No Content", b"HTTP/1.1", []), False)
        << Stops(Timer.FIRST_BYTE)
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.HEARTBEAT)
        << Starts(Timer.IDLE, 300)
        << act.OpenRelay(RELAY)
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok")
    )


# -- streams


@script
def streaming_paused_and_resumed() -> Playbook:
    return _aborted(
        streaming() >> ev.ClientPaused() << act.PauseUpstream() >> ev.ClientResumed() << act.ResumeUpstream() >> ev.ClientGone(),
        act.Done("client_closed"),
    )


def _frame(message: str, code: str) -> act.Send:
    text = f'data: {{"error":{{"message":"{message}","type":"server_error","param":null,"code":"{code}"}}}}\n\n'
    return act.Send(text.encode())


def _failed(play: Playbook, frame: act.Send) -> Playbook:
    """The frame, 200 ms for the client to read it, the cut."""
    return play << frame << act.AwaitDrain() >> ev.ClientDrained() << Starts(Timer.LINGER, 0.2) >> ev.Elapsed(Timer.LINGER) << act.Cut()


@script
def streaming_and_shut_down() -> Playbook:
    play = _aborted(streaming() >> ev.Shutdown())
    return _failed(play, act.Send(SHUTDOWN_FRAME)) << act.Done("shutdown", "shutting_down")


@script
def streaming_and_silent() -> Playbook:
    play = _aborted(streaming() >> ev.Elapsed(Timer.IDLE))
    return _failed(play, _frame("The upstream was silent for 300 s.", "upstream_timeout")) << act.Done("timeout", "upstream_timeout")


@script
def streaming_and_total_deadline() -> Playbook:
    play = _aborted(streaming(total=0) >> ev.Elapsed(Timer.TOTAL))
    return _failed(play, _frame("The request was not answered within 0 s.", "upstream_timeout")) << act.Done("timeout", "upstream_timeout")


@script
def a_head_and_then_no_event_in_time() -> Playbook:
    play = _aborted(committed_sent() >> ev.HeadCame(STREAM_HEAD, True) << act.OpenRelay(RELAY) >> ev.Elapsed(Timer.FIRST_BYTE))
    return _failed(play, act.Send(TIMEOUT_FRAME)) << act.Done("timeout", "upstream_timeout")


@script
def died_inside_an_event() -> Playbook:
    play = streaming() >> Feed(b'data: {"id":') >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
    frame = _frame("The upstream disconnected before its answer was complete.", "upstream_disconnected")
    return _failed(play, frame) << act.Done("upstream_error", "upstream_disconnected")


@script
def a_broken_chunk_inside_the_stream() -> Playbook:
    play = streaming() >> ev.DispatchFailed(Failed(Fault.INVALID, "malformed chunk"))
    frame = _frame("The upstream's stream could not be read: malformed chunk.", "upstream_invalid")
    return _failed(play, frame) << act.Done("upstream_error", "upstream_invalid")


@script
def died_past_the_hold_bound() -> Playbook:
    """Half an event is with the client: a frame glued to it could not be read."""
    return (
        streaming(hold_bytes=4)
        >> Feed(b'data: {"id":')
        << Through(b'data: {"id":')
        >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
        << act.Cut()
        << act.Done("upstream_error", "upstream_disconnected")
    )


# -- after the terminal event


@script
def trailing_bytes_are_relayed_until_upstream_ends() -> Playbook:
    return (
        trailing()
        >> ev.ClientPaused()
        << act.PauseUpstream()
        >> ev.ClientResumed()
        << act.ResumeUpstream()
        >> Feed(b": bye\n\n")
        << Through(b": bye\n\n")
        >> ev.Elapsed(Timer.TRAIL)
        << act.AbortUpstream()
        << act.Finish()
        << act.Done("ok")
    )


@script
def died_after_the_terminal_event() -> Playbook:
    return trailing() >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "x")) << act.Finish() << act.Done("ok")


@script
def trailing_and_total_deadline() -> Playbook:
    return trailing() >> ev.Elapsed(Timer.TOTAL) << act.AbortUpstream() << act.Finish() << act.Done("ok")


@script
def trailing_and_shut_down() -> Playbook:
    return trailing() >> ev.Shutdown() << act.AbortUpstream() << act.Finish() << act.Done("ok")


@script
def trailing_and_left() -> Playbook:
    return _aborted(trailing() >> ev.ClientGone(), act.Done("ok"))


@script
def trailing_and_stalled() -> Playbook:
    return _aborted(trailing() >> ev.ClientStalled(), act.AbortClient(), act.Done("client_closed"))


# -- failing


@script
def failing_and_stalled() -> Playbook:
    return (
        failing()
        >> ev.ClientPaused()
        >> ev.ClientResumed()
        >> ev.Shutdown()
        >> ev.ClientStalled()
        << act.AbortClient()
        << act.Done("timeout", "upstream_timeout")
    )


# -- JSON that does not stream, kept alive with blanks

JSON: Final = b'{"a":1}'


def padded(**player: object) -> Playbook:
    """No stream was asked for, upstream is silent, and our own head promises JSON. No heartbeat: nothing but blanks may be said."""
    return (
        sent(streaming=False, pads=True, **player)
        >> Wait(5)
        >> ev.Elapsed(Timer.COMMIT)
        << act.Commit(b" ", "first_byte")
        << Starts(Timer.KEEPALIVE, 15)
    )


@script
def padded_to_the_end() -> Playbook:
    """A blank each interval until the body begins; then it is none of our business."""
    return (
        padded()
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(b" ", "first_byte")
        >> ev.HeadCame(head(201, b"application/json; charset=utf-8"), True)
        << act.OpenRelay(RELAY)
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(b" ", "first_byte")
        >> Feed(JSON[:3])
        << Stops(Timer.KEEPALIVE)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << Through(JSON[:3])
        >> Feed(JSON[3:])
        << Through(JSON[3:])
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok")
    )


@script
def padded_and_no_body_in_time() -> Playbook:
    play = padded() >> ev.HeadCame(head(), True) << act.OpenRelay(RELAY) >> ev.Elapsed(Timer.FIRST_BYTE)
    return _aborted(play, act.Cut(), act.Done("timeout", "upstream_timeout"))


@script
def padded_while_held() -> Playbook:
    return (
        held(streaming=False, pads=True)
        >> Wait(1)
        >> ev.Elapsed(Timer.COMMIT)
        << act.Commit(b" ", "hold")
        << Starts(Timer.KEEPALIVE, 15)
        >> Wait(15)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(b" ", "hold")
        >> ev.UpstreamReady(cold=True)
        << Stops(Timer.HOLD)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.HeadCame(head(503), True)
        << act.Collect(65536)
        >> ev.BodyCollected(b"loading", complete=True)
        << Stops(Timer.FIRST_BYTE)
        << act.MarkLoading("HTTP 503, loading")
        << Starts(Timer.HOLD, 584)
        << act.AwaitReady()
        >> Wait(584)
        >> ev.Elapsed(Timer.HOLD)
        << act.StopWaiting()
        << act.Cut()
        << act.Done("timeout", "readiness_timeout")
    )


@script
def padded_and_refused() -> Playbook:
    """An error cannot be told after a 200 whose body is JSON of somebody else: it is cut, and nothing is made up."""
    return (
        padded()
        >> ev.HeadCame(head(500), True)
        << act.Collect(65536)
        >> ev.BodyCollected(b'{"error":"no"}', complete=True)
        << act.Cut()
        << act.Done("upstream_error", "upstream_error")
    )


@script
def padded_and_no_json() -> Playbook:
    return _aborted(padded() >> ev.HeadCame(head(200, b"text/html"), True), act.Cut(), act.Done("upstream_error", "upstream_invalid"))


@script
def padded_and_died() -> Playbook:
    return (
        padded()
        >> ev.HeadCame(head(), True)
        << act.OpenRelay(RELAY)
        >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
        << act.Cut()
        << act.Done("upstream_error", "upstream_disconnected")
    )


@script
def answered_before_it_had_to_be_padded() -> Playbook:
    """Inside the grace it is upstream's own answer, head and all."""
    answer = head(200, b"application/json", (b"Content-Length", b"7"))
    return (
        sent(streaming=False, pads=True)
        >> Wait(4)
        >> ev.HeadCame(answer, True)
        << Stops(Timer.COMMIT)
        << act.RelayHead(answer, True)
        << Stops(Timer.FIRST_BYTE)
        << Starts(Timer.IDLE, 300)
        << act.OpenRelay(RELAY)
        >> Feed(JSON)
        << Through(JSON)
        >> FeedEnd()
        << act.Finish()
        << act.Done("ok")
    )


@script
def a_stream_where_json_was_to_be_padded() -> Playbook:
    """Nobody asked for it, so there is no heartbeat, but its gaps are filled."""
    return (
        sent(streaming=False, pads=True)
        >> ev.HeadCame(STREAM_HEAD, True)
        << Stops(Timer.COMMIT)
        << act.RelayHead(STREAM_HEAD, True)
        << Starts(Timer.KEEPALIVE, 15)
        << act.OpenRelay(RELAY)
        >> ev.Elapsed(Timer.KEEPALIVE)
        << act.Send(LINE, "first_byte")
        >> ev.ClientGone()
        << act.AbortUpstream()
        << act.Done("client_closed")
    )


# -- tunnels


SWITCHING: Final = ResponseHead(101, b"Switching Protocols", b"HTTP/1.1", [(b"Upgrade", b"websocket")])


def tunnelled() -> Playbook:
    """Upstream has agreed to a WebSocket."""
    return (
        Playbook(streaming=False)
        >> ev.Begin(ready=True)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> ev.Switched(SWITCHING)
        << Stops(Timer.FIRST_BYTE)
        << act.RelayHead(SWITCHING, True)
        << act.OpenRelay(RELAY)
    )


def half_closed() -> Playbook:
    """One side has ended, whichever."""
    return tunnelled() >> Feed(b"bytes") << Through(b"bytes") >> ev.HalfClosed() << Stops(Timer.FIRST_BYTE) << Starts(Timer.IDLE, 300)


@script
def tunnelled_to_both_ends() -> Playbook:
    return half_closed() >> ev.BodyEnded() << act.Finish() << act.Done("ok")


@script
def half_closed_and_silent() -> Playbook:
    return _aborted(half_closed() >> ev.Elapsed(Timer.IDLE), act.Cut(), act.Done("timeout", "upstream_timeout"))


@script
def tunnelled_paused_resumed_and_left() -> Playbook:
    return _aborted(
        tunnelled() >> ev.ClientPaused() << act.PauseUpstream() >> ev.ClientResumed() << act.ResumeUpstream() >> ev.ClientGone(),
        act.Done("client_closed"),
    )


@script
def tunnelled_and_stalled() -> Playbook:
    return _aborted(tunnelled() >> ev.ClientStalled(), act.AbortClient(), act.Done("client_closed"))


@script
def tunnelled_and_reset_by_upstream() -> Playbook:
    lost = ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection reset inside the response"))
    return tunnelled() >> lost << act.Cut() << act.Done("upstream_error", "upstream_disconnected")


@script
def tunnelled_and_shut_down() -> Playbook:
    return _aborted(tunnelled() >> ev.Shutdown(), act.Cut(), act.Done("shutdown", "shutting_down"))


@script
def tunnelled_and_total_deadline() -> Playbook:
    return _aborted(tunnelled() >> ev.Elapsed(Timer.TOTAL), act.Cut(), act.Done("timeout", "upstream_timeout"))


# -- what another exchange asked for, and its failure told to all who follow


GONE: Final = ProxyError("upstream_disconnected", "The upstream closed the connection.")
GONE_FRAME: Final = _frame("The upstream closed the connection.", "upstream_disconnected")
GONE_DONE: Final = act.Done("upstream_error", "upstream_disconnected")


@script
def given_up_before_its_head() -> Playbook:
    return sent() >> ev.UpstreamFailed(GONE) << act.Refuse(GONE) << GONE_DONE


@script
def given_up_before_its_head_and_after_the_commit() -> Playbook:
    return _failed(committed_sent() >> ev.UpstreamFailed(GONE), GONE_FRAME) << GONE_DONE


@script
def given_up_while_judging() -> Playbook:
    return judging() >> ev.UpstreamFailed(GONE) << act.Refuse(GONE) << GONE_DONE


@script
def given_up_inside_a_plain_body() -> Playbook:
    return plain() >> ev.UpstreamFailed(GONE) << act.Cut() << GONE_DONE


@script
def given_up_inside_the_stream() -> Playbook:
    return _failed(streaming() >> ev.UpstreamFailed(GONE), GONE_FRAME) << GONE_DONE


@script
def given_up_after_the_terminal_event() -> Playbook:
    return trailing() >> ev.UpstreamFailed(GONE) << act.Finish() << act.Done("ok")


@script
def nobody_to_be_told_in_frames() -> Playbook:
    """An exchange without a client tells its failure as it is, whatever it has relayed."""
    play = streaming(unheard=True) >> ev.DispatchFailed(Failed(Fault.TRUNCATED, "connection closed inside the response"))
    return play << refuse("upstream_disconnected", "The upstream disconnected before its answer was complete.") << GONE_DONE
