"""Tokens: unguessable, bounded, forgotten when nobody has shown them for a while."""

from __future__ import annotations

import re

from twisted.internet.task import Clock

from txsse.pages.tickets import MOST, TTL, Tickets


def test_a_token_has_128_bits_and_fits_into_a_url() -> None:
    tickets = Tickets(Clock().seconds)
    tokens = {tickets.issue("r", "u") for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", each) for each in tokens)


def test_it_is_bound_to_what_it_was_issued_for() -> None:
    tickets = Tickets(Clock().seconds)
    token = tickets.issue("chat", "llama")
    tickets.issue("other", "big")
    ticket = tickets.find(token)
    assert ticket is not None and (ticket.route, ticket.upstream) == ("chat", "llama")
    for wrong in ("", token[:-1], token + "A", token.swapcase(), "A" * 22):
        assert tickets.find(wrong) is None


def test_it_lasts_for_some_minutes_after_it_was_shown() -> None:
    clock = Clock()
    tickets = Tickets(clock.seconds)
    token, unused = tickets.issue("r", "u"), tickets.issue("r", "u")
    for _ in range(5):
        clock.advance(TTL - 1)
        assert tickets.find(token) is not None
    assert tickets.find(unused) is None
    clock.advance(TTL + 1)
    assert tickets.find(token) is None
    assert len(tickets) == 0


def test_those_that_have_expired_are_forgotten() -> None:
    clock = Clock()
    tickets = Tickets(clock.seconds)
    kept = tickets.issue("r", "u")
    for _ in range(10):
        tickets.issue("r", "u")
    clock.advance(TTL - 1)
    tickets.find(kept)
    clock.advance(2)
    tickets.issue("r", "u")
    assert len(tickets) == 2


def test_there_are_so_many_and_not_more() -> None:
    tickets = Tickets(Clock().seconds)
    first = tickets.issue("r", "u")
    second = tickets.issue("r", "u")
    tickets.find(first)
    for _ in range(MOST - 1):
        tickets.issue("r", "u")
    assert len(tickets) == MOST
    assert tickets.find(second) is None, "the one that was not shown for longest"
    assert tickets.find(first) is not None
