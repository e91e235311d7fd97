"""What a request asks of a cache: the key of its answer, or why it is not to be looked up."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Protocol

from txsse.dialects import Dialect
from txsse.interfaces import Request
from txsse.proxy.routes import BoundRoute
from txsse.recordings.key import Digest, Uncacheable, digest, make_key, scope_of
from txsse.recordings.lookup import Question
from txsse.wire.headers import Headers, get

_OPT_IN: Final = b"x-txsse-cache"
_NO_BODY: Final = Digest(b"", None, None, False)
_NO: Final = frozenset((b"0", b"off", b"false", b"no", b""))
_CONDITIONAL: Final = frozenset((b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"))


class LeftOut(Exception):
    """It does not want to be looked up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Asking(Protocol):
    """A request that is to be looked up."""

    @property
    def request(self) -> Request: ...

    @property
    def route(self) -> BoundRoute: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def streaming(self) -> bool: ...

    @property
    def credentials(self) -> Headers:
        """The fields of its head as they came, keys of this proxy among them."""

    @property
    def query_key(self) -> bytes:
        """A key of this proxy that came in the query, or "" ."""

    @property
    def opaque(self) -> bool:
        """Its body is in a content coding."""


def question_of(asking: Asking, *, whole: bool) -> Generator[None, None, Question]:
    """What *asking* asks, made in steps between which the reactor may have its turn.

    :param whole: with what only somebody else's look-up wants: a long stream must not keep its prompt in memory for nobody.
    :raises LeftOut: it is not to be looked up.
    :raises Uncacheable: it cannot be.
    """
    request, route, cache = asking.request, asking.route, asking.route.config.cache
    fields = request.head.headers
    if request.head.method != b"POST":
        raise Uncacheable("method")
    if asking.opaque:
        raise Uncacheable("encoded")
    if any(name.lower() in _CONDITIONAL for name, _ in fields):
        raise LeftOut("conditional")
    wanted = _wanted(asking.credentials)
    if wanted is False or (cache.mode == "opt-in" and not wanted):
        raise LeftOut("not_asked_for")
    scope = scope_of(asking.credentials, cache.scope, asking.query_key)
    summary = yield from digest(request.body, frozenset(cache.ignore))
    if cache.mode == "deterministic" and not wanted and not summary.deterministic:
        raise Uncacheable("not_deterministic")
    return Question(
        key_of(asking, scope, summary),
        route.name,
        asking.dialect.name,
        request.head.decoded_path,
        request.body if whole else b"",
        asking.streaming,
        scope,
        summary,
        key_of(asking, scope, _NO_BODY) if whole else b"",
    )


def key_of(asking: Asking, scope: bytes, summary: Digest) -> bytes:
    """The key of its answer, told from others by whom it belongs to and by what is asked."""
    request, route = asking.request, asking.route
    upstream = route.backend.config
    host = (request.host,) if upstream.host == "preserve" else ()  # then it decides too
    return make_key(
        route=route.name,
        upstream=repr((upstream.name, upstream.all_urls, *host)).encode(),
        method=request.head.method,
        target=request.path,
        dialect=asking.dialect.name,
        headers=request.head.headers,
        scope=scope,
        digest=summary,
    )


def _wanted(fields: Headers) -> bool | None:
    """What the client says itself, if it does."""
    told = get(fields, _OPT_IN)
    return None if told is None else told.strip().lower() not in _NO
