"""One reader's place: whatever is lost, doubled, late or trimmed, it hears each piece once, in order, and one end."""

from __future__ import annotations

from array import array
from itertools import accumulate

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.redis.cursor import FEWEST_BATCHES, MOST_BATCHES, PAGE, Action, Cursor, End, Gap, Read, Tell
from txsse.redis.records import DONE, GONE, OWNER_LOST, Batch, Snapshot, Terminal


def batch_of(first: int, count: int = 1, size: int = 3) -> Batch:
    """Pieces that are told apart by their numbers."""
    pieces = [str(first + index).encode().zfill(size) for index in range(count)]
    return Batch(first, b"".join(pieces), array("I", accumulate(map(len, pieces))))


def actions(cursor: Cursor) -> list[Action]:
    found = []
    while (action := cursor.next()) is not None:
        found.append(action)
    return found


def found(last: int, *batches: Batch, end: Terminal | None = None) -> Snapshot:
    return Snapshot("owner", last, end, list(batches))


def live(after: int = 0) -> Cursor:
    """One that has read all there was."""
    cursor = Cursor(after)
    cursor.look()
    assert actions(cursor) == [Read(after, FEWEST_BATCHES)]
    cursor.read(found(after))
    assert actions(cursor) == []
    return cursor


def test_nothing_is_asked_before_there_is_a_reason() -> None:
    assert actions(Cursor(0)) == []


def test_a_live_reader_is_told_what_goes_on_where_it_is() -> None:
    cursor = live()
    cursor.heard(batch_of(1, 2))
    assert actions(cursor) == [Tell(batch_of(1, 2))]
    cursor.heard(batch_of(1, 2))
    assert actions(cursor) == []
    cursor.heard(batch_of(2, 2))
    assert actions(cursor) == [Tell(batch_of(3))]


def test_a_hole_is_read() -> None:
    cursor = live()
    cursor.heard(batch_of(4))
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]
    cursor.heard(batch_of(5))
    cursor.read(found(4, batch_of(1, 3), batch_of(4)))
    assert actions(cursor) == [Tell(batch_of(1, 3)), Tell(batch_of(4)), Read(4, FEWEST_BATCHES)]
    cursor.read(found(5, batch_of(5)))
    assert actions(cursor) == [Tell(batch_of(5))]


def test_what_is_missing_in_the_store_is_a_gap() -> None:
    cursor = Cursor(2)
    cursor.look()
    actions(cursor)
    cursor.read(found(9, batch_of(6, 2), batch_of(8, 2)))
    assert actions(cursor) == [Gap(3), Tell(batch_of(6, 2)), Tell(batch_of(8, 2))]


def test_pieces_that_are_all_gone_are_a_gap() -> None:
    cursor = Cursor(2)
    cursor.look()
    actions(cursor)
    cursor.read(found(9, end=DONE))
    assert actions(cursor) == [Gap(7), End(DONE)]
    assert cursor.after == 9


def test_a_page_is_read_after_the_other_and_they_grow_while_they_are_small() -> None:
    cursor = Cursor(0)
    cursor.look()
    first = 1
    for count in (8, 16, 32, 64, 128, 128):
        assert actions(cursor)[-1] == Read(first - 1, count)
        cursor.read(found(1000, *(batch_of(first + index) for index in range(count))))
        first += count
    assert count == MOST_BATCHES
    actions(cursor)
    cursor.read(found(1000, batch_of(first, size=PAGE + 1)))
    assert actions(cursor)[-1] == Read(first, MOST_BATCHES // 2)


def test_the_end_comes_after_everything() -> None:
    cursor = live()
    cursor.learned(2, OWNER_LOST)
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]
    cursor.read(found(2, batch_of(1, 2), end=OWNER_LOST))
    assert actions(cursor) == [Tell(batch_of(1, 2)), End(OWNER_LOST)]
    cursor.give_up(GONE)
    cursor.heard(batch_of(3))
    assert actions(cursor) == []


def test_a_reader_ahead_of_a_finished_stream_hears_its_end() -> None:
    cursor = live(7)
    cursor.learned(5, DONE)
    assert actions(cursor) == [End(DONE)]


def test_a_store_that_came_back_with_less_is_not_asked_for_ever() -> None:
    cursor = live(0)
    cursor.heard(batch_of(9))
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]
    cursor.read(found(3, batch_of(1, 3)))
    assert actions(cursor) == [Tell(batch_of(1, 3))]


