"""Being a guest in somebody else's ``twisted.web`` site."""

from __future__ import annotations

import pytest
from klein import Klein
from twisted.web.resource import Resource

from tests.front.fakes import PLAIN, Bounds, ScriptedHandler, SocketlikeTransport, WebBench, answer

GET = b"GET /v1/chat?x HTTP/1.1\r\nHost: h\r\n\r\n"


class MountedBench(WebBench):
    """The resource at /v1 of a site with other things."""

    def __init__(self) -> None:
        super().__init__()
        root = Resource()
        root.putChild(b"v1", self.resource)
        self.site = self.make_site(root)


class KleinBench(WebBench):
    """The resource as the result of a Klein route."""

    def __init__(self) -> None:
        super().__init__()
        app = Klein()

        @app.route("/v1/", branch=True)
        def proxy(request: object) -> Resource:
            return self.resource

        self.site = self.make_site(app.resource())


@pytest.mark.parametrize("make", [MountedBench, KleinBench])
def test_below_a_prefix_the_whole_target_is_forwarded(make: type[WebBench]) -> None:
    bench = make()
    transport = bench.send(GET)
    assert bench.handler.last.request.path == b"/v1/chat?x"
    answer(bench.handler.last.downstream)
    assert transport.value().endswith(b"\r\n\r\nhello")
    bench.send(GET, transport)
    assert len(bench.handler.exchanges) == 2


@pytest.mark.parametrize("make", [MountedBench, KleinBench])
def test_a_truncated_stream_is_not_ended_for_us(make: type[WebBench]) -> None:
    bench = make()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    assert transport.value().endswith(b"4\r\nhalf\r\n") and transport.gone


@pytest.mark.parametrize("make", [MountedBench, KleinBench])
def test_a_client_that_leaves_is_told_of(make: type[WebBench]) -> None:
    bench = make()
    transport = bench.send(GET)
    transport.client_leaves()
    assert bench.handler.last.heard == ["gone"]


def test_what_the_site_has_set_for_the_answer_stays_unless_we_set_it() -> None:
    class Outer(Resource):
        def getChild(self, path: bytes, request: object) -> Resource:
            request.setHeader(b"X-Outer", b"1")  # type: ignore[attr-defined]  # a twisted.web request
            request.setHeader(b"X-Both", b"outer")  # type: ignore[attr-defined]
            return bench.resource

    bench = WebBench()
    bench.site = bench.make_site(Outer())
    transport = bench.send(GET)
    bench.handler.last.downstream.start(200, b"OK", [(b"X-Both", b"inner")])
    head = transport.value()
    assert b"\r\nX-Outer: 1\r\n" in head and b"\r\nX-Both: inner\r\n" in head and b"outer" not in head


def test_a_truncated_answer_that_is_not_read_is_dropped_after_a_while() -> None:
    class Stuck(SocketlikeTransport):
        def loseConnection(self) -> None:
            self.disconnecting = True

    bench = WebBench()
    transport = bench.send(GET, bench.connect(Stuck(lenient=True)))
    exchange = bench.handler.last
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.cut()
    assert transport.disconnecting
    bench.pass_time(29, 0.1)
    assert not transport.aborted
    bench.pass_time(3, 0.1)
    assert transport.aborted and exchange.heard == []


def test_a_body_in_a_temporary_file_is_read_whole() -> None:
    body = b"x" * 200_000
    bench = WebBench(ScriptedHandler(), Bounds(max_body=200_000, max_buffered=200_000))
    bench.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + body)
    assert bench.handler.last.request.body == body
    assert bench.resource.backing.budget.used == 200_000
