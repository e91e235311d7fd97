"""The neighbours of a conductor, without sockets: a client's side, a backend and an owner that write down what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.task import Clock

from txsse.clock import Alarms
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.interfaces import Failed, Receiver, Request
from txsse.proxy.conductor import Conductor
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.reader import Reader, Source
from txsse.proxy.routes import BoundRoute
from txsse.proxy.run import Run, RunWatcher
from txsse.proxy.stand_ins import Instead
from txsse.recordings.store import Quota
from txsse.upstream.backend import Backend
from txsse.upstream.room import Waiter
from txsse.upstream.state import State
from txsse.wire.headers import NO_FIELDS, Headers, Prepared
from txsse.wire.http1 import RequestHead, ResponseHead

STEP = 0.005


class RecordingDownstream:
    """Implements :class:`txsse.interfaces.Downstream`, and holds its caller to the order of calls that it promises."""

    def __init__(self, clock: Clock) -> None:
        self.stall_timeout = 0.0
        self.status = 0
        self.headers: Headers = []
        self.has_body = True
        self.writes: list[tuple[float, bytes]] = []
        self.end = ""
        """``finish``, ``cut`` or ``abort``."""
        self.ended_at = 0.0
        self.unsent = 0
        self.forgotten = False
        self.holds_little = False
        self.gone = False
        """Set by a test: the client has left, every call is a no-op."""
        self.on_write: Callable[[], None] = lambda: None
        self.packets: list[bytes] = []
        """What left in one piece each."""
        self._corked = False
        self._clock = clock

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.writes)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.writes]

    @property
    def alive(self) -> bool:
        """There was no end yet."""
        return not self.end

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None:
        if self.gone:
            return
        assert self.status == 0, "two heads"
        assert not self.end
        self.status, self.headers, self.has_body = status, [*common.fields, *headers], has_body
        if not self._corked:
            self.packets.append(b"")

    def write(self, data: bytes) -> None:
        if self.gone:
            return
        assert data
        assert self.status, "bytes before the head"
        assert not self.end, "bytes after the end"
        self.writes.append((self._clock.seconds(), data))
        if self._corked:
            self.packets[-1] += data
        else:
            self.packets.append(data)
        self.on_write()

    def cork(self) -> None:
        if not self._corked:
            self._corked = True
            self.packets.append(b"")

    def uncork(self) -> None:
        self._corked = False

    def finish(self) -> None:
        self._end("finish")

    def cut(self) -> None:
        self._end("cut")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        if self.gone:
            return
        assert not self.end, "two ends"
        self.end, self.ended_at = how, self._clock.seconds()

    def pending(self) -> int:
        return self.unsent

    def hold_little(self) -> None:
        self.holds_little = True

    def forget_body(self) -> None:
        self.forgotten = True


class FakeDispatch:
    """One request as a backend got it; the test answers through :attr:`receiver`."""

    def __init__(self, head: bytes, body: bytes, receiver: Receiver, fresh: bool) -> None:
        self.head = head
        self.body = body
        self.receiver = receiver
        self.fresh = fresh
        self.aborted = False
        self.paused = False

    def abort(self) -> None:
        self.aborted = True
        self.receiver = cast(Receiver, None)  # hears no more

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


@attrs.define(eq=False, slots=False)
class FakeGate:
    state: State = State.READY
    cold: bool = False
    last_error: str = ""
    marks: list[tuple[str, str]] = attrs.field(factory=list)
    waiters: list[Waiter] = attrs.field(factory=list)

    taken: int = 0
    eta: float | None = None

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def waiting(self) -> int:
        return len(self.waiters)

    def admit(self) -> bool:
        if self.ready:
            self.taken += 1
        return self.ready

    def take_slot(self) -> bool:
        self.taken += 1
        return True

    def give_back(self) -> None:
        self.taken -= 1
        assert self.taken >= 0, "a slot was given back twice"

    def place_of(self, waiter: Waiter) -> int | None:
        return None

    def enter(self, waiter: Waiter, priority: int, since: float) -> None:
        self.waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def mark_down(self, detail: str) -> None:
        self.state, self.last_error = State.DOWN, detail
        self.marks.append(("down", detail))

    def mark_loading(self, detail: str) -> None:
        self.state, self.last_error = State.LOADING, detail
        self.marks.append(("loading", detail))


class FakeBackend:
    """What a conductor uses of :class:`txsse.upstream.backend.Backend`; its own only server, and that one's connections."""

    def __init__(self, *, ready: bool = True) -> None:
        self.name = "llama"
        self.gate = FakeGate(State.READY if ready else State.DOWN, cold=not ready, last_error="" if ready else "connection refused")
        self.authority = b"127.0.0.1:1"
        self.in_flight = 0
        self.failed = 0
        self.blames: list[tuple[str, bool]] = []
        self.dispatches: list[FakeDispatch] = []
        self.on_dispatch: Callable[[FakeDispatch], None] = lambda dispatch: None
        self.config = model.Upstream(name="llama", url="http://127.0.0.1:1")
        self.set_headers: Headers = []

    @property
    def ready(self) -> bool:
        return self.gate.state is State.READY

    @property
    def state(self) -> str:
        return self.gate.state.value

    def open(self) -> None:
        """The upstream is ready: let everybody through."""
        self.gate.state = State.READY
        waiters, self.gate.waiters = self.gate.waiters, []
        for waiter in waiters:
            self.gate.taken += 1
            waiter.admitted()

    @property
    def servers(self) -> FakeBackend:
        return self

    @property
    def pool(self) -> FakeBackend:
        return self

    def pick(self) -> FakeBackend:
        return self

    def blame(self, server: FakeBackend, detail: str, *, gone: bool = False) -> None:
        assert server is self
        self.blames.append((detail, gone))

    def mark_down(self, server: FakeBackend, detail: str) -> None:
        assert server is self
        self.gate.mark_down(detail)

    def mark_loading(self, server: FakeBackend, detail: str) -> None:
        assert server is self
        self.gate.mark_loading(detail)

    def dispatch(self, head: bytes, body: bytes, method: bytes, receiver: Receiver, *, fresh: bool, upgrades: bool = False) -> FakeDispatch:
        dispatch = FakeDispatch(head, body, receiver, fresh)
        self.dispatches.append(dispatch)
        self.on_dispatch(dispatch)
        return dispatch

    @property
    def last(self) -> FakeDispatch:
        return self.dispatches[-1]


