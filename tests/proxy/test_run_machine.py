"""Whatever happens to a run, in whatever order: a reader who stays gets what upstream relayed, whole, in order, once; or an error."""

from __future__ import annotations

from itertools import pairwise

import attrs
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes import Hall, Seat
from txsse.config import model
from txsse.interfaces import Failed, Fault
from txsse.upstream.room import Refusal
from txsse.upstream.state import State
from txsse.wire.boundary import BoundaryTracker

UNREACHABLE = Failed(Fault.UNREACHABLE, "connection refused")
FAILURES = [Failed(Fault.RESET, "reset"), Failed(Fault.INVALID, "no chunk"), Failed(Fault.TRUNCATED, "closed")]
ERROR = b'data: {"error":'
LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'

# Nothing of ours is said in between: what a reader is sent can be compared byte by byte.
QUIET = model.Route(
    name="llama",
    keepalive=model.Keepalive(interval=1000, commit_after=1000, heartbeat=0),
    hold=model.Hold(commit_after=1000, timeout=1000, max_waiting=1000),
)

contents = st.one_of(
    st.just(b""), st.integers(1000, 8000).map(lambda size: b"x" * size), st.binary(max_size=20).map(lambda text: text.hex().encode())
)
events = st.one_of(
    st.builds(lambda text, end: b"data: " + text + end, contents, st.sampled_from([b"\n\n", b"\r\n\r\n"])),
    st.builds(lambda text: b": " + text + b"\n\n", contents),
    st.builds(lambda text: b"event: e\nid: 7\ndata: " + text + b"\n\n", contents),
)


@attrs.define(eq=False)
class Guest:
    """A reader, and what the test knows of it."""

    seat: Seat
    paused: bool = False
    told_before_pause: int = 0
    outrun: bool = False
    """While it was paused another one was live: it may have lost what it did not read."""

    @property
    def body(self) -> bytes:
        return self.seat.downstream.body

    @property
    def told(self) -> bytes:
        """Upstream's part of that."""
        return b"" if self.refused else self.body.partition(ERROR)[0]

    @property
    def refused(self) -> bool:
        return bool(self.seat.owner.refused)

    @property
    def failed(self) -> bool:
        """The client can tell that something is missing."""
        return self.refused or ERROR in self.body or self.seat.downstream.end == "cut"

    @property
    def truncated(self) -> bool:
        ended = self.seat.owner.ended
        return b'"code":"replay_truncated"' in self.body or (bool(ended) and ended[0].code == "replay_truncated")


