"""A stream of another process that readers of this one follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.redis import scripts
from txsse.redis.connection import Reply
from txsse.redis.cursor import Cursor, End, Gap, Read, Tell
from txsse.redis.errors import RedisError
from txsse.redis.records import GONE, OWNER_LOST, Batch, Head, Snapshot, Terminal, read_state

if TYPE_CHECKING:
    from txsse.redis.link import RedisLink


MOST_SILENT: Final = 3
"""How often in a row nothing may have been learned of a stream when it is looked after, before its readers are told that it is lost."""


class Follower(Protocol):
    """Who reads a shared stream. It hears how the answer begins, each piece once and in order, and how the stream ended, last and once."""

    def began(self, head: Head | None) -> None:
        """The answer's head; ``None``: nobody has written it. Called once, before anything else; not at all if there was none, but an
        error."""

    def pieces(self, batch: Batch) -> None:
        """The next pieces. It may pause or stop from within; what follows is then not told."""

    def gap(self, count: int) -> None:
        """So many pieces that would be next are not kept any more."""

    def ended(self, terminal: Terminal) -> None:
        """There is nothing more. No other call follows."""


class Follow:
    """One reader's hold on a stream. Made by :meth:`txsse.redis.journal.Journal.follow`."""

    _log = Logger()

    def __init__(self, followed: Followed, after: int, follower: Follower) -> None:
        self.cursor = Cursor(after)
        self._followed = followed
        self._follower = follower
        self._begun = False
        self._stopped = False
        self._acting = False

    @property
    def after(self) -> int:
        """The number of the last piece it has heard of."""
        return self.cursor.after

    def pause(self) -> None:
        """Tell nothing more for now. Idempotent."""
        self.cursor.pause()

    def resume(self) -> None:
        """Go on; it may be told something before this returns. Idempotent."""
        self.cursor.resume()
        self.act()

    def stop(self) -> None:
        """Nothing is told any more. Idempotent."""
        if not self._stopped:
            self._stopped = True
            self._followed.leave(self)

    def act(self) -> None:
        """Do what the cursor says. A reader that fails is left out; the others share its connection."""
        if self._acting:  # called from within a call to the follower: the loop below goes on
            return
        self._acting = True
        try:
            self._act()
        except Exception:
            self._log.failure("a reader of a shared stream failed")
            self.stop()
        finally:
            self._acting = False

    def _act(self) -> None:
        if self._followed.begun and not self._begun and not self._stopped:
            self._begun = True
            self._follower.began(self._followed.head)
        while not self._stopped and (action := self.cursor.next()) is not None:
            match action:
                case Tell(batch):
                    self._follower.pieces(batch)
                case Gap(count):
                    self._follower.gap(count)
                case Read(after, count):
                    self._followed.read(self, after, count)
                case End(terminal):
                    self.stop()
                    self._follower.ended(terminal)


class Followed:
    """
    :param left: called when it has no reader any more.
    :ivar owner: the process that writes it; "" until it is known.
    :ivar begun: what there is to know of its *head* is known.
    :ivar final: there is nothing more to learn.
    """

    _log = Logger()

    def __init__(self, link: RedisLink, sid: str, left: Callable[[Followed], None]) -> None:
        self.sid = sid
        self.owner = ""
        self.begun = False
        self.head: Head | None = None
        self.final = False
        self._link = link
        self._rung = False  # since it was last looked after
        self._learned = False  # likewise
        self._silent = 0  # how often nothing had been learned
        self._left = left
        self._follows: dict[Follow, None] = {}

    def start(self) -> None:
        self._link.subscribe(scripts.bell(self.sid), self)

    def join(self, after: int, follower: Follower) -> Follow:
        """One more reader, told from after piece number *after* on."""
        follow = Follow(self, after, follower)
        self._follows[follow] = None
        return follow

    def leave(self, follow: Follow) -> None:
        self._follows.pop(follow, None)
        if not self._follows:
            self._link.unsubscribe(scripts.bell(self.sid))
            self._left(self)

    def forget(self) -> None:
        """Tell nobody anything any more."""
        for follow in list(self._follows):
            follow.stop()

    def look(self, follow: Follow) -> None:
        """Let this reader read what there is."""
        follow.cursor.look()
        follow.act()

    def look_after(self) -> None:
        """Once in a while: heal what was lost, and let nobody wait for what does not come."""
        self._silent = 0 if self._rung or self._learned else self._silent + 1
        if self._silent > MOST_SILENT:
            self.give_up(OWNER_LOST)
            return
        if not self._rung:
            self.poll()
        self._rung = self._learned = False
        self.retry()

    def retry(self) -> None:
        """What could not be read may be read now."""
        for follow in list(self._follows):
            follow.cursor.retry()
            follow.act()

    def subscribed(self) -> None:
        """Called by the link."""
        for follow in list(self._follows):
            self.look(follow)

    def heard(self, message: bytes) -> None:
        """Called by the link."""
        self._rung = True
        if not message:
            self.poll()
            return
        if not self.begun:
            self.subscribed()
            return
        try:
            batch = Batch.unpack(message)
        except ValueError:  # not ours; what is true is in the store
            self._log.warn("an unreadable message was left out")
            return
        for follow in list(self._follows):
            follow.cursor.heard(batch)
            follow.act()

    def poll(self) -> None:
        """See how far it is."""
        asking = self._link.run(scripts.READ, self._keys(), [2**53, 0])
        asking.addCallback(snapshot).addCallbacks(self._polled, self._not_polled)

    def read(self, follow: Follow, after: int, count: int) -> None:
        asking = self._link.run(scripts.READ, self._keys(), [after, count])
        asking.addCallback(snapshot).addCallbacks(self._read, self._not_read, (follow,), {}, (follow,))

    def give_up(self, terminal: Terminal) -> None:
        """There is nothing more to be had."""
        self.final = True
        for follow in list(self._follows):
            follow.cursor.give_up(terminal)
            follow.act()

    def _keys(self) -> list[str]:
        return [scripts.meta_key(self.sid), scripts.pieces_key(self.sid)]

    def _learn(self, found: Snapshot) -> None:
        self._learned = True
        self.owner = found.owner
        if not self.begun:
            ended_well = found.terminal is not None and not found.terminal.code
            self.head, self.begun = found.head, bool(found.head or found.last or ended_well)
        self.final = self.final or found.terminal is not None

    def _polled(self, found: Snapshot | None) -> None:
        if found is None:
            self.give_up(GONE)
            return
        self._learn(found)
        for follow in list(self._follows):
            follow.cursor.learned(found.last, found.terminal)
            follow.act()

    def _not_polled(self, failure: Failure) -> None:
        failure.trap(RedisError, ValueError)  # it is polled again

    def _read(self, found: Snapshot | None, follow: Follow) -> None:
        if found is None:
            follow.cursor.read_failed()
            self.give_up(GONE)
            return
        self._learn(found)
        follow.cursor.read(found)
        follow.act()

    def _not_read(self, failure: Failure, follow: Follow) -> None:
        failure.trap(RedisError, ValueError)
        follow.cursor.read_failed()
        follow.act()


def snapshot(reply: Reply) -> Snapshot | None:
    """What :data:`txsse.redis.scripts.READ` says.

    :raises ValueError: what is there is not ours.
    """
    if reply is None:
        return None
    owner, st, last, head, code, message, status, found = cast(tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, list[bytes]], reply)
    terminal, batches = read_state(st, code, message, status), [Batch.unpack(each) for each in found]
    return Snapshot(owner.decode("utf-8", "replace"), int(last), terminal, batches, Head.unpack(head) if head else None)
