"""Requests that go on with a stream instead of asking for a new one, and what the makers of streams are told about coming back."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from txsse.dialects import Dialect
from txsse.errors import ProxyError
from txsse.interfaces import Request
from txsse.proxy.lasting import Lasting
from txsse.proxy.streams import Claim, Streams, new_sid, not_found, nothing_kept
from txsse.recordings.canonical import Uncacheable
from txsse.recordings.cursor import BadCursor, Cursor, is_mangled, is_sid, ours, parameters, parse_cursor
from txsse.recordings.key import scope_of
from txsse.recordings.numbering import Ids
from txsse.wire.headers import Headers, get, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

PATH: Final = b"/-/streams/"
EXPOSED: Final = b"X-Txsse-Stream, X-Stream-State, X-Stream-First, X-Stream-Last, X-Stream-Gap, Location"
ANONYMOUS: Final = bytes(32)
"""The scope of those who show no credential: whoever knows the id may read."""

LONGEST_KEY: Final = 256
"""Bytes of an ``Idempotency-Key`` that are remembered as they are; of a longer one a hash is."""

_UNKNOWN_ID: Final = "The cursor is not the id of an event of this stream: send the last one that came, or none for all of it."
_NO: Final = frozenset((b"", b"0", b"off", b"false", b"no"))
_ASYNC: Final = re.compile(rb"respond-async(?:\s*;.*)?")


def scope_or_anonymous(fields: Headers, setting: str, query_key: bytes) -> bytes:
    """Whom a stream belongs to."""
    try:
        return scope_of(fields, setting, query_key)
    except Uncacheable:
        return ANONYMOUS


def wants_ids(mode: str, request: Request, dialect: Dialect) -> Ids:
    """Which ids of ours would this client use?"""
    if dialect.by_lines:
        return Ids.NONE
    if mode != "auto":
        return Ids.EACH if mode == "always" else Ids.NONE
    headers = request.head.headers
    asked = get(headers, b"x-txsse-resume")
    if asked is not None:
        return Ids.NONE if asked.strip().lower() in _NO else Ids.EACH
    if request.path.startswith(PATH) or ours(headers) is not None:
        return Ids.EACH
    # Who knows nothing of us comes back to the same URL: with an id of upstream's it is for upstream to say what follows that.
    return Ids.UNLESS_OWN if request.head.method == b"GET" else Ids.NONE


def responds_async(headers: Headers) -> bool:
    """Prefer (RFC 7240) asks not to be kept waiting."""
    return any(_ASYNC.fullmatch(preference) for preference in tokens(headers, b"prefer"))


def claim_of(route: str, scope: bytes, headers: Headers) -> Claim | None:
    """What an ``Idempotency-Key`` lays claim to."""
    key = (get(headers, b"idempotency-key") or b"").strip()
    return Claim(route, scope, body_hash(key) if len(key) > LONGEST_KEY else key) if key else None


def body_hash(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32).digest()


def id_notes(sid: str) -> Headers:
    """What every response about a stream tells of it."""
    name = sid.encode("ascii")
    return [(b"X-Txsse-Stream", name), (b"Location", PATH + name), (b"Access-Control-Expose-Headers", EXPOSED)]


def stream_notes(run: Lasting) -> Headers:
    return id_notes(run.sid)


def state_of(run: Lasting) -> str:
    if not run.over:
        return "live"
    return "error" if run.error is not None or (run.head is not None and run.head.status >= 400) else "done"


def summary(run: Lasting) -> dict[str, Any]:
    """A stream's state as JSON. Its id is in it: this is for its owner."""
    recording = run.recording
    state = "waiting" if not run.over and run.head is None else state_of(run)
    found: dict[str, Any] = {
        "id": run.sid,
        "state": state,
        "created": run.created,
        "first": recording.first,
        "last": run.last,
        "bytes": recording.size,
        "readers": len(run.followers),
    }
    if run.head is not None:
        found["status"] = run.head.status
    if run.error is not None:
        found["error"] = {"code": run.error.code, "message": run.error.message}
    elif run.head is not None and state == "error":
        found["error"] = {"code": "upstream_error", "message": f"The upstream answered with status {run.head.status}."}
    usage, model = run.told
    if usage is not None:
        found["usage"] = {"prompt": usage.prompt, "completion": usage.completion}
    return found | ({"model": model} if model else {})