class Lives(RuleBasedStateMachine):
    hall: Hall

    @initialize(
        phase=st.sampled_from(["held", "sent", *["streaming"] * 4]),
        limit=st.sampled_from([500, 5_000, 20_000, 60_000, 1 << 20]),
        space=st.sampled_from([0, 3_000, 30_000, 1 << 20]),
        commits=st.lists(st.booleans(), max_size=4),
        length=st.sampled_from([0, 10, 20, 30]),
    )
    def begin(self, phase: str, limit: int, space: int, commits: list[bool], length: int) -> None:
        self.hall = Hall(QUIET, ready=phase != "held", limit=limit, space=space)
        self.limit, self.space = limit, space
        self.length, self.steps = length, 0  # steps before which nothing ends it
        self.fed = b""  # all that upstream sent
        self.relayed = b""  # what of that may be with the readers: nothing is cut inside an event
        self.tracker = BoundaryTracker(QUIET.stream.hold_bytes)
        self.stream = True
        self.head = False
        self.left: list[Guest] = []
        self.guests = [Guest(self.hall.seat(asked=True)), *(Guest(self.hall.seat(commits=each)) for each in commits)]
        if phase == "streaming":
            self.answer(stream=True, status=200)

    # -- what is the case

    @property
    def over(self) -> bool:
        return self.hall.run.over

    @property
    def sent(self) -> bool:
        return not self.over and not self.hall.run.held

    @property
    def may_end(self) -> bool:
        return not self.over and self.steps >= self.length

    @property
    def live(self) -> list[Guest]:
        return [guest for guest in self.guests if not guest.paused]

    def choose(self, data: st.DataObject, guests: list[Guest]) -> Guest:
        return data.draw(st.sampled_from(guests))

    # -- readers

    @precondition(lambda self: len(self.guests) < 6 and self.guests and self.hall.run.joinable)
    @rule(commits=st.booleans())
    def join(self, commits: bool) -> None:
        self.guests.append(Guest(self.hall.seat(commits=commits)))
        self.hall.wait(0.01)  # it is not handed all at once

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        guest = self.choose(data, self.live)
        guest.seat.reader.client_paused()
        guest.paused, guest.told_before_pause = True, len(guest.body)

    @precondition(lambda self: len(self.live) < len(self.guests))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        guest = self.choose(data, [guest for guest in self.guests if guest.paused])
        guest.paused = False
        guest.seat.reader.client_resumed()

    @precondition(lambda self: len(self.guests) > 1 or (self.guests and self.may_end))
    @rule(data=st.data(), stalls=st.booleans())
    def leave(self, data: st.DataObject, stalls: bool) -> None:
        guest = self.choose(data, self.guests)
        self.guests.remove(guest)
        if stalls:
            guest.seat.reader.client_stalled()
        else:
            guest.seat.downstream.gone = True
            guest.seat.reader.client_gone()
        self.left.append(guest)

    # -- upstream

    @precondition(lambda self: not self.over and self.hall.run.held)
    @rule()
    def let_in(self) -> None:
        self.hall.backend.open()

    @precondition(lambda self: self.may_end and self.hall.run.held)
    @rule()
    def turn_away(self) -> None:
        (waiter,) = self.hall.backend.gate.waiters
        self.hall.backend.gate.waiters.clear()
        waiter.turned_away(Refusal("wake_failed", "no"))

    @precondition(lambda self: self.sent and not self.head)
    @rule(loading=st.booleans())
    def back_to_hold(self, loading: bool) -> None:
        self.hall.backend.gate.state = State.LOADING
        if loading:
            self.hall.answer(503, b"application/json")
            self.hall.body(LOADING)
            self.hall.ended()
        else:
            self.hall.failed(UNREACHABLE)
        assert all(guest.seat.reader.held for guest in self.guests)

    @precondition(lambda self: self.sent and not self.head)
    @rule(stream=st.booleans(), status=st.sampled_from([200, 200, 200, 404]))
    def answer(self, stream: bool, status: int) -> None:
        self.stream, self.head = stream, True
        self.hall.answer(status, b"text/event-stream" if stream else b"application/json")

    @precondition(lambda self: self.sent and self.head and not self.hall.backend.last.paused)
    @rule(size=st.integers(5_000, 30_000))
    def speak_at_length(self, size: int) -> None:
        self.tell(b"data: " + b"x" * (size // 2) + b"\n\ndata: " + b"y" * (size // 2) + b"\n\n", [])

    @precondition(lambda self: self.sent and self.head and not self.hall.backend.last.paused)
    @rule(pieces=st.lists(events, min_size=1, max_size=4), data=st.data())
    def speak(self, pieces: list[bytes], data: st.DataObject) -> None:
        """Events, cut anywhere; the last one may stay unfinished."""
        text = b"".join(pieces)
        text = text[: data.draw(st.integers(1, len(text)))] if data.draw(st.booleans()) else text
        self.tell(text, data.draw(st.lists(st.integers(0, len(text)), max_size=4)))

    def tell(self, text: bytes, cuts: list[int]) -> None:
        """All of it comes, even if the run wants no more after the first bytes: they had been read from the socket."""
        before = len(self.fed)
        self.fed += text
        cuts = sorted({before, len(self.fed), *(before + cut for cut in cuts)})
        for begin, end in pairwise(cuts):
            self.outrun()
            piece = self.fed[begin:end]
            self.relayed += self.tracker.feed(piece) if self.stream else piece
            self.hall.body(piece)

    def outrun(self) -> None:
        for guest in self.guests:
            guest.outrun |= guest.paused and len(self.live) > 0

    @precondition(lambda self: self.may_end and self.head)
    @rule()
    def end(self) -> None:
        self.outrun()
        self.relayed = self.fed  # also what was held back, for it is unfinished
        self.hall.ended()

    @precondition(lambda self: self.may_end and self.sent)
    @rule(failed=st.sampled_from(FAILURES))
    def fail(self, failed: Failed) -> None:
        self.hall.failed(failed)

    @rule()
    def wait(self) -> None:
        self.hall.wait(0.3)

    # -- what holds

    @invariant()
    def time_goes_on(self) -> None:
        self.steps += 1

    @invariant()
    def nobody_misses_anything(self) -> None:
        for guest in [*self.guests, *self.left]:
            assert self.relayed.startswith(guest.told)
        for guest in self.live:
            if guest.truncated:
                assert guest.outrun
            elif self.head:  # also those who have heard of a failure since
                assert guest.told == self.relayed
            assert guest.failed == (guest.truncated or self.hall.run.error is not None)

    @invariant()
    def those_who_do_not_read_are_sent_nothing(self) -> None:
        for guest in self.guests:
            if guest.paused and not self.over:
                assert len(guest.body) == guest.told_before_pause

    @invariant()
    def memory_is_bounded(self) -> None:
        assert 0 <= self.hall.quota.used <= self.space
        assert self.hall.quota.used == self.hall.run.recording.size <= self.limit

    @invariant()
    def upstream_waits_only_where_it_must(self) -> None:
        if self.sent and self.head:
            live = [guest for guest in self.live if not guest.failed]
            behind = [guest for guest in self.guests if guest.paused and not guest.failed]
            assert self.hall.backend.last.paused == (bool(behind) and not live and self.hall.run.recording.half_full)

    @invariant()
    def the_last_one_out_ends_it(self) -> None:
        if not self.guests:
            assert self.over
            assert self.hall.watcher.over == 1
            assert all(dispatch.aborted or dispatch.receiver is not None for dispatch in self.hall.backend.dispatches)

    def teardown(self) -> None:
        if not hasattr(self, "hall"):
            return
        if self.sent and self.head:
            self.end()
        elif not self.over:
            for guest in list(self.guests):
                guest.seat.reader.client_gone()
        for guest in self.guests:
            guest.seat.reader.client_resumed()
        self.hall.wait(0.5)
        for guest in self.guests:
            if guest.seat.outcome == "ok":
                assert (guest.seat.downstream.end, guest.body) == ("finish", self.relayed)
            elif guest.seat.outcome != "client_closed":
                assert guest.failed
        for guest in [*self.guests, *self.left]:
            assert len(guest.seat.owner.ended) == 1
        hall = self.hall
        assert (hall.quota.used, hall.backend.gate.taken, hall.backend.in_flight, hall.watcher.over) == (0, 0, 0, 1)
        assert (hall.backend.gate.waiters, hall.route.room.waiting) == ([], 0)
        assert hall.run.followers == set()
        if hall.watcher.complete and not hall.run.recording.torn:
            assert hall.watcher.complete == [self.relayed]


TestLives = Lives.TestCase
TestLives.settings = hypothesis.settings(max_examples=200, stateful_step_count=60)
