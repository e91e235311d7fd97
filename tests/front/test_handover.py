"""Our own pages on a listener of the proxy: a Klein application behind our own front."""

from __future__ import annotations

import socket
from typing import cast

import pytest
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.web.server import Request, Site

from tests.front.fakes import Bench, Bounds, ScriptedHandler, answer, bytewise
from tests.front.test_sockets import Listening, read, until
from txsse.front.handover import Pages

PROXIED = b"GET /v1 HTTP/1.1\r\nHost: h\r\n\r\n"
PAGE = b"GET /-/hello?a=%2F HTTP/1.1\r\nHost: h:1\r\nX-A: b\r\nConnection: keep-alive, X-A\r\n\r\n"
ECHO = b"POST /-/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345"
CHUNKED = b"POST /-/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n"
HELLO, ECHOED = b"5\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n5\r\n12345\r\n0\r\n\r\n"


class Application:
    """Pages below ``/-/``, and what they were asked."""

    app = Klein()

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.left: list[Request] = []
        self.paused: list[str] = []

    def pages(self, clock: IReactorTime) -> Pages:
        site = Site(self.app.resource(), reactor=clock, logFormatter=lambda timestamp, request: "")
        return Pages(site, lambda head: head.path.startswith(b"/-/"))

    @app.route("/-/hello")
    def hello(self, request: Request) -> bytes:
        self.asked.append(request)
        return b"hello"

    @app.route("/-/echo", methods=["POST"])
    def echo(self, request: Request) -> bytes:
        self.asked.append(request)
        assert request.content is not None
        body: bytes = request.content.read()
        return body

    @app.route("/-/slow")
    def slow(self, request: Request) -> Deferred[bytes]:
        self.asked.append(request)
        request.notifyFinish().addErrback(lambda failure: self.left.append(request))
        request.write(b"begun")
        never: Deferred[bytes] = Deferred()
        return never

    # A push producer of a page:

    def pauseProducing(self) -> None:
        self.paused.append("paused")

    def resumeProducing(self) -> None:
        self.paused.append("resumed")

    def stopProducing(self) -> None: ...


class PagesBench(Bench):
    def __init__(self, bounds: Bounds | None = None) -> None:
        self.application = Application()
        super().__init__(ScriptedHandler(answer), bounds, self.application.pages)


def test_a_page_is_answered_without_the_proxy_and_the_connection_closed() -> None:
    bench = PagesBench()
    transport = bench.send(PAGE)
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nConnection: close" in head and body == HELLO
    assert transport.gone and not transport.aborted
    assert bench.handler.calls == [] and bench.site.connections == 0
    (request,) = bench.application.asked
    assert (request.uri, request.getHeader(b"host"), request.getClientAddress().host) == (b"/-/hello?a=%2F", b"h:1", "192.168.1.1")
    assert request.getHeader(b"x-a") is None  # Connection named it


def test_everything_else_is_the_proxys() -> None:
    bench = PagesBench()
    transport = bench.send(PROXIED)
    bench.send(PAGE, transport)
    assert len(bench.handler.exchanges) == len(bench.application.asked) == 1
    assert transport.value().count(b"HTTP/1.1 200 ") == 2
    assert transport.gone


def test_without_pages_every_path_is_the_proxys() -> None:
    bench = Bench()
    bench.send(PAGE)
    assert bench.handler.last.request.path == b"/-/hello?a=%2F"


@pytest.mark.parametrize("message", [ECHO, CHUNKED, ECHO.replace(b"/-/echo", b"http://other/-/echo")])
def test_a_body_is_handed_over_whole_however_it_comes(message: bytes) -> None:
    bench = PagesBench()
    transport = bench.connect()
    for byte in bytewise(message):
        assert bench.application.asked == []
        bench.send(byte, transport)
    assert transport.value().endswith(ECHOED)
    (request,) = bench.application.asked
    assert request.uri == b"/-/echo" and request.getHeader(b"content-length") == b"5"
    assert request.getHeader(b"host") == (b"other" if b"other" in message else b"h")
    assert bench.site.budget.used == 0


