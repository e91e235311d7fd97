from __future__ import annotations

from txsse.exchange.collector import Collector


def test_it_has_enough_at_its_limit() -> None:
    collector = Collector(4)
    assert not collector.feed(b"abc")
    assert collector.feed(b"def")
    assert collector.body == b"abcdef"


def test_a_raised_limit_asks_for_more() -> None:
    collector = Collector(4)
    assert not collector.feed(b"abc")
    collector.limit = 8
    assert not collector.feed(b"def")
    assert collector.feed(b"gh")
