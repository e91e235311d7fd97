"""What it takes to speak an API on a stream: one interface, one small file a dialect.

A dialect only makes bytes. When they are sent is the exchange's business (``txsse/exchange``).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Protocol

import attrs

from txsse.dialects.shapes import dump, openai_error
from txsse.errors import ProxyError
from txsse.wire.eventstream import is_event_stream
from txsse.wire.normalise import EventNormaliser

Filter = Callable[[bytes], bytes]
"""Takes what was let through of upstream's body and returns what is written in its place; may hold any number of events (or lines), and
begin or end inside one that is longer than what may be held back."""

Members = Mapping[str, bytes]
"""Top-level members of a request's body, as raw JSON texts."""

_NOTHING: Final = frozenset((b"null", b"false", b"[]", b"{}", b'""', b""))


@attrs.frozen
class Speaker:
    """Who speaks in frames of our own: the ids a client sees before upstream's appear.

    :param token: hexadecimal, unique to the exchange.
    :param created: Unix time in whole seconds.
    :param model: the request's ``model`` member, or ``"unknown"``.
    :param client: the request's User-Agent, as it came.
    """

    token: str
    created: int
    model: str
    client: str = ""


class Witness(Protocol):
    """What must be remembered of a stream so that our own frames can continue it. Keeps references; reads them only when asked."""

    def see(self, frames: bytes) -> bool:
        """Take what was let through. ``False``: it has seen enough and need not be told any more."""


class Dialect(ABC):
    """How one API says keepalive, heartbeat, message, separator and error, and what ends its stream.

    The defaults are those of a plain event stream; ``b""`` means that the dialect has no such thing.
    """

    name: ClassVar[str]
    content_type: bytes = b"text/event-stream; charset=utf-8"
    word: str = "txsse"
    """The text of a keepalive comment. Never ``ping`` and never empty: Continue dies of the one, strict parsers of the other."""
    mute: bool = False
    """Visible text is never shown."""
    done: ClassVar[bytes] = b""
    """What follows an error frame when the stream is to end cleanly (``error_end = "done"``)."""
    by_lines: ClassVar[bool] = False
    """The stream is newline-delimited JSON, not events."""
    streams_unless_told: ClassVar[bool] = False
    """A request without a ``stream`` member asks for a stream."""
    error_after_their_head: ClassVar[bool] = True
    """May an error frame follow bytes of a head that upstream sent?"""
    terminal_pattern: ClassVar[re.Pattern[bytes] | None] = None
    """Found in every terminal event: the relay looks closer only where it occurs. ``None``: no terminal event."""
    terminal_word: ClassVar[bytes] = b""
    """Stands in every terminal event and in few others: looked for first, for that takes a third of the pattern's time in a long read."""
    event_pattern: ClassVar[re.Pattern[bytes]] = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?+|[\r\n])[^:\r\n]")
    """Found in what was let through where it is more than signs of life."""
    text_members: ClassVar[frozenset[str]] = frozenset()
    """The members of a request's body that :meth:`may_show_text` looks at."""
    forms: ClassVar[Mapping[str, str]] = {"auto": "line"}
    """What ``keepalive.form`` amounts to here, where it is not what it says."""

    # -- signs of life

    def keepalive(self) -> bytes:
        """The shortest invisible bytes that reset an idle timer: a comment and ONE newline.

        A blank line after an ``id:`` line is an empty event that kills openai-python, LangChain and LiteLLM.
        """
        return f": {self.word}\n".encode()

    def comment(self, text: str) -> bytes:
        """*text* (one line) as an invisible line of its own."""
        return f": txsse {text}\n".encode()

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        """A parsed event that means nothing, for clients that count events and not bytes.

        :param witness: of the stream that it goes into, where upstream's events have begun.
        """
        return b""

    def sign_of_life(
        self,
        form: str,
        who: Callable[[], Speaker],
        *,
        after_id: bool = False,
        status: str = "",
        witness: Witness | None = None,
    ) -> bytes:
        """A keepalive in the form that a route asks for, or the nearest that this dialect has.

        ``auto`` is the dialect's own choice; ``line`` a comment and one newline; ``frame`` a comment and a blank line; ``event`` the
        heartbeat, where there is none a line; ``none`` nothing.

        :param who: called only where a speaker is needed.
        :param after_id: an ``id`` line has passed: no blank line may follow a comment, so a frame is a line.
        :param status: said in the comment, if it is one; ``auto`` is then a line.
        """
        said = "line" if status and form == "auto" else self.forms.get(form, form)
        if said == "none":
            return b""
        if said == "event" and (event := self.heartbeat(who(), witness)):
            return event
        line = (status and self.comment(status)) or self.keepalive()
        return line + b"\n" if said == "frame" and not after_id else line

    # -- visible text

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        """*text* shown to a person, on the ``reasoning`` or the ``content`` channel, where there are both.

        :param first: nothing was shown before on this stream.
        """
        return b""

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        """What goes between messages on *channel* and upstream's first byte."""
        return b""

    def after_message(self) -> Filter | None:
        """For a stream on which a message was shown: what all of upstream's bytes must go through. ``None``: nothing is in their way."""
        return None

    def may_show_text(self, members: Members) -> bool:
        """Would visible text be harmless in the answer to a request with these members?

        Not where the answer is parsed by a program: tools, structured output, several choices, log probabilities.
        """
        return False

    # -- upstream's stream

    def is_stream(self, content_type: bytes | None) -> bool:
        """Is a body of this type the stream that this dialect expects?"""
        return is_event_stream(content_type)

    def is_terminal(self, frames: bytes) -> bool:
        """Do these whole events hold the one that ends the stream?"""
        return False

    def witness(self, *, midstream: bool) -> Witness | None:
        """A new memory of a stream. ``None``: nothing needs to be remembered.

        :param midstream: heartbeats are wanted between upstream's events as well.
        """
        return None

    def normaliser(self, form: str) -> Filter:
        """A new filter against upstream keepalives that break this dialect's clients; *form*: of the route's own keepalives."""
        return EventNormaliser(frames=form == "frame")

    # -- errors

    @abstractmethod
    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        """*error* as the last event of a stream that the client has begun to read."""

    def error_body(self, error: ProxyError) -> bytes:
        """*error* as the JSON body of an ordinary response: OpenAI's shape, which most clients know."""
        return dump({"error": openai_error(error)})


def asked(members: Members, *names: str) -> bool:
    """Is any of these members there, and not empty?"""
    return any(members.get(name, b"").strip() not in _NOTHING for name in names)