def test_a_waiting_client_is_told_once_to_go_on() -> None:
    bench = PagesBench()
    transport = bench.send(ECHO[:-5].replace(b"Host", b"Expect: 100-continue\r\nHost"))
    assert transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.send(b"12345", transport)
    assert transport.value().count(b"HTTP/1.1 ") == 2 and transport.value().endswith(ECHOED)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (ECHO.replace(b"5", b"1001"), 413),
        (b"TRACE /-/hello HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET /-/../hello HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ],
)
def test_what_our_front_refuses_no_page_sees(message: bytes, status: int) -> None:
    bench = PagesBench()
    transport = bench.send(message)
    assert transport.value().startswith(b"HTTP/1.1 %d " % status)
    assert bench.application.asked == []


def test_a_slow_body_is_refused_in_time() -> None:
    bench = PagesBench()
    transport = bench.send(ECHO[:-1])
    bench.pass_time(65, 0.1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")


def test_what_comes_behind_a_page_is_dropped_and_its_leaving_noticed() -> None:
    bench = PagesBench()
    transport = bench.send(b"GET /-/slow HTTP/1.1\r\nHost: h\r\n\r\n" + PROXIED)
    bench.send(PROXIED * 5000, transport)
    assert transport.producerState == "producing" and bench.handler.calls == []
    transport.client_leaves()
    assert bench.application.left == bench.application.asked
    assert bench.site.connections == 0


def test_a_page_is_paused_by_the_transport() -> None:
    bench = PagesBench()
    transport = bench.send(b"GET /-/slow HTTP/1.1\r\nHost: h\r\n\r\n")
    bench.application.asked[0].registerProducer(bench.application, True)
    assert transport.producer is not None
    transport.producer.pauseProducing()
    transport.producer.resumeProducing()
    assert bench.application.paused == ["paused", "resumed"]
    transport.client_leaves()


def test_the_body_of_a_page_counts_until_its_end() -> None:
    bench = PagesBench()
    transport = bench.send(ECHO.replace(b"echo", b"slow"))
    assert bench.site.budget.used == 5
    transport.client_leaves()
    assert bench.site.budget.used == 0


def test_a_drain_lets_pages_finish_and_an_abort_ends_them() -> None:
    bench = PagesBench()
    transport = bench.send(b"GET /-/slow HTTP/1.1\r\nHost: h\r\n\r\n")
    bench.site.drain()
    assert not transport.gone and bench.site.connections == 1
    bench.site.abort_all()
    assert transport.aborted and bench.application.left == bench.application.asked
    assert bench.site.connections == 0


def test_no_deadline_of_ours_is_left() -> None:
    bench = PagesBench()
    transport = bench.send(ECHO[:-1].replace(b"echo", b"slow"))
    bench.send(b"5", transport)
    bench.pass_time(1000, 1)
    assert not transport.gone
    transport.client_leaves()
    assert bench.clock.getDelayedCalls() == []


def test_http_1_0_gets_a_page_too() -> None:
    bench = PagesBench()
    transport = bench.send(b"GET /-/hello HTTP/1.0\r\n\r\n")
    assert transport.value().endswith(b"\r\n\r\nhello") and transport.gone


async def test_pages_and_proxy_share_a_listener() -> None:
    application = Application()
    listening = Listening(pages=application.pages(cast(IReactorTime, reactor)))
    listening.handler.script = answer
    await listening.open()

    def talk() -> list[bytes]:
        got = []
        for path in (b"/v1", b"/-/hello", b"/-/slow"):
            with socket.create_connection(listening.address) as client:
                client.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path)
                got.append(client.recv(1) if path == b"/-/slow" else client.makefile("rb").read())
        return got

    proxied, page, begun = await deferToThread(talk)
    assert proxied.endswith(b"\r\n\r\nhello") and page.endswith(HELLO) and begun
    await until(lambda: application.left and not listening.site.connections)
    await listening.close()


async def test_a_page_that_nobody_reads_is_paused() -> None:
    application = Application()
    listening = Listening(pages=application.pages(cast(IReactorTime, reactor)))
    await listening.open()
    client = listening.connect()
    await until(lambda: listening.site.connections)
    client.send(b"GET /-/slow HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: application.asked)
    (request,) = application.asked
    request.registerProducer(application, True)
    request.write(b"x" * 20_000_000)
    assert application.paused == ["paused"]
    await read(client, lambda data: len(data) > 20_000_000)
    await until(lambda: application.paused == ["paused", "resumed"])
    listening.site.abort_all()
    await until(lambda: application.left)
    client.close()
    await listening.close()
