"""One stream of an upstream that any number of readers follow: asked for once, written down, told to each at its own pace.

A run is a conductor without a client. It holds, dispatches and is retried as any other, but what it relays goes into a recording and from
there to its readers, each of which is a conductor too (:mod:`txsse.proxy.reader`) for whom the run is the upstream.

A reader at the end of the recording is live: it is handed what comes as it comes, in the same call. One that does not read, or has come
later, is behind: it reads pages until it has caught up. The upstream waits only if nobody is live and much is still to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange.relay import Phase, StreamRelay
from txsse.exchange.table import State
from txsse.interfaces import Failed, Fault, Request
from txsse.proxy.audience import Audience
from txsse.proxy.forwarder import NOWHERE, Forwarder
from txsse.proxy.subscription import MOST_AT_ONCE, Follower, Subscription
from txsse.recordings.numbering import Ids
from txsse.recordings.recording import Recording, Space
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.dialects import Dialect
    from txsse.dialects.base import Members
    from txsse.proxy.conductor import Owner
    from txsse.proxy.routes import BoundRoute
    from txsse.proxy.stand_ins import Instead

_NOT_READY: Final = Failed(Fault.UNREACHABLE, "not ready")
_OURS: Final = (b"x-txsse-", b"x-stream-")
_COMPLETE: Final = (State.TRAILING, State.ENDED)


class RunWatcher(Protocol):
    """Whose run it is."""

    def run_complete(self, run: Run) -> None:
        """It has ended well; its readers hear of it after this returns."""

    def run_over(self, run: Run) -> None:
        """It has ended, in whatever way."""


class Run(Forwarder):
    """
    :param watcher: told of its end.
    :param limit: of its recording, in bytes; *space*: where that takes its memory from.
    :ivar recording: what upstream has said so far.
    :ivar audience: who reads it live.
    :ivar head: upstream's, once it has come.
    :ivar streamed: it is a stream of events (or lines), relayed between them; else the recording holds bytes as they came.
    :ivar whole: upstream has ended it, and well. (What says that it is complete may be broken off after that, or go on.)
    :ivar over: nothing more comes; then *error* is why, or ``None``: it ended well.
    """

    __slots__ = (
        "_charged",
        "_corked_for",
        "_subscriptions",
        "_waiting",
        "_watcher",
        "audience",
        "error",
        "followers",
        "head",
        "over",
        "recording",
        "streamed",
        "told",
        "whole",
    )

    records = True
    resumable: ClassVar[bool] = False
    most_at_once: ClassVar[int] = MOST_AT_ONCE

    def __init__(
        self,
        owner: Owner,
        watcher: RunWatcher,
        route: BoundRoute,
        request: Request,
        dialect: Dialect,
        *,
        streaming: bool,
        members: Members,
        request_id: bytes,
        limit: int,
        space: Space,
    ) -> None:
        assert route.for_runs is not None
        copy = Request(
            request.head, request.body, request.peer, request.secure, request.host, request.path, request.began, request.received
        )
        super().__init__(
            owner,
            route.for_runs,
            copy,
            NOWHERE,
            dialect,
            streaming=streaming,
            commits=False,
            interval=route.policy.interval,
            members=members,
            show_text=False,
            request_id=request_id,
        )
        self.recording = Recording(limit, space)
        self.head: ResponseHead | None = None
        self.streamed = False
        self.over = False
        self.error: ProxyError | None = None
        self.told: tuple[Usage | None, str] = (None, "")
        self.followers: set[Follower] = set()
        self.whole = False
        self._charged = False
        self._watcher = watcher
        self._waiting: set[Follower] = set()
        self._subscriptions: set[Subscription] = set()
        self.audience = Audience()
        self._corked_for: tuple[Follower, ...] = ()

    # -- for readers (Source)

    @property
    def joinable(self) -> bool:
        """Whoever comes now can have all of it."""
        return not self.recording.torn and self.error is None

    def join(self, follower: Follower) -> None:
        self.followers.add(follower)

    def leave(self, follower: Follower) -> None:
        """It reads no more. With the last one the run ends, unless it has said its last word: that is worth keeping. Idempotent."""
        if follower not in self.followers:
            return
        self.followers.discard(follower)
        self._waiting.discard(follower)
        if not self.followers and self._machine is not None and self._machine.state not in _COMPLETE:
            self._abandoned()

    def _abandoned(self) -> None:
        self.client_gone()

    def wait(self, follower: Follower) -> None:
        """Be told when the request is sent upstream."""
        if self.error is not None:
            follower.given_up(self.error)
        elif self.held:
            self._waiting.add(follower)
        else:
            follower.go_on(cold=self.cold)

    def stop_waiting(self, follower: Follower) -> None:
        self._waiting.discard(follower)

    def subscribe(self, follower: Follower) -> Subscription:
        """Have the head and everything after it told to *follower*. It must not be called back before this has returned."""
        subscription = Subscription(self, follower)
        self._subscriptions.add(subscription)
        return subscription

    def usage(self) -> tuple[Usage | None, str]:
        return self.told if self.over else super().usage()  # who leaves after the last word was told of its tokens

    def charge(self) -> bool:
        """Upstream worked once, however many read it and whoever of them has left."""
        charged, self._charged = self._charged, True
        return not charged

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        return b""

    def let_go(self) -> None:
        """What was recorded is kept elsewhere: if nobody is behind, its memory is free."""
        if len(self.audience.live) == len(self._subscriptions):
            self.recording.close()

    # -- for subscriptions

    def went_live(self, subscription: Subscription) -> None:
        self.audience.set((*self.audience.live, subscription))
        self._mind_the_gap()

    def fell_behind(self, subscription: Subscription) -> None:
        self.audience.remove(subscription)
        self._mind_the_gap()

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        if subscription.live:
            self.audience.remove(subscription)
        if self.over and not self._subscriptions:
            self._unread()
        self._mind_the_gap()

    def _mind_the_gap(self) -> None:
        """With nobody live upstream has to wait, once there is enough for those who are behind."""
        if self.over or self._machine is None:
            return
        enough = not self.audience.live and bool(self._subscriptions) and self.recording.half_full
        if enough and not self.paused:
            self.client_paused()
        elif self.paused and not enough:
            self.client_resumed()

    # -- what a conductor does, for many

    def cork(self) -> None:
        super().cork()
        self._corked_for = tuple(each.follower for each in self._subscriptions)
        for follower in self._corked_for:
            follower.cork()

    def uncork(self) -> None:
        corked, self._corked_for = self._corked_for, ()
        for follower in corked:
            follower.uncork()
        super().uncork()

    def response_ended(self) -> None:
        self.whole = True
        super().response_ended()

    def _relayed(self, data: bytes, now: float) -> None:
        recording, live = self.recording, self.audience.live
        if live and not recording.torn:
            recording.append(data, now)
        elif recording.torn and len(live) == len(self._subscriptions):
            recording.pass_by()
        else:
            recording.append(data, now, needed=not live and bool(self._subscriptions))
        self.audience.tell(data, now, self._relay)
        if not live:
            self._mind_the_gap()

    def turned(self, phase: Phase) -> None:
        if phase is Phase.TERMINAL:
            self.audience.take_back()
        super().turned(phase)

    def _instead_of_waiting(self) -> Instead | None:
        """What is sent in place of a wait, as long as everybody who follows can still be sent it."""
        unsent = bool(self.followers) and not any(follower.answered for follower in self.followers)
        return super()._instead_of_waiting() if unsent else None

    def _await_ready(self, action: act.AwaitReady) -> None:
        super()._await_ready(action)
        for subscription in list(self._subscriptions):  # sent, and come back
            subscription.failed(_NOT_READY)

    def _send_upstream(self, action: act.Dispatch) -> None:
        super()._send_upstream(action)
        waiting, self._waiting = self._waiting, set()
        for follower in waiting:
            follower.go_on(cold=self.cold)

    def _relay_head(self, action: act.RelayHead) -> None:
        head = action.head
        if any(name.lower().startswith(_OURS) for name, _ in head.headers):  # of a proxy like this one behind us
            head = ResponseHead(
                head.status, head.reason, head.version, [each for each in head.headers if not each[0].lower().startswith(_OURS)]
            )
        self.head = head
        self._forget_body()
        for subscription in list(self._subscriptions):
            subscription.begin()

    def _open_relay(self, action: act.OpenRelay) -> None:
        super()._open_relay(action)
        self.streamed = isinstance(action.relay, StreamRelay)

    def _refuse(self, action: act.Refuse) -> None:
        self._end(action.error)

    def _finish(self, action: act.Finish) -> None:
        self._end(None)

    def _end(self, error: ProxyError | None) -> None:
        self.over, self.error = True, error
        if error is None:
            self.told = super().usage()
            self._watcher.run_complete(self)
        else:
            waiting, self._waiting = self._waiting, set()
            for follower in waiting:
                follower.given_up(error)
        for subscription in list(self._subscriptions):
            subscription.over()

    def _done(self, done: act.Done) -> None:
        self._put_away()
        if not self.over:  # nobody reads it any more, or a bug of ours
            self._end(self._reason())
        if not self._subscriptions:
            self._unread()
        self._watcher.run_over(self)

    def _reason(self) -> ProxyError:
        return ProxyError("cancelled", "The stream was ended before it was complete.")

    def _unread(self) -> None:
        """It is over, and everybody who followed has all of it."""
        self.recording.close()
