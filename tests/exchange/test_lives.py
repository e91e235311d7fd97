"""Random lives: whatever can really happen, in whatever order, an exchange ends once, in order, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange.playbook import STREAM_HEAD, Feed, FeedEnd, Player, Step, Through
from tests.exchange.scripts import DONE, EVENT, head
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.table import HeadOf, State
from txsse.interfaces import Failed, Fault
from txsse.wire.http1 import ResponseHead

HEADS = [
    ev.HeadCame(STREAM_HEAD, True),
    ev.HeadCame(head(200), True),
    ev.HeadCame(head(200, b"application/x-ndjson"), True),
    ev.HeadCame(head(200, b"text/event-stream", (b"Content-Length", b"5")), True),
    ev.HeadCame(head(200, b"text/event-stream", (b"Content-Encoding", b"gzip")), True),
    ev.HeadCame(head(404), True),
    ev.HeadCame(head(503), True),
    ev.HeadCame(head(503), False),
    ev.HeadCame(head(302), True),
    ev.HeadCame(ResponseHead(204, b"", b"HTTP/1.1", []), False),
]
BODIES = [b'{"error":{"message":"Loading model"}}', b'{"error":"no"}', b"", b"<h1>no</h1>"]
PIECES = [
    EVENT,
    DONE,
    b"data: ",
    b"half",
    b"\n",
    b"\n\n",
    b": ping\n",
    b"\r",
    b"\r\n\r\n",
    b"id: 7\n",
    b"x" * 40,
    EVENT + DONE,
    b"\xef\xbb\xbf",
    b'{"done":false}\n',
    b'{"done":true}\n',
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3}}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'data: {"type":"response.completed","sequence_number":3,"response":{"id":"resp_1"}}\n\n',
    b'data: {"choices":[],"prompt_progress":{"total":9,"cache":0,"processed":3,"time_ms":1}}\n\n',
]


@attrs.define
class World:
    """What is true around the machine: derived from its actions alone, it tells what can happen next."""

    waiting: bool = False
    dispatched: bool = False
    headed: bool = False
    collecting: bool = False
    bodiless: bool = False
    draining: bool = False
    heads: int = 0
    open: bool = False  # the client has a head and no end
    over: bool = False  # the client has an end
    done: int = 0

    def possible(self, player: Player) -> list[Step]:
        if player.state is State.NEW:
            return [ev.Begin(True), ev.Begin(False)]
        steps: list[Step] = [ev.Elapsed(timer) for timer in sorted(player.running)]
        steps += [ev.ClientPaused(), ev.ClientResumed(), ev.ClientGone(), ev.ClientStalled(), ev.Shutdown()]
        if self.waiting:
            steps += [ev.UpstreamReady(True), ev.UpstreamReady(False), ev.UpstreamFailed(ProxyError("wake_failed", "It failed."))]
        if self.draining:
            steps.append(ev.ClientDrained())
        if not self.dispatched:
            return steps
        if not self.headed:
            faults = (Fault.UNREACHABLE, Fault.STALE, Fault.RESET, Fault.INVALID)
            return [*steps, *HEADS * 2, *(ev.DispatchFailed(Failed(fault, "why")) for fault in faults)]
        steps += [ev.DispatchFailed(Failed(fault, "why")) for fault in (Fault.TRUNCATED, Fault.INVALID)]
        if self.collecting:
            bodies = [b""] if self.bodiless else BODIES
            return [*steps, *(ev.BodyCollected(body, True) for body in bodies), ev.BodyCollected(b"loading" + b"x" * 5000, False)]
        if player.relay is not None:
            steps += [] if self.bodiless else [Feed(piece) for piece in PIECES]
            steps.append(FeedEnd())
        return steps

    def happens(self, step: Step) -> None:
        match step:
            case ev.UpstreamReady() | ev.UpstreamFailed():
                self.waiting = False
            case ev.HeadCame():
                self.headed, self.bodiless = True, not step.has_body
            case ev.DispatchFailed() | FeedEnd():
                self.dispatched = False
            case ev.BodyCollected():
                self.collecting = False
                self.dispatched = not step.complete
            case ev.ClientDrained():
                self.draining = False

    def follows(self, outcome: Any) -> None:
        assert not self.done, "an action after the end of the exchange"
        match outcome:
            case act.AwaitReady():
                assert not self.waiting
                self.waiting = True
            case act.StopWaiting():
                self.waiting = False
            case act.Dispatch():
                assert not self.dispatched
                assert not self.waiting
                self.dispatched, self.headed, self.collecting = True, False, False
            case act.AbortUpstream():
                assert self.dispatched
                self.dispatched = False
            case act.Collect():
                self.collecting = True
            case act.PauseUpstream() | act.ResumeUpstream():
                assert self.dispatched
            case act.AwaitDrain():
                assert self.open
                self.draining = True
            case act.Refuse() | act.Commit() | act.RelayHead():
                assert self.heads == 0, "two heads"
                self.heads = 1
                self.open = not isinstance(outcome, act.Refuse)
                self.over = isinstance(outcome, act.Refuse)
            case act.Send(data) | Through(data):
                assert data
                assert self.open, "bytes before a head or after an end"
            case act.Finish() | act.Cut():
                assert self.open, "an end without a head, or a second one"
                self.open, self.over = False, True
            case act.AbortClient():
                assert not self.over
                self.open, self.over = False, True
            case act.Done():
                self.done += 1


@settings(max_examples=400, deadline=None)
@given(
    data=st.data(),
    dialect=st.sampled_from(list(DIALECTS)),
    asked=st.sampled_from(["for a stream", "for no stream", "for JSON that is padded"]),
    follows=st.booleans(),
    policy=st.fixed_dictionaries(
        {
            "holds": st.booleans(),
            "total": st.sampled_from([0, 30]),
            "message": st.sampled_from(["", "Hello"]),
            "channel": st.sampled_from(["reasoning", "content"]),
            "form": st.sampled_from(["auto", "line", "frame", "event", "none"]),
            "heartbeat": st.sampled_from([0, 45]),
            "hold_bytes": st.sampled_from([8, 65536]),
            "error_end": st.sampled_from(["abort", "done"]),
            "error_event": st.booleans(),
            "require_done": st.booleans(),
            "comments_count": st.booleans(),
            "heartbeat_midstream": st.booleans(),
            "normalise": st.booleans(),
        }
    ),
)
def test_any_life_ends_once_and_leaves_nothing_behind(
    data: st.DataObject, dialect: str, asked: str, follows: bool, policy: dict[str, Any]
) -> None:
    pads = asked == "for JSON that is padded"
    player, world = Player(dialect=dialect, streaming=asked == "for a stream", pads=pads, follows=follows, **policy), World()
    steps = 0
    while player.state is not State.ENDED:
        # Every life has its end.
        step = data.draw(st.sampled_from(world.possible(player))) if steps < 30 else ev.ClientGone()
        steps += 1
        world.happens(step)
        for outcome in player.play(step):
            world.follows(outcome)
    assert world.done == 1
    if pads and player.head_of is HeadOf.US:
        ours = b"".join(each.data for each in player.outcomes if isinstance(each, act.Commit | act.Send))
        assert ours.strip(b" ") == b"", "JSON was promised"
    assert not world.dispatched
    assert not world.waiting
    assert not world.open or isinstance(player.outcomes[-1], act.Done)
    # Who is still there was given an end.
    if not isinstance(step, ev.ClientGone):
        assert world.over
