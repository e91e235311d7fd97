"""The head of an answer: whether it may be stored at all, and what of it is told again."""

from __future__ import annotations

from typing import Final

from txsse.recordings.directives import parse
from txsse.wire.headers import Headers, get, tokens
from txsse.wire.http1 import ResponseHead

REASONS: Final = ("status", "encoded", "no_store", "vary")
"""What :func:`objection` may answer."""

# Everything else was meant for the one who asked.
_TOLD_AGAIN: Final = frozenset(
    (
        b"access-control-allow-credentials",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"cache-control",
        b"content-language",
        b"content-type",
        b"x-accel-buffering",
    )
)
# What an answer may depend on: it is in the key, or the proxy decides it.
_IN_KEY: Final = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"access-control-request-headers",
        b"access-control-request-method",
        b"api-key",
        b"authorization",
        b"cookie",
        b"origin",
        b"x-api-key",
    )
)


def objection(head: ResponseHead) -> str:
    """Why an answer with this *head* is not stored, in a word; "" if it may be.

    A stream says ``Cache-Control: no-cache`` nearly always, which is meant for caches that cannot tell it again as a stream; only
    ``no-store`` and ``private`` (RFC 9111 section 5.2.2) are taken for a refusal.
    """
    if head.status != 200:
        return "status"
    coding = get(head.headers, b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"", b"identity"):
        return "encoded"
    control = parse(head.headers)
    if control.no_store or control.private:
        return "no_store"
    if any(name not in _IN_KEY for name in tokens(head.headers, b"vary")):
        return "vary"
    return ""


def told_again(headers: Headers) -> Headers:
    """What of upstream's *headers* goes with a stored answer."""
    return [(name, value) for name, value in headers if name.lower() in _TOLD_AGAIN]