class FakeOwner:
    """What a conductor needs of the proxy, without one."""

    def __init__(self, clock: Clock) -> None:
        self.alarms = Alarms(clock)
        self.keepalives: list[str] = []
        self.refused: list[ProxyError] = []
        self.ended: list[act.Done] = []
        self.instead: Instead | None = None
        self.broken = False

    def upstream_head(self, conductor: Conductor, authority: bytes) -> bytes:
        if self.broken:
            raise ZeroDivisionError("a bug")
        return b"POST / HTTP/1.1\r\nHost: %b\r\n\r\n" % authority

    def relayed_headers(self, conductor: Conductor, head: ResponseHead) -> tuple[Prepared, Headers]:
        return Prepared(head.headers), []

    def committed_headers(self, conductor: Conductor) -> Headers:
        return [(b"Content-Type", conductor.dialect.content_type), (b"Cold", b"true" if conductor.cold else b"false")]

    def answer_error(self, conductor: Conductor, error: ProxyError) -> None:
        self.refused.append(error)
        conductor.downstream.start(error.http_status, b"", [])
        conductor.downstream.write(conductor.dialect.error_body(error))
        conductor.downstream.finish()

    def instead_of_waiting(self, conductor: Conductor) -> Instead | None:
        return self.instead

    def count_keepalive(self, phase: str) -> None:
        self.keepalives.append(phase)

    def exchange_ended(self, conductor: Conductor, done: act.Done) -> None:
        self.ended.append(done)


def a_request(clock: Clock, *, method: bytes = b"POST", body: bytes = b'{"stream":true}', headers: Headers | None = None) -> Request:
    """One that has come this moment."""
    now = clock.seconds()
    head = RequestHead(method, b"/v1/chat/completions", b"HTTP/1.1", [(b"Host", b"x"), *(headers or [])])
    return Request(head, body, "192.0.2.1", False, b"x", b"/v1/chat/completions", now, now)


def bound(route: model.Route, backend: FakeBackend, fallback: FakeBackend | None = None) -> BoundRoute:
    """*route* tied to *backend*. It caches everything where it does not say otherwise."""
    if route.cache.mode == "off":
        route = attrs.evolve(route, cache=attrs.evolve(route.cache, mode="all"))
    found = BoundRoute.bind(route, cast(Backend, backend), "test", TrustedProxies(), cast("Backend | None", fallback))
    found.prepare()
    return found


