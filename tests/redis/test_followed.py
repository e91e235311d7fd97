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
from txsse.redis.records import Batch
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


def snapshot(last: int, *numbers: int, st: bytes = b"run") -> Reply:
    batches: list[Reply] = [_one(number).pack() for number in numbers]
    return [b"owner", st, str(last).encode(), b"", b"", b"", batches]


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
    for number in (1, 2):
        followed.heard(_one(number).pack())
    assert (broken.last, fine.last) == (1, 2)
    assert len(expected_errors.flush(ValueError)) == 1
