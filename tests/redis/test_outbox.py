"""What is yet to be written: one step at a time, the same step again after a failure, and a bound on what waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.store import Quota
from txsse.redis.outbox import BATCH, MOST_WAITING, Append, Create, Finish, Outbox
from txsse.redis.records import DONE, UNSHARED, Batch, Terminal

KEEP = 64 * 1024


def an_outbox(space: Quota | None = None, *, created: bool = True) -> Outbox:
    outbox = Outbox(KEEP, space or Quota(2 * MOST_WAITING))
    if created:
        assert outbox.take() == Create()
        outbox.done()
    return outbox


def batch_in(outbox: Outbox) -> Batch:
    step = outbox.take()
    assert isinstance(step, Append)
    assert step.batch is not None
    return step.batch


def test_a_stream_is_created_filled_and_finished_in_this_order() -> None:
    outbox = an_outbox(created=False)
    outbox.append(b"one")
    outbox.finish(DONE)
    outbox.finish(Terminal("other"))
    assert outbox.take() == Create()
    assert outbox.take() is None
    outbox.done()
    assert batch_in(outbox).data == b"one"
    outbox.done()
    assert outbox.take() == Finish(DONE, 1)
    outbox.done()
    assert outbox.over and outbox.take() is None and not outbox.waiting


def test_what_comes_meanwhile_goes_into_the_next_batch() -> None:
    outbox = an_outbox()
    outbox.append(b"one")
    outbox.append(b"two")
    first = batch_in(outbox)
    outbox.append(b"three")
    assert outbox.take() is None
    outbox.done()
    second = batch_in(outbox)
    assert (first.first, first.last, first.data, list(first.ends)) == (1, 2, b"onetwo", [3, 6])
    assert (second.first, second.last, second.data) == (3, 3, b"three")


def test_a_step_that_failed_is_taken_again_as_it_was() -> None:
    outbox = an_outbox()
    outbox.append(b"one")
    step = outbox.take()
    outbox.append(b"two")
    outbox.failed()
    assert outbox.take() is None
    outbox.retry()
    assert outbox.take() is step


def test_a_large_piece_is_a_batch_of_its_own_and_others_are_not_larger_than_that() -> None:
    outbox = an_outbox()
    sizes = [10, BATCH // 2, BATCH // 2, 5, 3 * BATCH, 5]
    for size in sizes:
        outbox.append(b"x" * size)
    counts = []
    while outbox.wants:
        counts.append(len(batch_in(outbox).ends))
        outbox.done()
    assert counts == [2, 2, 1, 1]


def test_a_look_is_a_step_without_pieces_only_where_there_are_none() -> None:
    outbox = an_outbox()
    outbox.look()
    assert outbox.take() == Append(None, 0)
    outbox.done()
    assert outbox.take() is None
    outbox.append(b"one")
    outbox.look()
    batch_in(outbox)
    outbox.done()
    assert outbox.take() is None


def test_who_falls_behind_says_so_at_the_end_and_gives_the_memory_back() -> None:
    space = Quota(2 * MOST_WAITING)
    outbox = an_outbox(space)
    assert outbox.append(b"x" * BATCH)
    under_way = batch_in(outbox)
    assert outbox.append(b"x" * (MOST_WAITING - BATCH))
    assert not outbox.append(b"x")
    assert (outbox.lost, space.used) == ("behind", BATCH)
    assert outbox.append(b"x")
    outbox.finish(DONE)
    outbox.failed()
    outbox.retry()
    assert batch_in(outbox) is under_way
    outbox.done()
    assert outbox.take() == Finish(UNSHARED, 1)
    outbox.done()
    assert space.used == 0


def test_without_memory_it_falls_behind() -> None:
    outbox = an_outbox(Quota(10))
    assert outbox.append(b"x" * 10)
    assert not outbox.append(b"x")
    assert outbox.lost == "behind"


def test_what_is_lost_takes_no_memory() -> None:
    space = Quota(MOST_WAITING)
    outbox = an_outbox(space)
    outbox.append(b"one")
    outbox.take()
    outbox.append(b"two")
    outbox.lose("fenced")
    assert (outbox.over, outbox.lost, space.used, outbox.waiting) == (True, "fenced", 0, False)
    outbox.done()
    assert outbox.append(b"three")
    assert outbox.take() is None and space.used == 0


@given(st.lists(st.integers(1, 3 * BATCH), max_size=60))
def test_as_much_is_kept_as_was_asked_for_and_not_much_more(sizes: list[int]) -> None:
    outbox = an_outbox()
    written: list[Batch] = []
    for size in sizes:
        assert outbox.append(b"x" * size)
        while outbox.wants:
            step = outbox.take()
            assert isinstance(step, Append) and step.batch is not None
            written.append(step.batch)
            kept = sum(len(batch.data) for batch in written if batch.last >= step.keep)
            total = sum(len(batch.data) for batch in written)
            assert min(total, KEEP) <= kept <= KEEP + KEEP // 32 + 6 * BATCH
            outbox.done()
    assert [batch.last for batch in written][-1:] == ([len(sizes)] if sizes else [])


def test_one_piece_may_go_over_what_may_wait() -> None:
    space = Quota(4 * MOST_WAITING)
    outbox = an_outbox(space)
    assert outbox.append(b"x")
    assert outbox.append(b"x" * 2 * MOST_WAITING)
    assert not outbox.append(b"x")
