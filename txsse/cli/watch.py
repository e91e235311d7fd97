"""``txsse watch URL``: a streaming client that shows what comes, and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import treq
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers

from txsse.cli.errors import CommandError
from txsse.cli.reading import Comment, StreamReader
from txsse.cli.terminal import Terminal, printable
from txsse.wire.eventstream import Event, EventTooLong, is_event_stream

RECONNECT_AFTER = 3.0  # seconds, unless the stream said otherwise
SPIN_EVERY = 0.1
LONGEST_ERROR = 4096  # bytes of an error's body that are shown


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
        self._heard = False  # a server has answered at least once
        self._last_event_id = ""
        self._pause = RECONNECT_AFTER

    @property
    def _at(self) -> float:
        """Seconds since the start."""
        return float(self._reactor.seconds() - self._began)

    def spin(self) -> None:
        self._terminal.spin(f"{self._reactor.seconds() - self._last_heard:.1f} s of silence")

    async def until_the_end(self) -> int:
        while True:
            try:
                return await self._once()
            except CancelledError:
                raise
            except EventTooLong as error:
                raise CommandError(f"this is no event stream one can read: {error}") from None
            except Exception as error:  # everything a connection can die of, from DNS to TLS
                if _is_cancelled(error):
                    raise CancelledError from None
                if self._target.body is not None or not self._heard:
                    raise CommandError(f"{reason_of(error)} after {self._at:.3f} s") from None
                self._terminal.error(f"{reason_of(error)}; again in {self._pause:g} s", self._at)
            await deferLater(self._reactor, self._pause)

    async def _once(self) -> int:
        """One connection from request to end; an end that was not clean is raised."""
        method = "GET" if self._target.body is None else "POST"
        response = await treq.request(
            method,
            self._target.url,
            headers=self._headers(),
            data=self._target.body,
            unbuffered=True,
            persistent=False,
            reactor=self._reactor,
        )
        self._heard = True
        self._last_heard = self._reactor.seconds()
        content_type = ", ".join(response.headers.getRawHeaders("content-type", []))
        self._terminal.dim(printable(f"{response.code} {response.phrase.decode('latin-1')}  {content_type}"), self._at)
        if response.code == 204:
            return 0
        if response.code == 200 and is_event_stream(content_type.encode()):
            await self._events(response)
            self._terminal.dim("end", self._at)
            return 0
        return await self._text(response)

    def _headers(self) -> Headers:
        headers = Headers({"Accept": ["text/event-stream"], "Cache-Control": ["no-store"]})
        if self._target.body is not None:
            headers = Headers({"Accept": ["text/event-stream, application/json"], "Content-Type": ["application/json"]})
        if self._last_event_id:
            headers.setRawHeaders("Last-Event-ID", [self._last_event_id])
        given: dict[str, list[str]] = {}
        for name, value in self._target.headers:
            given.setdefault(name.lower(), []).append(value)
        for name, values in given.items():
            headers.setRawHeaders(name, values)
        return headers

    async def _events(self, response: Any) -> None:
        reader = StreamReader()
        wrong: list[EventTooLong] = []

        def received(data: bytes) -> None:
            self._last_heard = self._reactor.seconds()
            try:
                for item in reader.feed(data):
                    self._show(item)
            except EventTooLong as error:
                # Raised in here it would only end the connection, and look like a drop.
                wrong.append(error)
                raise

        try:
            await treq.collect(response, received)
        finally:
            self._last_event_id = reader.last_event_id or self._last_event_id
            if reader.retry is not None:
                self._pause = reader.retry / 1000
            if wrong:
                raise wrong[0]

    def _show(self, item: Event | Comment) -> None:
        at = self._at
        if isinstance(item, Comment):
            text = item.text.removeprefix("txsse") if item.keepalive else f" {item.text}"
            self._terminal.dim(printable(f"{'.' if item.keepalive else ':'}{text}"), at)
            return
        names = [item.type] if item.type != "message" else []
        names += [f"id {item.id}"] if item.id else []
        prefix = f"[{', '.join(names)}] " if names else ""
        for index, line in enumerate(item.data.split("\n")):
            self._terminal.line(printable(prefix + line if not index else line), at)

    async def _text(self, response: Any) -> int:
        """A response that is no event stream, an error mostly: its body as text. Returns the exit status."""
        body = bytearray()
        await treq.collect(response, body.extend)
        for line in body[:LONGEST_ERROR].decode("utf-8", "replace").splitlines():
            self._terminal.line(printable(line), self._at)
        return 0 if response.code < 400 else 1


def _is_cancelled(error: Exception) -> bool:
    """Cancelling a request before its head came raises ResponseNeverReceived around the CancelledError."""
    return isinstance(error, ResponseFailed) and any(reason.check(CancelledError) for reason in error.reasons)


def reason_of(error: BaseException) -> str:
    """What a connection died of, in a few words for a person."""
    if isinstance(error, ResponseFailed) and error.reasons:
        inside = reason_of(error.reasons[0].value)
        return f"no answer ({inside})" if isinstance(error, ResponseNeverReceived) else f"cut in the middle of the answer ({inside})"
    if isinstance(error, ConnectionDone):
        return "the server closed the connection"  # its own text says "cleanly", which this was not
    return printable(str(error)).rstrip(".") or type(error).__name__
