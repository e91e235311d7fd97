"""Whom one believes to be dead."""

from __future__ import annotations

from txsse.redis.connection import LONGEST_LOGIN, LONGEST_PAUSE
from txsse.redis.lease import CONFIRMATION, LIFE, LOOK, RENEWAL, Absences

LEASE = 10.0


def test_an_absence_is_believed_when_it_is_seen_again_later() -> None:
    absences = Absences(LEASE)
    assert not absences.see("a", False, 100.0)
    assert not absences.see("a", False, 100.0 + CONFIRMATION * LEASE - 0.1)
    assert absences.see("a", False, 100.0 + CONFIRMATION * LEASE)


def test_who_was_seen_in_between_is_alive() -> None:
    absences = Absences(LEASE)
    absences.see("a", False, 100.0)
    absences.see("a", True, 102.0)
    assert not absences.see("a", False, 103.0)


def test_who_could_not_look_begins_anew_and_gives_the_others_time() -> None:
    absences = Absences(LEASE)
    absences.see("a", False, 100.0)
    absences.look_away(101.0)
    grace = LEASE + LONGEST_PAUSE + LONGEST_LOGIN
    assert not absences.see("a", False, 101.0 + grace - 0.1)
    assert not absences.see("a", False, 101.0 + grace)
    assert absences.see("a", False, 101.0 + grace + CONFIRMATION * LEASE)


def test_those_nobody_asks_for_are_forgotten() -> None:
    absences = Absences(LEASE)
    absences.see("a", False, 100.0)
    absences.keep(["b"])
    assert not absences.see("a", False, 200.0)


def test_the_parts_of_a_lease_fit() -> None:
    assert RENEWAL < CONFIRMATION  # who is alive has renewed what was evicted
    assert LIFE + CONFIRMATION + 2 * LOOK <= 1.0
