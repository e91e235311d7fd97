"""What can go wrong with an exchange, in the words a client reads: what happened and, where there is something, what to do."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from txsse.dialects.base import Dialect
from txsse.dialects.foreign import error_members
from txsse.errors import Outcome, ProxyError
from txsse.exchange.events import Timer
from txsse.exchange.policy import Policy
from txsse.exchange.voice import HoldStatus
from txsse.interfaces import Failed, Fault
from txsse.wire.headers import get
from txsse.wire.http1 import ResponseHead

_OUTCOMES: Final[dict[str, Outcome]] = {
    "readiness_timeout": "timeout",
    "queue_timeout": "timeout",
    "upstream_timeout": "timeout",
    "shutting_down": "shutdown",
    "wake_failed": "upstream_error",
    "owner_lost": "upstream_error",
    "cancelled": "client_closed",
    "replay_truncated": "client_closed",  # it read too slowly
}


def outcome_of(code: str) -> Outcome:
    """The access log's and the metrics' outcome of an error code."""
    return _OUTCOMES.get(code) or ("upstream_error" if code.startswith("upstream_") else "rejected")


def not_ready(status: HoldStatus, policy: Policy) -> ProxyError:
    """``hold.timeout`` is over."""
    if status.queued:
        text = f"The upstream {status.upstream} had no free slot within {policy.hold_timeout:g} s. Try again later."
        return ProxyError("queue_timeout", text, status=policy.hold_timeout_status)
    why = f"{status.state}, {status.detail}" if status.detail else status.state
    return ProxyError(
        "readiness_timeout",
        f"The upstream {status.upstream} was not ready within {policy.hold_timeout:g} s (it is {why}). Try again later.",
        status=policy.hold_timeout_status,
        retry_after=status.eta,
    )


def no_slot(upstream: str) -> ProxyError:
    """The fallback is at its limit too."""
    return ProxyError("queue_timeout", f"The upstream {upstream} has no free slot. Try again later.")


def too_late(timer: Timer, policy: Policy) -> ProxyError:
    """One of the upstream's deadlines has passed."""
    texts = {
        Timer.FIRST_BYTE: f"The upstream sent nothing within {policy.first_byte:g} s.",
        Timer.IDLE: f"The upstream was silent for {policy.idle:g} s.",
        Timer.TOTAL: f"The request was not answered within {policy.total:g} s.",
    }
    return ProxyError("upstream_timeout", texts[timer])


def no_answer(failed: Failed) -> ProxyError:
    """A dispatch came to no response head."""
    if failed.fault is Fault.INVALID:
        return ProxyError("upstream_invalid", f"The upstream's answer could not be used: {failed.detail}.")
    return ProxyError("upstream_unavailable", f"The upstream could not be reached: {failed.detail}. Try again in a moment.")


def broken_answer(head: ResponseHead, failed: Failed) -> ProxyError:
    """It died while its unwelcome answer was being read."""
    text = f"The upstream answered {head.status} and broke off: {failed.detail}."
    return ProxyError("upstream_invalid", text, upstream_status=head.status)


def broken_body(failed: Failed) -> ProxyError:
    """It died inside the body that was being relayed."""
    if failed.fault is Fault.INVALID:
        return ProxyError("upstream_invalid", f"The upstream's stream could not be read: {failed.detail}.")
    return ProxyError("upstream_disconnected", "The upstream disconnected before its answer was complete.")


def unterminated() -> ProxyError:
    """A clean end without the terminal event, where the route requires one."""
    return ProxyError("upstream_disconnected", "The upstream ended its stream before it was complete.")


def upstream_error(head: ResponseHead, body: bytes) -> ProxyError:
    """An answer of status 400 and more, after a commit: upstream's own error object keeps its members."""
    if is_compressed(head):
        body = b""
    members = error_members(head.status, get(head.headers, b"content-type") or b"", body)
    return ProxyError("upstream_error", members["message"], members=members, upstream_status=head.status)


def unexpected(head: ResponseHead, dialect: Dialect) -> ProxyError | None:
    """What is wrong with a head of status below 400 where the stream of *dialect* was expected, if anything."""
    kind = get(head.headers, b"content-type")
    if not 200 <= head.status < 300:
        problem = str(head.status)
    elif not dialect.is_stream(kind):
        media_type = (kind or b"").decode("ascii", "replace").partition(";")[0].strip()
        problem = f"{head.status} with {media_type or 'no content type'}"
    elif is_compressed(head):
        problem = "a compressed stream"
    else:
        return None
    expected = "a stream of JSON lines" if dialect.by_lines else "an event stream"
    return ProxyError("upstream_invalid", f"The upstream answered {problem} where {expected} was expected.", upstream_status=head.status)


@lru_cache(64)  # a backend has few, and each answer asks
def is_json(content_type: bytes | None) -> bool:
    """Does this Content-Type say JSON, with whatever parameters?"""
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def no_json(head: ResponseHead) -> ProxyError | None:
    """What is wrong with a head of status below 400 where our own promised a JSON body, if anything."""
    if 200 <= head.status < 300 and head.status != 204 and is_json(get(head.headers, b"content-type")) and not is_compressed(head):
        return None
    return ProxyError("upstream_invalid", f"The upstream answered {head.status} where JSON was expected.", upstream_status=head.status)


def shutting_down() -> ProxyError:
    """The drain is over."""
    return ProxyError("shutting_down", "The proxy is shutting down. Try again in a moment.")


def is_compressed(head: ResponseHead) -> bool:
    """Bytes of ours cannot be written between those of a content coding."""
    coding = get(head.headers, b"content-encoding")
    return coding is not None and coding.strip().lower() not in (b"", b"identity")
