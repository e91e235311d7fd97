"""What gathers before it leaves: head, body and end of one read in one write, and nothing lost, late or sent twice."""

from __future__ import annotations

import pytest

from tests.front.fakes import PLAIN, Bench, SocketlikeTransport
from txsse.interfaces import Downstream

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class CountingTransport(SocketlikeTransport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)


def asked(request: bytes = GET) -> tuple[CountingTransport, Downstream]:
    bench = Bench()
    transport = CountingTransport()
    bench.send(request, bench.connect(transport))
    return transport, bench.handler.last.downstream


def test_each_call_is_a_write_unless_it_gathers() -> None:
    transport, downstream = asked()
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"one")
    downstream.write(b"two")
    downstream.finish()
    assert transport.writes[1:] == [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]


def test_head_body_and_end_that_gather_leave_in_one_write() -> None:
    transport, downstream = asked()
    downstream.cork()
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"one")
    downstream.write(b"two")
    downstream.finish()
    downstream.uncork()
    (written,) = transport.writes
    assert written.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_what_has_gathered_is_pending_and_leaves_when_uncorked() -> None:
    transport, downstream = asked()
    downstream.start(200, b"OK", PLAIN)
    downstream.cork()
    downstream.write(b"one")
    downstream.cork()
    downstream.write(b"two")
    assert (len(transport.writes), downstream.pending()) == (1, 16)
    downstream.uncork()
    assert (transport.writes[1:], downstream.pending()) == ([b"3\r\none\r\n3\r\ntwo\r\n"], 0)
    downstream.uncork()
    downstream.write(b"on")
    assert transport.writes[2:] == [b"2\r\non\r\n"]


def test_a_cut_sends_what_has_gathered() -> None:
    transport, downstream = asked()
    downstream.start(200, b"OK", PLAIN)
    downstream.cork()
    downstream.write(b"half")
    downstream.cut()
    downstream.uncork()
    assert transport.writes[1:] == [b"4\r\nhalf\r\n"]
    assert transport.gone and not transport.aborted


def test_an_abort_drops_what_has_gathered() -> None:
    transport, downstream = asked()
    downstream.cork()
    downstream.start(200, b"OK", PLAIN)
    downstream.abort()
    downstream.uncork()
    assert transport.writes == [] and transport.aborted


def test_what_gathers_for_a_client_that_has_left_is_dropped() -> None:
    transport, downstream = asked()
    downstream.start(200, b"OK", PLAIN)
    downstream.cork()
    transport.client_leaves()
    downstream.write(b"late")
    downstream.finish()
    downstream.uncork()
    assert (len(transport.writes), downstream.pending()) == (1, 0)


@pytest.mark.parametrize(
    ("size", "framed"), [(1, b"1\r\nx\r\n"), (16, b"10\r\n" + b"x" * 16 + b"\r\n"), (70_000, b"11170\r\n" + b"x" * 70_000 + b"\r\n")]
)
def test_a_chunk_says_its_size_in_hex(size: int, framed: bytes) -> None:
    transport, downstream = asked()
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"x" * size)
    assert transport.writes[1:] == [framed]
