"""What a front refuses by itself, before the proxy behind it is asked: methods, expectations, sizes, numbers."""

from __future__ import annotations

import re
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.interfaces import Handler
from txsse.wire.http1 import RequestHead

METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""The Allow field of a 405. Any other method a backend may know is passed on too."""

REFUSED_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))

_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,16} (/[!->@-~]{0,1023})[ ?]")


class Limits(Protocol):
    """The bounds of a front, by their names in ``[server]``; :class:`txsse.config.model.Server` has them all."""

    @property
    def max_connections(self) -> int: ...
    @property
    def max_head(self) -> int: ...
    @property
    def header_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def idle_timeout(self) -> float: ...
    @property
    def max_body(self) -> int: ...
    @property
    def max_buffered(self) -> int: ...


class Backing(Protocol):
    """What a front stands on: the proxy behind it and what all fronts of a process share. :class:`txsse.service.ProxyService` is one.

    ``limits`` may be another object after a reload.
    """

    @property
    def handler(self) -> Handler: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def clock(self) -> IReactorTime: ...
    @property
    def alarms(self) -> Alarms: ...


class Budget:
    """Bytes that all request bodies together may occupy.

    Bytes are taken as they arrive, not as they are announced: an announcement costs its sender nothing.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def fits(self, size: int) -> bool:
        return self.used + size <= self.limit

    def take(self, size: int) -> bool:
        """Take *size* bytes, if there are that many left."""
        if not self.fits(size):
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.used -= size


def refusal(head: RequestHead, length: int, limits: Limits, budget: Budget) -> ProxyError | None:
    """Why a request with this head is not let in, or ``None``.

    :param length: the body's, in bytes, as far as it is known.
    """
    if head.method in REFUSED_METHODS:
        message = f"The method {head.method.decode('ascii')} is not served here."
        return ProxyError("bad_request", message, status=405, close=True, allow=METHODS)
    if head.expects_unknown:
        return ProxyError("bad_request", "The only expectation served here is 100-continue.", status=417, close=True)
    if length > limits.max_body:
        return body_too_large(limits)
    if not budget.fits(length):
        return too_much_buffered()
    return None


def path_of(unread: bytes) -> bytes:
    """The path of a request whose head is refused unread, without its query (in which there may be a key); "" if it cannot be told."""
    line = _REQUEST_LINE.match(unread)
    return b"" if line is None else line[1]


def body_too_large(limits: Limits) -> ProxyError:
    return ProxyError("body_too_large", f"The request body is larger than {limits.max_body} bytes.", close=True)


def too_much_buffered() -> ProxyError:
    message = "Too many request bodies are being held at the moment. Try again in a second."
    return ProxyError("too_many_connections", message, retry_after=1, close=True)


def too_many_connections() -> ProxyError:
    message = "Too many clients are connected at the moment. Try again in a second."
    return ProxyError("too_many_connections", message, retry_after=1, close=True)


def head_too_large(limits: Limits) -> ProxyError:
    return ProxyError("head_too_large", f"The request's head is larger than {limits.max_head} bytes.", close=True)


def too_slow(part: str) -> ProxyError:
    return ProxyError("request_timeout", f"The request's {part} did not arrive in time.", close=True)


def malformed(reason: str) -> ProxyError:
    return ProxyError("bad_request", f"Malformed request: {reason}.", close=True)
