"""``txsse watch URL``: a streaming client that shows what comes, and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import LoopingCall
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from txsse.cli.errors import CommandError
from txsse.cli.terminal import Terminal, printable
from txsse.client import Backoff, EventSource, State, StreamLost, StreamRefused
from txsse.client.reading import Comment
from txsse.wire.eventstream import Event, EventTooLong

SPIN_EVERY = 0.1


@attrs.frozen
class Target:
    """What to ask for."""

    url: str
    body: bytes | None = None  # POST it; None: GET
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, url: str, data: str | None, headers: list[str]) -> Target:
        """From the command line; raises :class:`CommandError` (status 2)."""
        try:
            parts = urlsplit(url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
        except ValueError:  # a port that is no number, an IPv6 address that is none
            wrong = True
        if wrong or not url.isascii() or not url.isprintable() or " " in url:
            raise CommandError(f"not an http:// or https:// URL: {url!r}", 2)
        return cls(url, None if data is None else _body(data), tuple(_header(line) for line in headers))


def _body(data: str) -> bytes:
    try:
        body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
        json.loads(body)
    except OSError as error:
        raise CommandError(f"--data: cannot read {data[1:]!r}: {error.strerror}", 2) from None
    except ValueError as error:
        raise CommandError(f"--data: not JSON: {error}", 2) from None
    return body


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not token or not value.isprintable():
        raise CommandError(f"--header: not of the form 'Name: value': {line!r}", 2)
    return name, value.strip()


async def watch(reactor: Any, target: Target, terminal: Terminal) -> int:
    """Show the stream until its end; returns the exit status. Cancelling it leaves the terminal tidy."""
    watching = _Watching(reactor, target, terminal)
    spinner = LoopingCall(watching.spin)
    spinner.clock = reactor
    spinner.start(SPIN_EVERY, now=False)
    try:
        return await watching.until_the_end()
    finally:
        spinner.stop()
        terminal.close()


class _Watching:
    """One stream, over as many connections as it takes."""

    def __init__(self, reactor: Any, target: Target, terminal: Terminal) -> None:
        self._reactor = reactor
        self._target = target
        self._terminal = terminal
        self._began = reactor.seconds()
        self._last_heard = self._began
        self._opened = False  # there was a stream at least once
        self._hopeless: Exception | None = None  # why there will be none

    @property
    def _at(self) -> float:
        """Seconds since the start."""
        return float(self._reactor.seconds() - self._began)

    def spin(self) -> None:
        self._terminal.spin(f"{self._reactor.seconds() - self._last_heard:.1f} s of silence")

    async def until_the_end(self) -> int:
        source = EventSource(
            self._target.url,
            headers=self._headers(),
            body=self._target.body,
            stop_at_end=True,
            backoff=Backoff(jitter=0),
            on_state=self._changed,
            on_comment=self._comment,
            reactor=self._reactor,
        )
        try:
            async with source:
                async for event in source:
                    self._event(event)
            if self._hopeless is not None:
                raise self._hopeless
        except StreamRefused as refused:
            return self._refused(refused)
        except EventTooLong as error:
            raise CommandError(f"this is no event stream one can read: {error}") from None
        except CancelledError:
            raise
        except Exception as error:  # everything a connection can die of, from DNS to TLS
            raise CommandError(f"{reason_of(error)} after {self._at:.3f} s") from None
        if source.response is not None and source.response.code == 204:
            self._head(204, source.response.phrase.decode("latin-1"), "")
        else:
            self._terminal.dim("end", self._at)
        return 0

    def _headers(self) -> dict[str, list[str]]:
        given: dict[str, list[str]] = {}
        for name, value in self._target.headers:
            given.setdefault(name.lower(), []).append(value)
        if self._target.body is None:
            return given
        return {"accept": ["text/event-stream, application/json"], "content-type": ["application/json"]} | given

    def _changed(self, source: EventSource) -> None:
        self._last_heard = self._reactor.seconds()
        if source.state is State.OPEN and source.response is not None:
            self._opened = True
            content_type = ", ".join(source.response.headers.getRawHeaders("content-type", []))
            self._head(source.response.code, source.response.phrase.decode("latin-1"), content_type)
        elif source.state is State.CONNECTING and source.failure is not None:
            if self._opened:
                self._terminal.error(f"{reason_of(source.failure)}; again in {source.delay:g} s", self._at)
            else:  # what has never begun is not tried again
                self._hopeless = source.failure
                source.close()

    def _head(self, status: int, phrase: str, content_type: str) -> None:
        self._terminal.dim(printable(f"{status} {phrase}  {content_type}"), self._at)

    def _comment(self, text: str) -> None:
        self._last_heard = self._reactor.seconds()
        comment = Comment(text)
        said = text.removeprefix("txsse") if comment.keepalive else f" {text}"
        self._terminal.dim(printable(f"{'.' if comment.keepalive else ':'}{said}"), self._at)

    def _event(self, event: Event) -> None:
        self._last_heard = self._reactor.seconds()
        names = [event.type] if event.type != "message" else []
        names += [f"id {event.id}"] if event.id else []
        prefix = f"[{', '.join(names)}] " if names else ""
        for index, line in enumerate(event.data.split("\n")):
            self._terminal.line(printable(prefix + line if not index else line), self._at)

    def _refused(self, refused: StreamRefused) -> int:
        """A response that is no event stream, an error mostly: its body as text. Returns the exit status."""
        self._head(refused.status, refused.phrase, refused.content_type)
        for line in refused.body.decode("utf-8", "replace").splitlines():
            self._terminal.line(printable(line), self._at)
        return 0 if refused.status < 300 else 1


def reason_of(error: BaseException) -> str:
    """What a connection died of, in a few words for a person."""
    if isinstance(error, StreamLost) and error.reason is not None:
        return reason_of(error.reason)
    if isinstance(error, StreamRefused):
        return printable(f"{error.status} {error.phrase}")
    if isinstance(error, ResponseFailed) and error.reasons:
        inside = reason_of(error.reasons[0].value)
        return f"no answer ({inside})" if isinstance(error, ResponseNeverReceived) else f"cut in the middle of the answer ({inside})"
    if isinstance(error, ConnectionDone):
        return "the server closed the connection"  # its own text says "cleanly", which this was not
    return printable(str(error)).rstrip(".") or type(error).__name__
