"""Streams that several machines share through Redis: ours are written there as they run, and those of others are read from there.

Whoever reads a stream on the machine that asked for it does not notice: what goes wrong with Redis ends the sharing, not the stream.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from txsse.errors import ProxyError
from txsse.proxy.elsewhere import Elsewhere, Scopes, Search, Spot, error_of, is_own
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.streams import not_found
from txsse.redis.journal import Found, Journal
from txsse.redis.records import DONE, UNSHARED, Meta, Terminal
from txsse.wire.headers import Headers

if TYPE_CHECKING:
    from txsse.proxy.routes import BoundRoute
    from txsse.recordings.cursor import Cursor
    from txsse.redis.link import RedisLink
    from txsse.redis.outbox import Loss

_UNKNOWN_ID: Final = "The cursor is not the id of an event of this stream: send the last one that came, or none for all of it."


class Shared:
    """Of one proxy.

    :param routes: those it has now.
    :param count: one more of ``txsse_resumes_total``.
    """

    def __init__(self, journal: Journal, routes: Callable[[], Iterable[BoundRoute]], count: Callable[[str], None]) -> None:
        self.journal = journal
        self._routes = routes
        self._count = count
        self._readers: Counter[str] = Counter()  # here, of streams of other machines

    # -- ours

    def share(self, run: ResumableRun) -> None:
        """Write *run* to Redis from its first event on. It has no head yet: a stream is what it asks for."""
        content_type = run.dialect.content_type
        headers: Headers = [(b"Content-Type", content_type)]
        meta = Meta(run.home.name, run.dialect.name, run.scope, content_type, 200, headers, run.created, run.resume.ttl)
        run.sharing = Sharing(run, self.journal, meta)

    # -- theirs

    def open(self, sid: str) -> Deferred[Found | ProxyError | None]:
        """Look for another machine's stream; an error if nobody can say whether there is one."""
        return self.journal.open(sid).addErrback(lambda _: _unreachable())

    def cancel(self, sid: str) -> Deferred[object]:
        """Ask its machine to end it; fires when that was asked, or cannot be."""
        return self.journal.cancel(sid).addErrback(lambda _: None)

    def own(self, found: Found | ProxyError | None, scopes: Scopes) -> tuple[Found, BoundRoute]:
        """What :meth:`open` found, and the route here that it belongs to.

        :param scopes: whom the request comes from.
        :raises ProxyError: there is nothing for this caller.
        """
        if isinstance(found, ProxyError):
            raise found
        route = None if found is None else next((each for each in self._routes() if each.name == found.meta.route and each.resumes), None)
        if found is None or route is None or not hmac.compare_digest(found.meta.scope, scopes(route.config.cache.scope)):
            self._count("not_found")
            raise not_found()
        return found, route

    def place(self, sid: str, cursor: Cursor, scopes: Scopes) -> Generator[Deferred[Any], None, Spot | ProxyError]:
        """Where a reader goes on: steps that give way with what is to be waited for. An error: it cannot."""
        try:
            found, route = self.own((yield from _result(self.open(sid))), scopes)
        except ProxyError as error:
            return error
        after = found.last if cursor.live else cursor.after
        if cursor.foreign is not None:
            after = yield from _result(self._search(sid, found, cursor.foreign))
        try:
            return self._place(sid, found, route, after)
        except ProxyError as error:
            return error

    def _search(self, sid: str, found: Found, wanted: bytes) -> Deferred[int | None]:
        """The number of the event that upstream gave this id, among those that there are by now."""
        search = Search(wanted, found.last)
        if found.first > found.last:
            search.result.callback(None)
        else:
            search.follow = self.journal.follow(sid, found.first - 1, search)
        return search.result

    def _place(self, sid: str, found: Found, route: BoundRoute, after: int | None) -> Spot:
        """:raises ProxyError: it cannot."""
        terminal, resume = found.terminal, route.config.resume
        if after is None:
            self._count("gap" if found.first > 1 else "bad_cursor")
            raise ProxyError("stream_gone" if found.first > 1 else "bad_cursor", _UNKNOWN_ID)
        if terminal is not None and is_own(terminal) and after >= found.last + bool(terminal.code):  # the error is an event too
            self._count("complete")
            return Spot(sid, found, route, None)
        if terminal is not None and not is_own(terminal) and after >= found.last:
            # No event tells of this: its number could be that of another one, where the stream goes on.
            self._count("gone")
            raise error_of(terminal)
        if self._readers[sid] >= resume.max_readers:
            self._count("too_many")
            raise ProxyError("too_many_readers", f"This stream has {resume.max_readers} readers already. Try again later.")
        gap = max(found.first - 1 - after, 0)
        if gap and resume.on_gap == "error":
            self._count("gap")
            text = f"{gap} events after the cursor are not kept any more; the first that is has number {found.first}."
            raise ProxyError("stream_gone", text)
        self._count("gap" if gap else "resumed")
        return Spot(sid, found, route, after + gap, gap)

    def source(self, spot: Spot) -> Elsewhere:
        """What a reader there reads."""
        return Elsewhere(spot, self.journal, self._readers)


class Sharing:
    """One stream of ours, on its way to Redis (:class:`txsse.redis.shares.Owner`)."""

    def __init__(self, run: ResumableRun, journal: Journal, meta: Meta) -> None:
        self._run = run
        self._share = journal.create(run.sid, meta, self)

    def append(self, event: bytes) -> None:
        self._share.append(event)

    def drop(self) -> None:
        """The run goes on, but can be read here only."""
        self._share.finish(UNSHARED)

    def finish(self) -> None:
        """The run has ended."""
        error, head = self._run.error, self._run.head
        if error is not None:
            terminal = Terminal(error.code, error.message, error.http_status)
        elif head is not None and not self._run.streamed:
            terminal = Terminal("upstream_error", f"The upstream answered {head.status}, and no stream.", max(head.status, 400))
        else:
            terminal = DONE
        self._share.finish(terminal)

    def cancel_asked(self) -> None:
        self._run.cancel(ProxyError("cancelled", "The stream was ended by request."))

    def unshared(self, why: Loss) -> None:
        """Those who read it here do not notice."""

    def readers_changed(self, count: int) -> None:
        self._run.read_elsewhere(count)


def _unreachable() -> ProxyError:
    text = "The store that streams are shared through cannot be reached now. Try again in a moment."
    return ProxyError("upstream_unavailable", text, status=503)


def _result(waited: Deferred[Any]) -> Generator[Deferred[Any], None, Any]:
    results: list[Any] = []
    yield waited.addCallback(results.append)
    return results[0]


def open_shared(
    link: RedisLink, reactor: Any, node: str, routes: Callable[[], Iterable[BoundRoute]], count: Callable[[str], None]
) -> Shared:
    """What is shared through *link*, which has been started."""
    journal = Journal(link, reactor, node or "txsse")
    journal.start()
    return Shared(journal, routes, count)