class _Scene:
    """Time, and a backend that the test lets speak."""

    clock: Clock
    backend: FakeBackend

    def wait(self, seconds: float, step: float = STEP) -> None:
        """Time passes in small steps, as in a reactor that has much to do."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def answer(self, status: int = 200, kind: bytes = b"text/event-stream", *more: tuple[bytes, bytes]) -> None:
        self.backend.last.receiver.response_started(ResponseHead(status, b"OK", b"HTTP/1.1", [(b"Content-Type", kind), *more]))

    def body(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.backend.last.receiver.body_received(piece)

    def ended(self) -> None:
        self.backend.last.receiver.response_ended()

    def failed(self, failed: Failed) -> None:
        self.backend.last.receiver.dispatch_failed(failed)


class Stage(_Scene):
    """An exchange with everything around it."""

    def __init__(
        self,
        route: model.Route | None = None,
        upstream: model.Upstream | None = None,
        *,
        ready: bool = True,
        streaming: bool = True,
        dialect: str = "openai-chat",
        method: bytes = b"POST",
        body: bytes = b'{"stream":true}',
        clock: Clock | None = None,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.owner = FakeOwner(self.clock)
        self.backend = FakeBackend(ready=ready)
        if upstream is not None:
            self.backend.config = upstream
        self.route = BoundRoute.bind(route or model.Route(name="llama"), cast(Backend, self.backend), "test", TrustedProxies())
        self.downstream = RecordingDownstream(self.clock)
        self.request = a_request(self.clock, method=method, body=body)
        self.conductor = Forwarder(
            self.owner,
            self.route,
            self.request,
            self.downstream,
            DIALECTS[dialect],
            streaming=streaming,
            commits=streaming,
            interval=self.route.policy.interval,
            members={"model": b'"tiny"'},
            show_text=True,
            request_id=b"r",
        )

    def begin(self) -> Stage:
        self.conductor.begin()
        return self

    @property
    def outcome(self) -> str:
        (done,) = self.owner.ended
        return done.outcome


class FakeWatcher:
    """Whose a run is."""

    def __init__(self) -> None:
        self.complete: list[bytes] = []
        """What was recorded of the runs that ended well."""
        self.over = 0

    def run_complete(self, run: Run) -> None:
        self.complete.append(run.recording.joined()[0])
        run.let_go()

    def run_over(self, run: Run) -> None:
        self.over += 1


class Seat:
    """One reader, with its own client and owner."""

    def __init__(
        self,
        clock: Clock,
        route: BoundRoute,
        source: Source,
        *,
        asked: bool = False,
        streaming: bool = True,
        commits: bool = False,
        pads: bool = False,
        dialect: str = "openai-chat",
        body: bytes = b'{"stream":true}',
    ) -> None:
        assert route.for_readers is not None
        self.owner = FakeOwner(clock)
        self.downstream = RecordingDownstream(clock)
        self.reader = Reader(
            self.owner,
            route.for_readers,
            a_request(clock, body=body),
            self.downstream,
            DIALECTS[dialect],
            streaming=streaming,
            commits=commits,
            pads=pads,
            interval=route.policy.interval,
            members={"model": b'"tiny"'},
            show_text=False,
            request_id=b"r",
            source=source,
            asked=asked,
        )
        self.reader.cache = "miss" if asked else "coalesced"

    def begin(self) -> Seat:
        self.reader.begin()
        return self

    @property
    def outcome(self) -> str:
        (done,) = self.owner.ended
        return done.outcome

    @property
    def code(self) -> str:
        (done,) = self.owner.ended
        return done.code


class Hall(_Scene):
    """A run and everything around it; those who read it are seated one by one."""

    def __init__(
        self,
        route: model.Route | None = None,
        upstream: model.Upstream | None = None,
        *,
        ready: bool = True,
        limit: int = 1 << 20,
        space: int = 1 << 26,
        dialect: str = "openai-chat",
        fallback: bool = False,
        clock: Clock | None = None,
        watcher: RunWatcher | None = None,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.owner = FakeOwner(self.clock)
        self.backend = FakeBackend(ready=ready)
        self.fallback = FakeBackend()
        if upstream is not None:
            self.backend.config = upstream
        self.route = bound(route or model.Route(name="llama"), self.backend, self.fallback if fallback else None)
        self.watcher = FakeWatcher()
        self.quota = Quota(space)
        self.dialect = dialect
        self.run = Run(
            self.owner,
            watcher or self.watcher,
            self.route,
            a_request(self.clock),
            DIALECTS[dialect],
            streaming=True,
            members={"model": b'"tiny"'},
            request_id=b"r",
            limit=limit,
            space=self.quota,
        )

    def seat(self, *, asked: bool = False, **traits: Any) -> Seat:
        """One more reader, who begins at once. For the one who has *asked* the run does so too."""
        if asked:
            self.run.begin()
        return Seat(self.clock, self.route, self.run, asked=asked, dialect=self.dialect, **traits).begin()
