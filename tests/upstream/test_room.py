"""The waiting room: by priority, then by arrival, never more in flight than slots, and nobody is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.upstream.room import COUNTED_ANEW, Refusal, Room


class Guest:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def admitted(self) -> None: ...

    def turned_away(self, refusal: Refusal) -> None: ...


def names(room: Room) -> list[str]:
    found = []
    while isinstance(guest := room.next(), Guest):
        found.append(guest.name)
    return found


def test_the_highest_priority_goes_first_then_who_came_first() -> None:
    room = Room(slots=9)
    for name, priority, since in (("c", 0, 1.0), ("d", 0, 2.0), ("a", 5, 4.0), ("e", -1, 0.0), ("b", 5, 5.0)):
        room.enter(Guest(name), priority, since)
    assert names(room) == ["a", "b", "c", "d", "e"]
    assert len(room) == 0


def test_where_there_is_room_for_all_they_go_in_as_they_came() -> None:
    room = Room()
    for name in "abc":
        room.enter(Guest(name), 0, 0.0)
    assert names(room) == ["a", "b", "c"]
    assert room.taken == 3


def test_who_comes_back_has_the_old_place() -> None:
    room = Room(slots=1)
    first, second = Guest("first"), Guest("second")
    room.enter(first, 0, 1.0)
    room.enter(second, 0, 2.0)
    assert room.next() is first
    assert room.next() is None
    room.give()
    room.enter(first, 0, 1.0)
    assert room.next() is first


def test_a_slot_is_not_taken_past_those_who_wait() -> None:
    room = Room(slots=2)
    assert room.take()
    room.enter(Guest(), 0, 0.0)
    assert not room.take()
    assert Room().take()


def test_places_are_counted_from_one_and_at_most_a_second_old() -> None:
    room = Room(slots=1)
    guests = [Guest(str(number)) for number in range(4)]
    for number, guest in enumerate(guests):
        room.enter(guest, 0, float(number))
    assert [room.place_of(guest, 0.0) for guest in guests] == [1, 2, 3, 4]
    room.leave(guests[1])
    assert room.place_of(guests[3], COUNTED_ANEW / 2) == 4
    assert [room.place_of(guest, COUNTED_ANEW) for guest in guests] == [1, None, 2, 3]
    assert Room().place_of(guests[0], 0.0) is None


def test_who_left_is_not_kept() -> None:
    room = Room(slots=1)
    for number in range(10_000):
        guest = Guest()
        room.enter(guest, 0, float(number))
        assert room.leave(guest)
        assert not room.leave(guest)
    assert len(room._heap) < 200


def test_those_who_came_later_are_taken_in_in_their_places() -> None:
    room, later = Room(slots=1), Room(slots=1)
    room.enter(Guest("b"), 0, 2.0)
    for name, priority, since in (("c", 0, 3.0), ("a", 0, 1.0), ("first", 9, 4.0)):
        later.enter(Guest(name), priority, since)
    gone = Guest("gone")
    later.enter(gone, 0, 0.0)
    later.leave(gone)
    room.take_in(later)
    assert (len(room), len(later)) == (4, 0)
    order = []
    while isinstance(guest := room.next(), Guest):
        order.append(guest.name)
        room.give()
    assert order == ["first", "a", "b", "c"]


def test_everybody_can_be_sent_away() -> None:
    room = Room(slots=1)
    guests = [Guest(str(number)) for number in range(5)]
    for number, guest in enumerate(guests):
        room.enter(guest, 0, -float(number))
    sent = []
    for gone in room.empty():
        assert isinstance(gone, Guest)
        sent.append(gone.name)
        room.leave(guests[1])  # one makes another leave meanwhile
    assert sent == ["4", "3", "2", "0"]
    assert len(room) == 0


@settings(deadline=None)
@given(slots=st.integers(1, 3), steps=st.lists(st.sampled_from(["enter", "leave", "next", "give"]), max_size=60))
def test_never_more_in_flight_than_slots_and_always_the_first(slots: int, steps: list[str]) -> None:
    room, waiting, flying = Room(slots), list[Guest](), 0
    for at, step in enumerate(steps):
        if step == "enter":
            waiting.append(Guest())
            room.enter(waiting[-1], 0, float(at))
        elif step == "leave" and waiting:
            assert room.leave(waiting.pop(at % len(waiting)))
        elif step == "give" and flying:
            flying -= 1
            room.give()
        elif step == "next":
            guest = room.next()
            assert (guest is None) == (not waiting or flying == slots)
            if guest is not None:
                assert guest is waiting.pop(0)
                flying += 1
        assert (len(room), room.taken) == (len(waiting), flying)
        assert flying <= slots
