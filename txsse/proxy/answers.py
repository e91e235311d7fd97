"""The heads and bodies of what the proxy answers on its own account, and what it adds to a relayed head."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from txsse.dialects import Dialect, detect
from txsse.errors import ProxyError
from txsse.interfaces import Downstream
from txsse.proxy.cors import cors_headers
from txsse.proxy.fixed import BODILESS, Answer
from txsse.proxy.forwarded import response_headers
from txsse.proxy.routes import BoundRoute
from txsse.recordings.heads import objection
from txsse.wire.headers import Headers, Prepared, get, without
from txsse.wire.http1 import RequestHead, ResponseHead, decoded_path

RETRY_AFTER: Final = 5
"""Seconds a client is asked to wait where nothing better is known."""
LONGEST_RETRY_AFTER: Final = 60
"""The AI SDK ignores more; openai-python does not retry at all above 120."""


def reason_of(status: int) -> bytes:
    """The reason phrase of a status of ours."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def about(ident: bytes, cold_start_header: bytes = b"", cold: bool = False) -> Headers:
    """What every answer to an exchange tells of it."""
    identified = (b"X-Request-Id", ident)
    return [(cold_start_header, b"true" if cold else b"false"), identified] if cold_start_header else [identified]


class _Relayed:
    """What was made of an upstream's head, kept in its ``plan``.

    :ivar replaced: the fields of ours before which upstream's give way, lower-case.
    :ivar identified: it has a request id of its own.
    :ivar objection: why its answers are not stored, once that was asked.
    """

    __slots__ = ("fields", "identified", "objection", "replaced")

    def __init__(self, head: ResponseHead, replaced: bytes) -> None:
        theirs = response_headers(head)
        self.replaced = replaced
        self.fields = Prepared(without(theirs, (replaced,)))
        self.identified = get(theirs, b"x-request-id") is not None
        self.objection: str | None = None


def relayed(head: ResponseHead, ours: Headers, replaced: bytes) -> tuple[Prepared, Headers]:
    """Upstream's head as the client gets it, and what is left of *ours*: a request id of upstream's stays.

    :param ours: X-Request-Id last.
    :param replaced: the name of a field that upstream may not set, lower-case; empty for none.
    """
    plan = head.plan
    if not isinstance(plan, _Relayed) or plan.replaced != replaced:
        plan = head.plan = _Relayed(head, replaced)
    return plan.fields, ours[:-1] if plan.identified else ours


def objection_to(head: ResponseHead) -> str:
    """As :func:`txsse.recordings.heads.objection`, looked for once in all heads that are the same."""
    plan = head.plan
    if not isinstance(plan, _Relayed):
        return objection(head)
    if plan.objection is None:
        plan.objection = objection(head)
    return plan.objection


def committed(content_type: bytes, request: RequestHead, route: BoundRoute, ours: Headers) -> Headers:
    """The head of an answer that upstream has not begun yet."""
    return [
        (b"Content-Type", content_type),
        (b"Cache-Control", route.style.cache_control),
        (b"X-Accel-Buffering", b"no"),
        *ours,
        *cors_headers(request.headers, route.config.cors_origins),
    ]


def send_error(
    error: ProxyError,
    head: RequestHead | None,
    path: bytes,
    route: BoundRoute | None,
    ours: Headers,
    downstream: Downstream,
    *,
    dialect: Dialect | None = None,
    origins: Collection[str] = (),
) -> int:
    """Send *error* as an ordinary response in the dialect's shape; returns the size of its body.

    :param dialect: if it is known better than by the path.
    :param origins: whose scripts may read it, where there is no route that says so.
    """
    status = error.http_status
    where = decoded_path(path)
    if dialect is None:
        dialect = route.dialect(where) if route is not None else detect(where)
    body = dialect.error_body(error)
    headers: Headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
    if status in (429, 503):
        headers.append(_retry_after(error.retry_after))
    if status == 401:
        headers.append((b"WWW-Authenticate", b"Bearer"))
    if error.allow:
        headers.append((b"Allow", error.allow))
    headers += ours
    if head is not None:
        headers += cors_headers(head.headers, origins if route is None else route.config.cors_origins)
    has_body = head is None or head.method != b"HEAD"
    downstream.cork()
    downstream.start(status, reason_of(status), headers, has_body=has_body)
    if has_body:
        downstream.write(body)
    downstream.finish()
    return len(body) if has_body else 0


def send_answer(
    answer: Answer, head: RequestHead, route: BoundRoute, ours: Headers, downstream: Downstream, *, retry_after: float | None = None
) -> int:
    """Send *answer*; returns the size of its body.

    :param retry_after: in seconds, for one of status 429 or 503 that does not say so itself.
    """
    headers = [*answer.headers]
    if answer.status not in BODILESS:
        headers.append((b"Content-Length", b"%d" % len(answer.body)))
    if answer.status in (429, 503) and get(headers, b"retry-after") is None:
        headers.append(_retry_after(retry_after))
    headers += ours
    headers += cors_headers(head.headers, route.config.cors_origins)
    body = b"" if head.method == b"HEAD" or answer.status in BODILESS else answer.body
    downstream.cork()
    downstream.start(answer.status, reason_of(answer.status), headers, has_body=head.method != b"HEAD" and answer.status not in BODILESS)
    if body:
        downstream.write(body)
    downstream.finish()
    return len(body)


def _retry_after(seconds: float | None) -> tuple[bytes, bytes]:
    seconds = RETRY_AFTER if seconds is None else seconds
    return b"Retry-After", b"%d" % max(1, min(round(seconds), LONGEST_RETRY_AFTER))
