"""A reader's place in a run: whoever keeps up is handed what comes, and whoever is behind reads what was written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from txsse.errors import ProxyError
from txsse.interfaces import Failed, Receiver
from txsse.wire.headers import without
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.proxy.audience import Audience
    from txsse.recordings.numbering import Ids

MOST_AT_ONCE: Final = 64 * 1024
"""Bytes that a reader who is behind is handed at a time."""

LITTLE_AT_ONCE: Final = 8 * 1024
"""The same where what is read is kept for others anyway: what a slow client has not taken is there twice."""

_LEADERS_OWN: Final = (b"set-cookie", b"x-request-id")


class Follower(Receiver, Protocol):
    """Who reads a run: what an upstream tells of a dispatch, and what becomes of the wait before it."""

    asked: bool
    """The run was made for it."""
    after: int
    """The number of the piece after which it goes on, where it may choose."""
    numbers: Ids
    """Which events it wants with ids of ours."""

    @property
    def joined(self) -> bool:
        """It has asked the same while the run was under way: any number may."""

    @property
    def answered(self) -> bool:
        """It has sent its client a head."""

    @property
    def in_step(self) -> bool:
        """It would let whole events through as they are, and find nothing in them but the one that ends the stream."""

    def lend(self, audience: Audience) -> Callable[[bytes], None]:
        """While it is :attr:`in_step`: how *audience* writes to its client. It is told afterwards, or when it asks, what went there."""

    def passed(self, count: int, now: float) -> None:
        """So many bytes of whole events, none of which ends the stream, went to its client, the last of them at *now*."""

    def broke(self) -> None:
        """There is a bug where its client is written to."""

    def go_on(self, *, cold: bool) -> None:
        """The run has been sent upstream."""

    def given_up(self, error: ProxyError) -> None:
        """The run has failed; nothing follows."""


class Readable(Protocol):
    """What was written down, by numbers (:class:`~txsse.recordings.recording.Recording`)."""

    @property
    def last(self) -> int: ...

    def read(self, after: int, most: int) -> tuple[bytes, int]: ...


class Followed(Protocol):
    """What is read: a run, or a stored answer that is told as one (:class:`~txsse.proxy.run.Run` says more)."""

    @property
    def head(self) -> ResponseHead | None: ...

    @property
    def over(self) -> bool: ...

    @property
    def error(self) -> ProxyError | None: ...

    @property
    def recording(self) -> Readable: ...

    def went_live(self, subscription: Subscription) -> None:
        """It has been handed all there is: it is handed what comes."""

    def fell_behind(self, subscription: Subscription) -> None:
        """It does not read."""

    def unsubscribe(self, subscription: Subscription) -> None:
        """It reads no more."""


class Subscription:
    """One reader's place in a run: the :class:`~txsse.interfaces.Dispatch` that its conductor has."""

    __slots__ = ("_after", "_begun", "_paused", "_pulling", "_run", "follower", "live", "numbers")

    def __init__(self, run: Followed, follower: Follower) -> None:
        self._run: Followed | None = run
        self.follower = follower
        self.live = False
        self.numbers = follower.numbers
        self._after = 0  # the last piece it was handed; while it is live, all
        self._begun = False
        self._paused = False
        self._pulling = False

    def start(self) -> None:
        """Tell what there is to tell already."""
        run = self._run
        if run is None:
            return
        if run.head is not None:
            self.follower.cork()
            self.begin()
            self.follower.uncork()
        elif run.over:
            self.over()

    def begin(self) -> None:
        """The run has a head."""
        run = self._run
        if run is not None and not self._begun:
            assert run.head is not None
            self._begun = True
            self.follower.response_started(_head_for(self.follower, run.head))
            self._pull()

    def over(self) -> None:
        """The run has ended."""
        if self._begun and not self.live:
            self._pull()
        else:
            self._tell_end()

    def failed(self, failed: Failed) -> None:
        """It was for nothing."""
        if not self._begun:
            self._let_go()
            self.follower.dispatch_failed(failed)

    def _pull(self) -> None:
        """Hand over what there is, as long as it is taken."""
        if self._pulling:
            return
        self._pulling = True
        try:
            while (run := self._run) is not None and not self._paused and not self.live:
                try:
                    data, last = self._read(run)
                except LookupError:
                    self._miss(run)
                    continue
                if data:
                    self._after = last
                    self.follower.body_received(data)
                elif run.over:
                    self._tell_end()
                else:
                    self.live = True
                    run.went_live(self)
        finally:
            self._pulling = False

    def _read(self, run: Followed) -> tuple[bytes, int]:
        """What is to be handed over next, and the number of its last piece."""
        return run.recording.read(self._after, MOST_AT_ONCE)

    def _miss(self, run: Followed) -> None:
        """What comes next is gone."""
        self._let_go()
        self.follower.given_up(ProxyError("replay_truncated", "This stream was read too slowly: part of it is gone."))

    def _tell_end(self) -> None:
        run = self._run
        if run is None:
            return
        self._let_go()
        if run.error is not None:
            self.follower.given_up(run.error)
        else:
            self.follower.response_ended()

    def _let_go(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.unsubscribe(self)
            self.live = False

    # -- Dispatch

    def abort(self) -> None:
        self._let_go()

    def pause(self) -> None:
        self._paused = True
        if self.live and self._run is not None:
            self.live = False
            self._after = self._run.recording.last
            self._run.fell_behind(self)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._begun:
                self._pull()


def _head_for(follower: Follower, head: ResponseHead) -> ResponseHead:
    """Upstream's head as *follower* may have it: what is between upstream and the one who asked first is not for the others."""
    if follower.asked:
        return head
    return ResponseHead(head.status, head.reason, head.version, without(head.headers, _LEADERS_OWN))
