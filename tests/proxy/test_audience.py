"""Those who read a run live lend it their clients: nothing that a client sees or an account says depends on it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.conftest import ExpectedErrors
from tests.exchange.scripts import DONE, EVENT
from tests.fakes import Hall, Seat
from txsse.config import model

QUICK = model.Keepalive(interval=0.1, heartbeat=0)


def live(count: int = 2, **more: Any) -> tuple[Hall, list[Seat]]:
    """A run whose readers have all had their first events."""
    hall = Hall(attrs.evolve(model.Route(name="llama"), keepalive=QUICK), **more)
    seats = [hall.seat(asked=not number) for number in range(count)]
    hall.answer()
    hall.body(EVENT)
    hall.body(EVENT)
    return hall, seats


def test_a_keepalive_comes_an_interval_after_the_last_event_whoever_wrote_it() -> None:
    hall, (seat, _) = live()
    for _ in range(10):
        hall.clock.advance(0.06)
        hall.body(EVENT)
    assert seat.downstream.body == EVENT * 12
    hall.clock.advance(0.09)
    assert seat.downstream.body == EVENT * 12
    hall.clock.pump([0.01] * 4)
    assert seat.downstream.body.startswith(EVENT * 12 + b":")
    seat.reader.client_gone()


@pytest.mark.parametrize("how", ["ended", "gone", "paused"])
def test_the_account_has_what_went_to_a_client(how: str) -> None:
    hall, (seat, other) = live()
    hall.body(EVENT)
    if how == "ended":
        hall.body(DONE)
        hall.ended()
    elif how == "gone":
        seat.reader.client_gone()
    else:
        seat.reader.client_paused()
    tally = seat.reader.tally
    assert tally.bytes_out == tally.relayed == len(seat.downstream.body) == len(EVENT) * 3 + (len(DONE) if how == "ended" else 0)
    other.reader.client_gone()
    seat.reader.client_gone()


def test_a_client_that_is_full_in_the_midst_of_it_misses_nothing() -> None:
    hall, (first, second) = live()
    first.downstream.on_write = first.reader.client_paused
    hall.body(EVENT)
    first.downstream.on_write = lambda: None
    hall.body(EVENT)
    assert (first.downstream.body, second.downstream.body) == (EVENT * 3, EVENT * 4)
    first.reader.client_resumed()
    hall.body(EVENT + DONE)
    hall.ended()
    assert first.downstream.body == second.downstream.body == EVENT * 5 + DONE


def test_a_bug_in_one_client_is_not_the_others(expected_errors: ExpectedErrors) -> None:
    hall, seats = live(3)

    def break_down() -> None:
        raise ZeroDivisionError("a bug")

    seats[1].downstream.on_write = break_down
    hall.body(EVENT)
    hall.body(DONE)
    hall.ended()
    assert (seats[1].downstream.end, seats[1].code) == ("abort", "internal")
    assert seats[0].downstream.body == seats[2].downstream.body == EVENT * 3 + DONE
    expected_errors.flush(ZeroDivisionError)


def test_half_an_event_is_kept_back_for_everybody() -> None:
    hall, (first, second) = live()
    hall.body(EVENT + EVENT[:7])
    assert first.downstream.body == second.downstream.body == EVENT * 3
    hall.body(EVENT[7:])
    hall.body(EVENT)
    hall.body(EVENT)
    assert first.downstream.body == second.downstream.body == EVENT * 6
    first.reader.client_gone()
    second.reader.client_gone()


def test_who_joins_later_is_told_the_same_from_then_on() -> None:
    hall, (first, second) = live()
    third = hall.seat()
    hall.body(EVENT)
    hall.body(EVENT + DONE)
    hall.ended()
    assert first.downstream.body == second.downstream.body == third.downstream.body == EVENT * 4 + DONE
