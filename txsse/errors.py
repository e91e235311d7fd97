"""Every failure the proxy can tell a client, by its code.

The table is section "errors" of the reference: a code has one status, one OpenAI type and one Anthropic type. Log lines
(``outcome`` / ``code``), metrics (``reason``, ``code``) and the bytes on the wire all use these names and no others.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

Outcome = Literal["ok", "client_closed", "rejected", "upstream_error", "timeout", "shutdown"]
"""How a request ended, in one word for log lines and metrics."""


@attrs.frozen
class Code:
    """One row of the error table: what a named failure looks like from outside."""

    name: str
    status: int
    openai_type: str
    anthropic_type: str


def _table(*rows: tuple[str, int, str, str]) -> dict[str, Code]:
    return {row[0]: Code(*row) for row in rows}


_INVALID = "invalid_request_error"

CODES: Final[dict[str, Code]] = _table(
    ("bad_request", 400, _INVALID, _INVALID),
    ("request_timeout", 408, _INVALID, _INVALID),
    ("head_too_large", 431, _INVALID, "request_too_large"),
    ("body_too_large", 413, _INVALID, "request_too_large"),
    ("too_many_connections", 503, "server_error", "overloaded_error"),
    ("invalid_api_key", 401, _INVALID, "authentication_error"),
    ("no_route", 404, _INVALID, "not_found_error"),
    ("too_many_waiting", 429, "rate_limit_error", "rate_limit_error"),
    ("readiness_timeout", 503, "server_error", "overloaded_error"),
    ("queue_timeout", 503, "server_error", "overloaded_error"),
    ("wake_failed", 503, "server_error", "api_error"),
    ("upstream_unavailable", 502, "server_error", "api_error"),
    ("upstream_invalid", 502, "server_error", "api_error"),
    ("upstream_timeout", 504, "server_error", "api_error"),
    ("upstream_error", 502, "server_error", "api_error"),
    ("upstream_disconnected", 502, "server_error", "api_error"),
    ("shutting_down", 503, "server_error", "overloaded_error"),
    ("loop_detected", 508, _INVALID, _INVALID),
    ("cache_miss", 504, _INVALID, _INVALID),
    ("stream_not_found", 404, _INVALID, _INVALID),
    ("stream_gone", 410, _INVALID, _INVALID),
    ("bad_cursor", 400, _INVALID, _INVALID),
    ("idempotency_conflict", 422, _INVALID, _INVALID),
    ("too_many_readers", 429, _INVALID, _INVALID),
    ("at_capacity", 409, _INVALID, _INVALID),
    ("not_streamable", 406, _INVALID, _INVALID),
    # Inside a stream; the status is for the case that nothing was sent yet.
    ("replay_truncated", 502, "server_error", "api_error"),
    ("cancelled", 502, "server_error", "api_error"),
    ("owner_lost", 502, "server_error", "api_error"),
)


@attrs.define(eq=False)
class ProxyError(Exception):
    """A failure with a name, and what is known about it.

    :param code: a key of :data:`CODES`.
    :param message: for the client: what happened and what to do about it. Never a child's output, a URL or a path.
    :param status: overrides the code's own HTTP status (bytes before commit only).
    :param retry_after: seconds; sent on 429 and 503 only, at most 60.
    :param close: the connection cannot be used again after this answer.
    :param upstream_status: the status the upstream really answered with, when it answered.
    :param members: the upstream's own error object, whose members are kept.
    """

    code: str
    message: str
    status: int | None = None
    retry_after: float | None = None
    close: bool = False
    upstream_status: int | None = None
    members: dict[str, Any] | None = None
    allow: bytes = b""

    @property
    def row(self) -> Code:
        return CODES[self.code]

    @property
    def http_status(self) -> int:
        """The status line's number before commit."""
        return self.status if self.status is not None else self.row.status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
