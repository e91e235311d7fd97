"""What the proxy says on a stream on its own account, and in which form."""

from __future__ import annotations

from typing import Protocol

import attrs

from txsse.dialects.base import Dialect, Filter, Speaker, Witness
from txsse.dialects.progress import Progress
from txsse.errors import ProxyError
from txsse.exchange.policy import Policy


@attrs.define
class HoldStatus:
    """What is known about a wait: the upstream's name and state, why it is not ready (a name and a class, no addresses),
    seconds waited, seconds left, place in the queue, progress (0 to 1)."""

    upstream: str
    state: str
    elapsed: float
    detail: str = ""
    eta: float | None = None
    position: int | None = None
    progress: float | None = None
    queued: bool = False  # ready it is, and all its slots are taken

    def as_comment(self) -> str:
        """Compact JSON, members in the documented order, unknown ones absent."""
        # By hand: thousands may be written within a second, and json.dumps takes 4 us. A state is a word of ours.
        eta = "" if self.eta is None else f',"eta":{round(self.eta)}'
        position = "" if self.position is None else f',"position":{self.position}'
        progress = "" if self.progress is None else f',"progress":{self.progress:.2f}'
        return f'{{"state":"{self.state}","elapsed":{self.elapsed:.1f}{eta}{position}{progress}}}'


class Source(Protocol):
    """What a voice asks of the exchange it speaks for."""

    def speaker(self) -> Speaker:
        """Who speaks; asked once, on first use, for most exchanges never say a parsed word."""

    def hold_status(self) -> HoldStatus:
        """What is known about the wait now."""


class Voice:
    """The bytes of one exchange's own words: a dialect, a speaker and a policy put together.

    :param show_text: the request can bear visible text in its answer.
    :param pads: what we commit is a JSON answer that does not stream: all that may be said before it are blanks.
    :ivar text_shown: some was, and upstream's answer has not begun.
    :ivar witness: of upstream's stream, where the dialect needs one.
    """

    __slots__ = ("_policy", "_shown", "_source", "_speaker", "dialect", "pads", "progress", "show_text", "text_shown", "witness")

    def __init__(
        self,
        dialect: Dialect,
        policy: Policy,
        source: Source,
        show_text: bool,
        pads: bool,
    ) -> None:
        self.dialect = dialect
        self.show_text = show_text and bool(policy.message)
        self.pads = pads
        self._policy = policy
        self._source = source
        self._speaker: Speaker | None = None
        self._shown = False
        self.text_shown = False
        self.witness: Witness | None = None
        self.progress: Progress | None = None  # what upstream told of its own

    def speaker(self) -> Speaker:
        if self._speaker is None:
            self._speaker = self._source.speaker()
        return self._speaker

    def status(self) -> HoldStatus:
        return self._source.hold_status()

    def while_held(self) -> bytes:
        """A sign of life while held: the message, after it its progress; where no text is shown, a status comment."""
        text = self._policy.progress if self._shown else self._policy.message
        if self.show_text and text and (shown := self._message(text)):
            self._shown = self.text_shown = True
            return shown
        if self.pads:
            return self._blank()
        status = self.status().as_comment() if self._policy.status_comments else ""
        return self.dialect.sign_of_life(self._policy.form, self.speaker, status=status)

    def keepalive(self, after_id: bool) -> bytes:
        """A sign of life after the hold. *after_id*: an ``id:`` line has passed, so no blank line may follow a comment."""
        if self.pads:
            return self._blank()
        status = ""
        if self.progress is not None and self._policy.status_comments:
            status = self._progressing(self.progress)
        return self.dialect.sign_of_life(self._policy.form, self.speaker, after_id=after_id, status=status, witness=self.witness)

    def heartbeat(self) -> bytes:
        return self.dialect.heartbeat(self.speaker(), self.witness) if self._policy.form != "none" and not self.pads else b""

    def before_answer(self) -> bytes:
        """What divides a message from upstream's first byte; once."""
        if not self.text_shown:
            return b""
        self.text_shown = False
        return self.dialect.before_answer(self.speaker(), self._filled(self._policy.separator), self._policy.channel)

    def filters(self) -> tuple[Filter, ...]:
        """What upstream's stream has to go through on this one."""
        shifted = self.dialect.after_message() if self._shown else None
        normalised = self.dialect.normaliser(self._policy.form) if self._policy.normalise else None
        return tuple(each for each in (normalised, shifted) if each is not None)

    def error(self, error: ProxyError) -> bytes:
        return self.dialect.error_frame(error, self.speaker(), self.witness)

    def _blank(self) -> bytes:
        return b" " if self._policy.form != "none" else b""

    def _message(self, text: str) -> bytes:
        return self.dialect.message(self.speaker(), self._filled(text), self._policy.channel, first=not self._shown)

    def _progressing(self, progress: Progress) -> str:
        status = self.status()
        return HoldStatus(status.upstream, progress.state, status.elapsed, eta=progress.remaining, progress=progress.fraction).as_comment()

    def _filled(self, template: str) -> str:
        if "{" not in template:
            return template
        status = self.status()
        known = {
            "{elapsed}": str(round(status.elapsed)),
            "{eta}": "?" if status.eta is None else str(round(status.eta)),
            "{position}": "?" if status.position is None else str(status.position),
            "{model}": self.speaker().model,
        }
        for name, value in known.items():
            template = template.replace(name, value)
        return template
