"""A request's body: its end, its bounds, and its share of the budget."""

from __future__ import annotations

import pytest

from tests.front.fakes import Bounds
from txsse.errors import ProxyError
from txsse.front.body import RequestBody
from txsse.front.limits import Budget
from txsse.wire.http1 import CHUNKED

LIMITS = Bounds(max_body=10)
CHUNKS = b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"


@pytest.mark.parametrize(("length", "wire"), [(6, b"abcdef"), (CHUNKED, CHUNKS)])
def test_any_cut_gives_the_body_and_leaves_the_next_request(length: int, wire: bytes) -> None:
    sent = wire + b"GET / HTTP/1.1"
    for cut in range(1, len(wire)):
        body = RequestBody(length, LIMITS, Budget(100))
        assert body.feed(sent[:cut]) == b""
        assert not body.done
        assert body.feed(sent[cut:]) == b"GET / HTTP/1.1"
        assert body.done
        assert body.content == b"abcdef"


def test_it_counts_until_it_is_released() -> None:
    budget = Budget(100)
    body = RequestBody(6, LIMITS, budget)
    body.feed(b"abc")
    assert budget.used == body.held == 3
    body.feed(b"def")
    assert budget.used == body.held == 6
    body.release()
    body.release()
    assert budget.used == 0


@pytest.mark.parametrize(
    ("wire", "budget", "code"),
    [
        (b"b\r\nhello world\r\n", 100, "body_too_large"),
        (b"5\r\nhello\r\n", 4, "too_many_connections"),
        (b"x\r\n", 100, "bad_request"),
    ],
)
def test_what_cannot_be_taken_is_refused(wire: bytes, budget: int, code: str) -> None:
    body = RequestBody(CHUNKED, LIMITS, Budget(budget))
    with pytest.raises(ProxyError) as refused:
        body.feed(wire)
    assert (refused.value.code, refused.value.close) == (code, True)
