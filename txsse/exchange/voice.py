"""What the proxy says on a stream on its own account, and in which form."""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs

from txsse.dialects.base import Dialect, Speaker
from txsse.errors import ProxyError
from txsse.exchange.policy import Policy


@attrs.frozen
class HoldStatus:
    """What is known about a wait: the upstream's name and state, why it is not ready (a name and a class, no addresses),
    seconds waited, seconds left, place in the queue."""

    upstream: str
    state: str
    elapsed: float
    detail: str = ""
    eta: float | None = None
    position: int | None = None

    def as_comment(self) -> str:
        """Compact JSON, members in the documented order, unknown ones absent."""
        members: dict[str, object] = {"state": self.state, "elapsed": round(self.elapsed, 1)}
        if self.eta is not None:
            members["eta"] = round(self.eta)
        if self.position is not None:
            members["position"] = self.position
        return json.dumps(members, separators=(",", ":"))


class Voice:
    """The bytes of one exchange's own words: a dialect, a speaker and a policy put together.

    :param speaker: made on first use, for most exchanges never say a parsed word.
    :param status: what is known about the wait now.
    :param show_text: the request can bear visible text in its answer.
    """

    __slots__ = ("_policy", "_speaker", "_speaker_made", "dialect", "show_text", "status", "text_shown")

    def __init__(
        self,
        dialect: Dialect,
        policy: Policy,
        speaker: Callable[[], Speaker],
        status: Callable[[], HoldStatus],
        show_text: bool,
    ) -> None:
        self.dialect = dialect
        self.show_text = show_text and bool(policy.message)
        self._policy = policy
        self._speaker = speaker
        self._speaker_made: Speaker | None = None
        self.status = status
        self.text_shown = False

    @property
    def speaker(self) -> Speaker:
        if self._speaker_made is None:
            self._speaker_made = self._speaker()
        return self._speaker_made

    def open_hold(self) -> bytes:
        """The first words of a hold: the message, or an invisible status."""
        if not self.show_text:
            return self.hold_keepalive()
        shown = self._message(self._filled(self._policy.message))
        self.text_shown = bool(shown)
        return shown or self.hold_keepalive()

    def hold_keepalive(self) -> bytes:
        """A sign of life while held: progress text once the message was shown, else a status comment."""
        if self.text_shown and self._policy.progress:
            return self._message(self._filled(self._policy.progress))
        if self._policy.form == "none":
            return b""
        if self._policy.status_comments and self._policy.form != "event":
            return self._framed(self.dialect.comment(self.status().as_comment()), after_id=False)
        return self.keepalive(after_id=False)

    def keepalive(self, after_id: bool) -> bytes:
        """A sign of life after the hold. *after_id*: an ``id:`` line has passed, so no blank line may follow a comment."""
        if self._policy.form == "none":
            return b""
        if self._policy.form == "event" and (event := self.dialect.heartbeat(self.speaker)):
            return event
        return self._framed(self.dialect.keepalive(), after_id)

    def heartbeat(self) -> bytes:
        return self.dialect.heartbeat(self.speaker) if self._policy.form != "none" else b""

    def before_answer(self) -> bytes:
        """The divider between a message on the content channel and upstream's first byte; once."""
        if not self.text_shown or self._policy.channel != "content":
            return b""
        self.text_shown = False
        return self._message(self._policy.separator) if self._policy.separator else b""

    def error(self, error: ProxyError) -> bytes:
        return self.dialect.error_frame(error)

    def _message(self, text: str) -> bytes:
        return self.dialect.message(self.speaker, text, self._policy.channel)

    def _framed(self, line: bytes, after_id: bool) -> bytes:
        return line + b"\n" if self._policy.form == "frame" and not after_id and line.startswith(b":") else line

    def _filled(self, template: str) -> str:
        if "{" not in template:
            return template
        status = self.status()
        known = {
            "{elapsed}": str(round(status.elapsed)),
            "{eta}": "?" if status.eta is None else str(round(status.eta)),
            "{position}": "?" if status.position is None else str(status.position),
            "{model}": self.speaker.model,
        }
        for name, value in known.items():
            template = template.replace(name, value)
        return template
