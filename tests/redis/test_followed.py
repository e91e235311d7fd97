"""A stream that is followed, with a Redis that is made up: one subscription for all its readers, and what becomes of one that fails."""

from __future__ import annotations

from typing import cast

import pytest

from tests.conftest import ExpectedErrors
from tests.redis.lines import FakeLine
from tests.redis.streams import Reader, piece_of
from tests.redis.test_cursor import batch_of
from txsse.redis.connection import Reply
from txsse.redis.errors import CommandRefused, Unavailable
from txsse.redis.followed import MOST_SILENT, Follow, Followed
from txsse.redis.link import RedisLink
from txsse.redis.records import Batch, Head
from txsse.redis.scripts import READ, bell


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@pytest.fixture
def left() -> list[Followed]:
    return []


@pytest.fixture
def followed(line: FakeLine, left: list[Followed]) -> Followed:
    followed = Followed(cast(RedisLink, line), "sid", left.append)
    followed.start()
    return followed


def join(followed: Followed, after: int = 0) -> Reader:
    reader = Reader(after)
    reader.follow = followed.join(after, reader)
    return reader


HEAD = Head(200, [(b"Content-Type", b"text/event-stream"), (b"X-Of", b"\xe9")])


def snapshot(last: int, *numbers: int, st: bytes = b"run", head: Head | None = None, code: bytes = b"") -> Reply:
    batches: list[Reply] = [_one(number).pack() for number in numbers]
    return [b"owner", st, str(last).encode(), b"" if head is None else head.pack().encode(), code, b"", b"", batches]


def _one(number: int) -> Batch:
    piece = piece_of(number)
    return Batch(number, piece, batch_of(1, 1, len(piece)).ends)


def test_nothing_is_read_before_everything_is_heard(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    assert line.channels == [bell("sid")]
    assert not line.asked
    followed.subscribed()
    assert line.answer(READ, snapshot(2, 1, 2))[0] == 0
    followed.heard(_one(3).pack())
    assert (reader.last, reader.wrong) == (3, [])
    assert followed.owner == "owner"


def test_the_last_reader_ends_the_subscription(followed: Followed, line: FakeLine, left: list[Followed]) -> None:
    first, second = join(followed), join(followed)
    first.follow.stop()
    assert line.channels and not left
    second.follow.stop()
    second.follow.stop()
    assert not line.channels and left == [followed]


@pytest.mark.parametrize("error", [Unavailable("too slow"), CommandRefused("WRONGTYPE")])
def test_what_could_not_be_read_is_read_again_by_and_by(error: Exception, followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.subscribed()
    line.answer(READ, error)
    assert not line.asked
    followed.look_after()
    poll, again = line.asked
    line.asked = [again]
    line.answer(READ, snapshot(1, 1, st=b"done"))
    assert (reader.last, reader.code) == (1, "")
    assert poll[1][1] == 0


def test_a_reply_that_is_not_ours_is_no_answer(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.subscribed()
    reply = snapshot(1, 1)
    assert isinstance(reply, list)
    reply[-1] = [b"nonsense"]
    line.answer(READ, reply)
    assert not line.asked and not reader.ends


def test_of_whom_nothing_is_learned_is_given_up(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    for _ in range(MOST_SILENT):
        followed.look_after()
        line.answer(READ, Unavailable("too slow"))
    assert not reader.ends
    followed.look_after()
    assert reader.code == "owner_lost"


def test_a_silent_stream_that_can_be_looked_at_is_not(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    for _ in range(3 * MOST_SILENT):
        followed.look_after()
        line.answer(READ, snapshot(0))
    assert not reader.ends


def test_an_empty_message_is_a_reason_to_look(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.heard(b"")
    line.answer(READ, snapshot(0, st=b"done"))
    assert reader.code == ""


def test_a_reader_that_fails_is_left_out(followed: Followed, line: FakeLine, expected_errors: ExpectedErrors) -> None:
    class Broken(Reader):
        def pieces(self, batch: Batch) -> None:
            super().pieces(batch)
            raise ValueError("broken")

    broken = Broken()
    broken.follow = Follow(followed, 0, broken)
    followed._follows[broken.follow] = None
    fine = join(followed)
    followed.heard(b"")
    line.answer(READ, snapshot(0, head=HEAD))
    for number in (1, 2):
        followed.heard(_one(number).pack())
    assert (broken.last, fine.last) == (1, 2)
    assert len(expected_errors.flush(ValueError)) == 1


def test_its_head_is_told_as_soon_as_it_is_there(followed: Followed, line: FakeLine) -> None:
    early = join(followed)
    followed.subscribed()
    line.answer(READ, snapshot(0))
    assert not early.began_with
    followed.heard(b"")
    line.answer(READ, snapshot(0, head=HEAD))
    assert early.began_with == [HEAD]
    followed.heard(_one(1).pack())
    late = join(followed)
    followed.look(late.follow)
    line.answer(READ, snapshot(1, 1, head=HEAD))
    assert (late.began_with, early.last, late.last) == ([HEAD], 1, 1)
    assert not early.wrong and not late.wrong


def test_a_piece_that_comes_before_word_of_the_head_is_read_with_it(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.subscribed()
    line.answer(READ, snapshot(0))
    followed.heard(_one(1).pack())
    assert not reader.heard
    line.answer(READ, snapshot(1, 1, head=HEAD))
    assert (reader.began_with, reader.last, reader.wrong) == ([HEAD], 1, [])


@pytest.mark.parametrize("there", [snapshot(1, 1), snapshot(1, 1, st=b"error", code=b"timeout"), snapshot(0, st=b"done")])
def test_a_stream_without_one_was_written_by_an_earlier_version(there: Reply, followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.subscribed()
    line.answer(READ, there)
    assert (reader.began_with, reader.wrong) == ([None], [])


def test_an_error_instead_of_an_answer_has_none(followed: Followed, line: FakeLine) -> None:
    reader = join(followed)
    followed.subscribed()
    line.answer(READ, snapshot(0, st=b"error", code=b"upstream_timeout"))
    assert (reader.began_with, reader.code) == ([], "upstream_timeout")
