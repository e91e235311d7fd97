"""``txsse demo``: a sleeping model, the proxy before it, one streaming request, and what its client sees."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import treq
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.web.http_headers import Headers

from txsse.cli.errors import CommandError
from txsse.cli.terminal import Terminal, printable
from txsse.cli.watch import reason_of
from txsse.client.reading import Comment, StreamReader
from txsse.config import Configuration, loads
from txsse.demo import DemoBackend, DemoSettings
from txsse.wire.eventstream import Event

PATH = "/v1/chat/completions"
BODY = b'{"model":"demo","stream":true,"messages":[{"role":"user","content":"Good morning?"}]}'
IMPATIENT = 5.0  # seconds of silence that the client in the summary would have borne

CONFIGURATION = """\
[server]
listen = ["tcp:0:interface=127.0.0.1"]
admin = "none"
access_log = false
drain = 0

[[upstream]]
name = "demo"
url = "{url}"

[[route]]
upstream = "demo"
hold = {{ commit_after = "1s", message = "The model is waking up.", channel = "content" }}
keepalive = {{ commit_after = "1s", interval = {interval} }}
"""


@attrs.frozen
class Plan:
    """How the demonstration goes; about 20 s in all. Times in seconds."""

    wake: float = 8.0
    prefill: float = 4.0
    pace: float = 0.2
    interval: float = 1.0  # of keepalives; far below the default of 15 s, so that one sees some


Stop: TypeAlias = Callable[[], Awaitable[None]]
StartProxy: TypeAlias = Callable[[Any, Configuration], Awaitable[tuple[int, Stop]]]


async def start_proxy(reactor: Any, configuration: Configuration) -> tuple[int, Stop]:
    """Start the proxy; returns its port and what stops it."""
    from txsse.service import ListenError, ProxyService

    service = ProxyService(configuration, reactor=reactor)
    try:
        service.startService()
    except ListenError as error:
        raise CommandError(str(error)) from None

    async def stop() -> None:
        await maybeDeferred(service.stopService)

    address: Any = service.ports[0].getHost()
    return address.port, stop


async def demo(reactor: Any, terminal: Terminal, plan: Plan | None = None, start: StartProxy = start_proxy) -> int:
    """Give the demonstration; returns the exit status. What it started is stopped, however it ends."""
    plan = plan or Plan()
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=plan.wake, prefill_seconds=plan.prefill, pace=plan.pace))
    await backend.listen()
    try:
        port, stop = await start(reactor, loads(CONFIGURATION.format(url=backend.url, interval=plan.interval)))
        try:
            return await _show(reactor, terminal, plan, backend.port, port)
        finally:
            await stop()
    finally:
        terminal.close()
        await backend.stop()


async def _show(reactor: Any, terminal: Terminal, plan: Plan, backend_port: int, port: int) -> int:
    terminal.strong(f"A model that takes {plan.wake:g} s to wake up and {plan.prefill:g} s to read the prompt, on port {backend_port};")
    terminal.strong(f"txsse before it, on port {port}. What a streaming client sees, and after how many seconds:")
    direct = await _post(reactor, backend_port)
    refusal = f"{direct.code} {printable(await direct.text())}"
    terminal.line()
    terminal.line(f"POST {PATH}", 0.0)
    seen = Seen(reactor.seconds())
    response = await _post(reactor, port)
    viewer = _Viewer(reactor, terminal, seen)
    viewer.head(response)
    if response.code != 200:
        raise CommandError(f"the proxy answered {response.code}: {printable(await response.text())}")
    try:
        await treq.collect(response, viewer.received)
    except CancelledError:
        viewer.leave()
        raise
    except Exception as error:
        raise CommandError(f"the stream broke: {reason_of(error)}") from None
    seen.heard(reactor.seconds())
    _summarise(terminal, seen, refusal)
    return 0 if seen.done and seen.words and not seen.error else 1


async def _post(reactor: Any, port: int) -> Any:
    try:
        return await treq.request(
            "POST",
            f"http://127.0.0.1:{port}{PATH}",
            headers=Headers({"Content-Type": ["application/json"]}),
            data=BODY,
            unbuffered=True,
            persistent=False,
            reactor=reactor,
        )
    except CancelledError:
        raise
    except Exception as error:
        raise CommandError(f"no answer from port {port}: {reason_of(error)}") from None


@attrs.define
class Seen:
    """What the client has seen so far. Times in seconds since the request."""

    began: float  # reactor seconds
    first_byte: float | None = None
    first_word: float | None = None
    last: float = 0.0
    longest_silence: float = 0.0
    keepalives: int = 0
    words: int = 0
    done: bool = False
    error: str = ""

    def heard(self, now: float) -> float:
        """Something came; returns how long after the request."""
        at = now - self.began
        if self.first_byte is None:
            self.first_byte = at
        self.longest_silence = max(self.longest_silence, at - self.last)
        self.last = at
        return at


class _Viewer:
    """Shows the pieces of the stream as they come, and counts them."""

    def __init__(self, reactor: Any, terminal: Terminal, seen: Seen) -> None:
        self._reactor = reactor
        self._terminal = terminal
        self._seen = seen
        self._reader = StreamReader()
        self._left = False

    def leave(self) -> None:
        """Show no more: the connection outlives the cancelling of its reading by a moment."""
        self._left = True

    def head(self, response: Any) -> None:
        at = self._seen.heard(self._reactor.seconds())
        content_type = ", ".join(response.headers.getRawHeaders("content-type", []))
        self._terminal.dim(printable(f"{response.code} {response.phrase.decode('latin-1')}, {content_type}"), at)

    def received(self, data: bytes) -> None:
        if self._left:
            return
        at = self._seen.heard(self._reactor.seconds())
        for item in self._reader.feed(data):
            if isinstance(item, Comment):
                self._keepalive(item.text, at)
            else:
                self._event(item, at)

    def _event(self, event: Event, at: float) -> None:
        if event.data == "[DONE]":
            self._seen.done = True
            self._terminal.dim("[DONE]", at)
            return
        chunk = json.loads(event.data)
        if "error" in chunk:
            self._seen.error = str(chunk["error"].get("message"))
            self._terminal.error(f"error: {printable(self._seen.error)}", at)
            return
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text = delta.get("content") or delta.get("reasoning_content") or ""
            if "txsse" in chunk["id"]:
                self._ours(text, at)
            elif text:
                self._word(text, at)

    def _ours(self, text: str, at: float) -> None:
        """A chunk that the proxy made: message, progress, separator, or a heartbeat without text."""
        if text.strip(" .\n") == "":
            self._keepalive(text.strip() or "heartbeat", at)
        else:
            rule = text.strip() == "---"
            self._terminal.strong(f"{'separator' if rule else 'message'}: {printable(text.strip())}", at)

    def _keepalive(self, text: str, at: float) -> None:
        self._seen.keepalives += 1
        said = "" if text == "." else f"  {printable(text)}"
        self._terminal.dim(f".{said}", at)

    def _word(self, text: str, at: float) -> None:
        self._seen.words += 1
        if self._seen.first_word is None:
            self._seen.first_word = at
        self._terminal.flow(printable(text), at)


def _summarise(terminal: Terminal, seen: Seen, refusal: str) -> None:
    silent = seen.first_word if seen.first_word is not None else seen.last
    terminal.line()
    terminal.strong("With txsse")
    terminal.line(
        f"  first byte after {seen.first_byte or 0:.1f} s, {seen.keepalives} keepalives, {seen.words} words, "
        f"longest silence {seen.longest_silence:.1f} s, {'complete' if seen.done else 'not complete'} after {seen.last:.1f} s"
    )
    terminal.strong("Without")
    terminal.line(f"  the same request straight to the model, at 0 s: {refusal}")
    if silent > IMPATIENT:
        terminal.line(
            f"  and had it been let in: {silent:.1f} s without a byte, "
            f"where a client or load balancer that bears {IMPATIENT:g} s of silence cuts the connection"
        )