def place_notes(run: Lasting, gap: int) -> Headers:
    """Where in it the reader is."""
    notes = [
        (b"X-Stream-State", state_of(run).encode()),
        (b"X-Stream-First", b"%d" % run.recording.first),
        (b"X-Stream-Last", b"%d" % run.last),
    ]
    return [*notes, (b"X-Stream-Gap", b"%d" % gap)] if gap else notes


def named_in(path: bytes) -> str:
    """What stands where the id of a stream stands, in any path below :data:`PATH`."""
    return path[len(PATH) :].partition(b"?")[0].partition(b"/")[0].decode("latin-1")


def split_path(path: bytes) -> tuple[str, dict[bytes, bytes]]:
    """The id and the parameters of a request for a stream.

    :raises ProxyError: this is no id.
    """
    target, _, query = path.partition(b"?")
    sid = target.removeprefix(PATH)
    if not is_sid(sid):
        raise not_found()
    return sid.decode("ascii"), parameters(query)


class Resumption:
    """Of one proxy.

    :param count: one more of ``txsse_resumes_total``.
    :param node: what ids of streams begin with, where there are several proxies.
    """

    def __init__(self, streams: Streams, count: Callable[[str], None], node: str = "") -> None:
        self.streams = streams
        self._count = count
        self._node = node

    def new_sid(self) -> str:
        return new_sid(self._node)

    def find(self, sid: str, scopes: Callable[[str], bytes]) -> Lasting:
        """The stream of this id, for whoever made it.

        :param scopes: whom the request comes from, in terms of ``cache.scope``.
        :raises ProxyError: there is none for this caller, or it is gone.
        """
        return self.streams.find(sid, scopes(self.streams.setting(sid)))

    def earlier(
        self, request: Request, claim: Claim | None, scopes: Callable[[str], bytes], *, anew: bool = False
    ) -> tuple[Lasting, Cursor] | None:
        """The stream that a request means which looks like a new one.

        A GET that names one that nobody knows is a new one after all: a browser's EventSource would never come back if it were refused,
        and it may be an id of another proxy's behind us.

        :param anew: that has been found out already.
        :raises ProxyError: it means one that is not there any more, or says in no way that can be understood where in it: it is never
            asked anew.
        """
        named = None if anew else ours(request.head.headers)
        if named is not None:
            sid, after = named
            try:
                return self.find(sid.decode("ascii"), scopes), Cursor(after)
            except ProxyError as error:
                if request.head.method != b"GET" or error.code != "stream_not_found":
                    raise
        if is_mangled(request.head.headers):
            raise self._bad_cursor(_UNKNOWN_ID)
        if claim is None:
            return None
        run = self.streams.claimed(claim, body_hash(request.body))
        return None if run is None else (run, Cursor())

    def cursor(self, sid: str, headers: Headers, query: dict[bytes, bytes]) -> Cursor:
        """Where a reader of stream *sid* wants to begin.

        :raises ProxyError: it says so in words that mean nothing.
        """
        try:
            return parse_cursor(sid.encode("ascii"), headers, query)
        except BadCursor as bad:
            raise self._bad_cursor(str(bad)) from None

    def _bad_cursor(self, text: str) -> ProxyError:
        self._count("bad_cursor")
        return ProxyError("bad_cursor", text)

    def place(self, run: Lasting, cursor: Cursor) -> tuple[int, int] | None:
        """After which event a reader goes on, and how many are missing before that; ``None``: it has all, and the stream is over.

        :raises ProxyError: it cannot.
        """
        recording = run.recording
        if not run.kept:
            self._count("gone")
            raise ProxyError("stream_gone", "An event of this stream is too long to be kept. Send the request anew, without a cursor.")
        after = run.place_of(cursor)
        if after is None and recording.first > 1 and run.has_own_ids:
            self._count("gap")
            raise ProxyError("stream_gone", "The event that the cursor names is not kept, if it ever was. Send the request anew.")
        if after is None:
            raise self._bad_cursor(_UNKNOWN_ID)
        if run.is_all(after):
            self._count("complete")
            return None
        gap = max(recording.first - 1 - after, 0)
        if run.is_all(after + gap):
            self._count("gone")
            raise nothing_kept(gap)
        if sum(not each.joined for each in run.followers) >= run.resume.max_readers:
            self._count("too_many")
            raise ProxyError("too_many_readers", f"This stream has {run.resume.max_readers} readers already. Try again later.")
        if gap and (run.resume.on_gap == "error" or not run.streamed):
            self._count("gap")
            raise ProxyError(
                "stream_gone", f"{gap} events after the cursor are not kept any more; the first that is has number {recording.first}."
            )
        self._count("gap" if gap else "resumed")
        return after + gap, gap
