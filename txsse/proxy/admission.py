"""What a request says about itself before it is routed: whether it streams, for which model. Large bodies take some reactor turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.dialects import TEXT_MEMBERS, Dialect
from txsse.interfaces import Downstream, Exchange, Request
from txsse.wire.headers import Headers, tokens
from txsse.wire.peek import at_once, is_true, scan

T = TypeVar("T")
Members = dict[str, bytes]
"""The top-level members of a JSON body that matter to us, as raw JSON texts; ``None`` in its place: the body is no JSON object."""

PEEK_AT_ONCE: Final = 256 * 1024
"""Bytes of a body that are looked through in one go; larger ones give the reactor a turn in between."""

_WANTED: Final = TEXT_MEMBERS | {"stream", "model", "return_progress"}

_JSON_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"
_NEVER: Final = re.compile(rb"q=0(?:\.0{0,3})?")


def look(body: bytes) -> Generator[None, None, Members | None]:
    """Read the members that matter; yields between slices of a large body."""
    if not body:
        return {}
    return (yield from scan(body, _WANTED))


def look_at_once(body: bytes, *, whole: bool) -> Members | None:
    """:func:`look`, without a pause.

    :param whole: every member matters; else a body in which the word "stream" does not occur is not looked through.
    """
    if not whole and b"stream" not in body and b"\\u00" not in body:
        return {}
    return at_once(look(body))


def is_streaming(setting: str, request: Request, members: Members | None, dialect: Dialect, *, takes_events: bool) -> bool:
    """By the body, or by GET and Accept; never by Accept on a POST, for SDKs send application/json there with ``"stream": true``.

    :param setting: ``route.streaming``.
    :param takes_events: what :func:`takes_events` says of the head.
    """
    if request.head.method == b"HEAD":
        return False  # there is no body to keep alive, and the head is all that is asked for
    if setting != "auto":
        return setting == "always"
    if request.head.method == b"GET":
        return takes_events
    if members is None:
        return False
    told = members.get("stream", b"null")
    if told == b"null" and request.body:  # Ollama's decoder takes a null for a member that is not there
        return dialect.streams_unless_told
    return is_true(told)


def brings_json(request: Request) -> bool:
    """Does its body look like JSON? Then so will the answer, if it is no stream; most clients do not say so in Content-Type."""
    return request.body[:64].lstrip(_JSON_BLANKS).startswith((b"{", b"["))


def takes_events(headers: Headers) -> bool:
    """Does Accept name an event stream?"""
    return any(_is_events(member) for member in tokens(headers, b"accept"))


def _is_events(media_range: bytes) -> bool:
    """Is this member of Accept an event stream, and not with a weight of 0 (RFC 9110 section 12.4.2)?"""
    kind, *parameters = [part.strip() for part in media_range.split(b";")]
    return kind == b"text/event-stream" and not any(_NEVER.fullmatch(parameter) for parameter in parameters)


def wants_state(headers: Headers) -> bool:
    """Who takes JSON, and no events, asks how a stream stands."""
    kinds = {member.partition(b";")[0].strip() for member in tokens(headers, b"accept")}
    return b"application/json" in kinds and b"text/event-stream" not in kinds


class Nobody:
    """The exchange of a request that was answered at once."""

    def client_paused(self) -> None: ...

    def client_resumed(self) -> None: ...

    def client_gone(self) -> None: ...

    def client_stalled(self) -> None: ...


NOBODY: Final = Nobody()


class Admission(Generic[T]):
    """Stands for an exchange while something about its request is found out, a step a reactor turn.

    :param steps: gives way with ``None``, or with what is to be waited for (which must not fail).
    :param admit: called with what they return; gives the real exchange.
    :param over: called once, before *admit*, or with ``True`` if it does not come to that.
    """

    _log = Logger()

    def __init__(
        self,
        request: Request,
        downstream: Downstream,
        steps: Generator[Deferred[Any] | None, None, T],
        admit: Callable[[T], Exchange],
        over: Callable[[Admission[Any], bool], None],
    ) -> None:
        self.request = request
        self.downstream = downstream
        self._steps = steps
        self._admit = admit
        self._tell_over = over
        self._exchange: Exchange | None = None
        self._paused = False
        self._over = False

    def go(self, cooperator: Cooperator) -> None:
        cooperator.coiterate(self._go()).addErrback(self._broken_off)

    def _go(self) -> Generator[Deferred[Any] | None, None, None]:
        while not self._over:
            try:
                pause = next(self._steps)
            except StopIteration as end:
                self._end(abandoned=False)
                exchange = self._exchange = self._admit(end.value)
                if self._paused:  # before there was somebody to tell, or by the first that was written
                    exchange.client_paused()
                return
            yield pause
        self._steps.close()

    def _end(self, *, abandoned: bool) -> None:
        if not self._over:
            self._over = True
            self._tell_over(self, abandoned)

    def _broken_off(self, failure: Failure) -> None:
        """The proxy was closed meanwhile, or a bug of ours: then nothing may hang because of it."""
        if not failure.check(SchedulerStopped):
            self._log.failure("an admission broke", failure)
            self._end(abandoned=True)
            self.downstream.abort()

    def shut_down(self) -> None:
        """The drain is over: look no further. What to answer is the owner's business."""
        self._end(abandoned=False)

    def client_paused(self) -> None:
        self._paused = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def client_resumed(self) -> None:
        self._paused = False
        if self._exchange is not None:
            self._exchange.client_resumed()

    def client_gone(self) -> None:
        if self._exchange is not None:
            self._exchange.client_gone()
        else:
            self._end(abandoned=True)

    def client_stalled(self) -> None:
        if self._exchange is not None:
            self._exchange.client_stalled()
