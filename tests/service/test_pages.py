"""Our own pages on the service's listeners: where a route shows the waiting page, and until the drain."""

from __future__ import annotations

import re

import pytest

from tests.front.fakes import SocketlikeTransport
from tests.service.test_service import READY, SERVER, Bench
from txsse.config import loads

COLD = READY.replace('"none"', '"tcp"')
NEVER = COLD + '[[route]]\nhold = { placeholder = { page = "never" } }\n'
BROWSER = b"GET /chat HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n"


def ask(bench: Bench, path: str) -> SocketlikeTransport:
    return bench.connect(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


def page_of(bench: Bench) -> str:
    """The path that a page shown now follows."""
    client = bench.connect(BROWSER)
    bench.wait(1)
    found = re.search(rb'data-progress="([^"]+)"', client.value())
    assert found is not None, client.value()
    client.protocol.connectionLost()
    return found[1].decode()


def test_a_page_and_its_progress_share_the_listener() -> None:
    bench = Bench(SERVER + COLD).start()
    following = ask(bench, page_of(bench))
    bench.wait(2)
    assert following.value().count(b"event: progress\n") >= 2
    assert ask(bench, "/-/hold/nobody").value().startswith(b"HTTP/1.1 404 ")
    following.protocol.connectionLost()
    bench.service.proxy.close()


@pytest.mark.parametrize("configuration", [NEVER])
def test_where_no_route_shows_a_page_the_path_is_the_upstreams(configuration: str) -> None:
    bench = Bench(SERVER + configuration).start()
    assert ask(bench, "/-/hold/x").value() == b"", "held as any other"


def test_a_reload_may_switch_it_off_and_on() -> None:
    following = [SERVER + NEVER, SERVER + COLD]
    bench = Bench(SERVER + COLD, reread=lambda: loads(following.pop(0))).start()
    assert ask(bench, "/-/hold/x").value().startswith(b"HTTP/1.1 404 ")
    assert bench.service.reload()
    assert ask(bench, "/-/hold/x").value() == b""
    assert bench.service.reload()
    assert ask(bench, "/-/hold/x").value().startswith(b"HTTP/1.1 404 ")


def test_a_drain_does_not_wait_for_those_who_only_look_on() -> None:
    bench = Bench(SERVER + COLD).start()
    following = ask(bench, page_of(bench))
    over = bench.drain()
    bench.wait(1)
    assert following.value().endswith(b"0\r\n\r\n") and following.gone
    assert over and over[0] < bench.reactor.seconds()
