"""Streams that outlive their readers, whatever they are made of: what is told of them, and the places of those who read them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from txsse.errors import ProxyError
from txsse.proxy.subscription import LITTLE_AT_ONCE, MOST_AT_ONCE, Followed, Follower, Subscription
from txsse.recordings.numbering import Ids, number, own_id

if TYPE_CHECKING:
    from txsse.config.model import Resume
    from txsse.dialects import Dialect
    from txsse.dialects.usage import Usage
    from txsse.exchange.voice import HoldStatus
    from txsse.proxy.routes import BoundRoute
    from txsse.recordings.cursor import Cursor
    from txsse.recordings.recording import Recording
    from txsse.recordings.transcript import Transcript
    from txsse.wire.http1 import ResponseHead

RETRY: Final = (1000, 5000)
"""Milliseconds within which those come back whom a proxy that shuts down sends away: not all at once."""


class Lasting(ABC):
    """A stream whose events are numbered, which is kept for a while for those who come back.

    :ivar sid: its id.
    :ivar scope: hash of the credential that it belongs to.
    :ivar created: Unix time.
    :ivar kept: it can be come back to.

    The others as in :class:`~txsse.proxy.run.Run`.
    """

    __slots__ = ()

    resumable: ClassVar[bool] = True
    is_hit: ClassVar[bool] = False
    """It tells what is stored."""
    most_at_once: ClassVar[int] = LITTLE_AT_ONCE
    """Bytes that a reader who is behind is handed at a time."""

    background: bool = False
    """Who asked does not wait for it."""

    sid: str
    scope: bytes
    created: float
    kept: bool
    home: BoundRoute
    dialect: Dialect
    resume: Resume
    recording: Recording | Transcript
    head: ResponseHead | None
    streamed: bool
    over: bool
    error: ProxyError | None
    told: tuple[Usage | None, str]
    followers: set[Follower]

    # -- for readers (Source)

    @property
    @abstractmethod
    def held(self) -> bool: ...

    @abstractmethod
    def join(self, follower: Follower) -> None: ...

    @abstractmethod
    def leave(self, follower: Follower) -> None: ...

    @abstractmethod
    def wait(self, follower: Follower) -> None: ...

    @abstractmethod
    def stop_waiting(self, follower: Follower) -> None: ...

    @abstractmethod
    def subscribe(self, follower: Follower) -> Subscription: ...

    @abstractmethod
    def hold_status(self) -> HoldStatus: ...

    @abstractmethod
    def usage(self) -> tuple[Usage | None, str]: ...

    @abstractmethod
    def charge(self) -> bool: ...

    # -- for their places (Followed)

    @abstractmethod
    def went_live(self, subscription: Subscription) -> None: ...

    @abstractmethod
    def fell_behind(self, subscription: Subscription) -> None: ...

    @abstractmethod
    def unsubscribe(self, subscription: Subscription) -> None: ...

    # -- as a whole

    @property
    @abstractmethod
    def orphaned(self) -> bool:
        """It runs, and nobody reads it."""

    @property
    def is_read_elsewhere(self) -> bool:
        """It runs, and other machines have readers of it."""
        return False

    @property
    @abstractmethod
    def model(self) -> str:
        """Which one was asked; "" if that is not known."""

    @property
    @abstractmethod
    def has_own_ids(self) -> bool:
        """Upstream has given its events ids."""

    @property
    @abstractmethod
    def last_whole(self) -> int:
        """The number of the last event that a reader could name: it has an end."""

    @abstractmethod
    def cancel(self, error: ProxyError) -> None:
        """End it now, for everybody who reads it. Idempotent."""

    @abstractmethod
    def settle(self) -> bool:
        """It is over: take memory for what is kept of it besides its recording; ``False``: there is none."""

    def refresh(self) -> bool:
        """Bring it up to date; ``False``: it is over, and nothing is left of it."""
        return True

    def let_run(self) -> None:  # noqa: B027 - what runs by itself does so anyway
        """Who asked does not wait for it."""

    def closes(self) -> None:  # noqa: B027
        """This process ends: who reads is sent away, and that nobody reads is no reason to end it in any other way."""

    # -- what follows from that

    @property
    def last(self) -> int:
        """The number of the last event there is. An error that is told in the stream is one, too."""
        told = self.error is not None and (self.head is None or (self.streamed and not self.is_mute))
        return self.recording.last + told

    def is_all(self, after: int) -> bool:
        """Whoever has event number *after* has all that there will ever be; an error, in whatever way it is told, is to be heard, too."""
        return self.over and after >= (self.last_whole if self.error is None else self.recording.last + 1)

    @property
    def numbered(self) -> bool:
        """Its events may be given ids of ours."""
        return self.kept and self.streamed and not self.dialect.by_lines

    @property
    def fewest_ids(self) -> Ids:
        """What a reader has to want at least to be given any."""
        return Ids.EACH if self.has_own_ids else Ids.UNLESS_OWN

    @property
    def is_mute(self) -> bool:
        """No error can be told after upstream's head."""
        return not self.dialect.error_after_their_head and not self.home.policy.error_event

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        """The stream's error is its last event: who has it need not come back. Who has to, does so at a moment of its own."""
        if error is not None and error is self.error:
            return b"id: %b.%d\n" % (self.sid.encode("ascii"), self.recording.last + 1) if ids >= self.fewest_ids else b""
        return b"retry: %d\n" % random.randint(*RETRY)

    def place_of(self, cursor: Cursor) -> int | None:
        """The number of the event after which a reader with *cursor* goes on; ``None``: it is nobody's."""
        if not self.streamed and self.head is not None:
            return 0  # a document is told whole
        if cursor.live:
            return self.recording.last
        if cursor.foreign is None:
            return min(cursor.after, self.recording.last + 1)
        after = self.recording.first - 1
        while True:
            pieces = self.recording.pieces(after, MOST_AT_ONCE)
            if not pieces:
                return None
            for seq, event in enumerate(pieces, after + 1):
                if own_id(event) == cursor.foreign:
                    return seq
            after += len(pieces)