def test_a_paused_reader_holds_nothing() -> None:
    cursor = live()
    cursor.heard(batch_of(1))
    cursor.pause()
    assert actions(cursor) == []
    assert not cursor._ready
    cursor.heard(batch_of(1, 2))
    assert not cursor._ready
    cursor.learned(2, DONE)
    assert actions(cursor) == []
    cursor.resume()
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]
    cursor.pause()
    cursor.read(found(2, batch_of(1, 2), end=DONE))
    assert actions(cursor) == []
    assert not cursor._ready
    cursor.resume()
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]


def test_what_could_not_be_read_is_read_again_when_told_so() -> None:
    cursor = Cursor(0)
    cursor.look()
    actions(cursor)
    cursor.read_failed()
    assert actions(cursor) == []
    cursor.retry()
    assert actions(cursor) == [Read(0, FEWEST_BATCHES)]


def test_who_gives_up_is_told_at_once() -> None:
    cursor = live()
    cursor.heard(batch_of(5))
    actions(cursor)
    cursor.read_failed()
    cursor.give_up(OWNER_LOST)
    assert actions(cursor) == [End(OWNER_LOST)]


@attrs.define
class World:
    """A store, the bells on their way from it, and one reader."""

    cursor: Cursor
    batches: list[Batch] = attrs.field(factory=list)
    end: Terminal | None = None
    last: int = 0
    bells: list[Batch] = attrs.field(factory=list)
    question: Read | None = None
    told: list[int] = attrs.field(factory=list)  # negative: missed
    ends: list[Terminal] = attrs.field(factory=list)

    def act(self) -> None:
        for action in actions(self.cursor):
            assert not self.ends
            match action:
                case Read():
                    assert self.question is None
                    self.question = action
                case Tell(batch):
                    assert batch.data == batch_of(batch.first, len(batch.ends)).data
                    self.told += range(batch.first, batch.last + 1)
                case Gap(count):
                    assert count > 0
                    begin = abs(self.told[-1]) + 1 if self.told else self.begin
                    self.told += range(-begin, -begin - count, -1)
                case End(terminal):
                    self.ends.append(terminal)

    begin: int = 1

    def answer(self) -> None:
        if self.question is not None:
            wanted, self.question = self.question, None
            batches = [batch for batch in self.batches if batch.last > wanted.after][: wanted.count]
            self.cursor.read(Snapshot("owner", self.last, self.end, batches))


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["bell", "lose", "double"]), st.integers(0, 5)),
        st.tuples(st.just("trim"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["answer", "fail", "look", "poll", "pause", "resume", "retry", "end"]), st.just(0)),
    ),
    max_size=60,
)


@given(after=st.integers(0, 6), moves=MOVES)
def test_every_piece_comes_once_and_in_order_and_so_does_the_end(after: int, moves: list[tuple[str, int]]) -> None:
    world = World(Cursor(after), begin=after + 1)
    cursor = world.cursor
    for move, number in moves:
        match move:
            case "write" if world.end is None:
                batch = batch_of(world.last + 1, number)
                world.last = batch.last
                world.batches.append(batch)
                world.bells.append(batch)
            case "bell" | "double" | "lose" if world.bells:
                bell = world.bells[number % len(world.bells)]
                if move != "double":
                    world.bells.remove(bell)
                if move != "lose":
                    cursor.heard(bell)
            case "trim":
                del world.batches[:number]
            case "answer":
                world.answer()
            case "fail" if world.question is not None:
                world.question = None
                cursor.read_failed()
            case "look" | "pause" | "resume" | "retry":
                getattr(cursor, move)()
            case "poll":
                cursor.learned(world.last, world.end)
            case "end":
                world.end = DONE
        world.act()
    world.end = DONE
    cursor.resume()
    cursor.learned(world.last, DONE)
    for _ in range(50):
        cursor.retry()
        world.act()
        world.answer()
    world.act()
    assert world.ends == [DONE]
    assert [abs(number) for number in world.told] == list(range(after + 1, max(world.last, after) + 1))


@pytest.mark.parametrize("packed", [b"", b"\0" * 12, batch_of(1, 2).pack()[:-1], batch_of(1, 2).pack() + b"x"])
def test_what_is_no_batch_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="batch"):
        Batch.unpack(packed)


@given(first=st.integers(1, 2**60), pieces=st.lists(st.binary(min_size=1), min_size=1), cut=st.integers(-2, 50))
def test_a_batch_is_the_same_again(first: int, pieces: list[bytes], cut: int) -> None:
    batch = Batch(first, b"".join(pieces), array("I", accumulate(map(len, pieces))))
    assert Batch.unpack(batch.pack()) == batch
    cut = min(cut, len(pieces) - 1)
    rest = batch.after(first + cut - 1)
    assert (rest.last, rest.data) == (batch.last, b"".join(pieces[max(cut, 0) :]))