class Place(Subscription):
    """A reader's place in such a stream."""

    __slots__ = ()

    def __init__(self, run: Lasting, follower: Follower) -> None:
        super().__init__(run, follower)
        self._after = min(follower.after, run.recording.last) if follower.after else 0

    def begin(self) -> None:
        run = self._run
        if isinstance(run, Lasting) and run.error is not None and run.is_mute and self._after >= run.recording.last:
            self._tell_end()  # before there is a head: else the client would learn nothing, and come back again
        else:
            super().begin()

    def wake(self) -> None:
        """There is more, which it was not handed."""
        if self.live:
            self.live = False
            self._pull()

    def _read(self, run: Followed) -> tuple[bytes, int]:
        assert isinstance(run, Lasting)
        if not self.numbers or self.numbers < run.fewest_ids or not run.numbered:
            return run.recording.read(self._after, run.most_at_once)
        pieces = run.recording.pieces(self._after, run.most_at_once)
        data = number(run.sid.encode("ascii"), self._after + 1, pieces, own=run.has_own_ids) if pieces else b""
        return data, self._after + len(pieces)

    def _miss(self, run: Followed) -> None:
        assert isinstance(run, Lasting)
        first, last = run.recording.first, run.recording.last
        gap = first - 1 - self._after
        if not run.kept or not run.streamed or (run.over and first > last):
            super()._miss(run)
        elif run.resume.on_gap == "error" or run.dialect.by_lines:  # lines of JSON have no comments to tell of it
            self._let_go()
            text = f"This stream was read too slowly: {gap} events are gone. Read on from the first that is there, or ask anew."
            members = {"message": text, "skipped": gap, "first": f"{run.sid}.{first}"}
            self.follower.given_up(ProxyError("replay_truncated", text, members=members))
        else:
            self._after = first - 1
            self.follower.body_received(b': txsse {"gap":%d}\n' % gap)
