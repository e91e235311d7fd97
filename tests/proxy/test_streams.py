"""The registry of streams: who finds which, for how long, and what is given back when memory is short."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from tests.proxy.test_resumable import Resumed, event
from txsse.errors import ProxyError
from txsse.interfaces import Failed, Fault
from txsse.proxy.resumable import PER_STREAM, ResumableRun
from txsse.proxy.streams import MOST_CLAIMS, MOST_REFUSALS, MOST_REMEMBERED, REMEMBERED, Claim, Streams, new_sid
from txsse.recordings.store import Quota

MINE, YOURS = b"m" * 32, b"y" * 32
TTL = 300.0
CLAIM = Claim("llama", MINE, b"key")


class Kept(Resumed):
    """A stream of mine in a registry."""

    def __init__(self, streams: Streams | None = None, claim: Claim | None = None, *, ready: bool = True, sid: str = "") -> None:
        super().__init__(ready=ready)
        self.counts: Counter[str] = Counter()
        self.streams = streams or Streams(self.owner.alarms, self._count)
        self.run.sid = sid or new_sid()
        self.run.scope = MINE
        self.streams.add(self.run, claim, b"body")

    def _count(self, result: str) -> None:
        self.counts[result] += 1

    def over(self, *events: bytes) -> Kept:
        seat = self.streaming(*events)
        self.ended()
        assert seat.outcome == "ok"
        self.streams.ended(self.run)
        return self

    def code(self, scope: bytes | None = MINE) -> str:
        """What who asks for it is told, "" if that is the stream."""
        try:
            assert self.streams.find(self.run.sid, scope) is self.run
        except ProxyError as error:
            return error.code
        return ""


def test_it_is_for_who_made_it_and_for_the_operator() -> None:
    kept = Kept()
    assert [kept.code(scope) for scope in (MINE, None, YOURS)] == ["", "", "stream_not_found"]
    assert kept.counts == {"not_found": 1}
    assert kept.streams.knows(kept.run.sid)
    assert not kept.streams.knows(new_sid())
    assert (len(kept.streams), kept.streams.live, [*kept.streams]) == (1, 1, [kept.run])


def test_it_stays_for_its_time_and_then_its_id_is_remembered_for_a_while() -> None:
    kept = Kept().over(event(1))
    assert (kept.streams.live, len(kept.streams)) == (0, 1)
    assert kept.streams.bytes_used == kept.quota.used > 0
    kept.wait(TTL - 5, 1)
    assert kept.code() == ""
    kept.wait(10, 1)
    assert [kept.code(scope) for scope in (MINE, None, YOURS)] == ["stream_gone", "stream_gone", "stream_not_found"]
    assert (kept.streams.bytes_used, kept.quota.used, len(kept.streams)) == (0, 0, 0)
    assert kept.streams.knows(kept.run.sid)
    kept.wait(REMEMBERED + 1, 1)
    assert kept.code() == "stream_not_found"


def test_who_is_in_the_middle_of_it_may_read_it_to_its_end() -> None:
    kept = Kept()
    kept.streaming(event(1))
    slow = kept.join()
    slow.reader.client_paused()
    kept.body(event(2))
    kept.ended()
    kept.streams.ended(kept.run)
    kept.wait(TTL + 20, 1)
    assert kept.code() == ""
    slow.reader.client_resumed()
    assert slow.downstream.body.count(b"data: ") == 2
    assert slow.outcome == "ok"
    kept.wait(TTL + 20, 1)
    assert kept.code() == "stream_gone"


def test_what_decides_whom_it_belongs_to_is_known_as_long_as_its_id() -> None:
    kept = Kept()
    kept.run.home = attrs.evolve(
        kept.run.home, config=attrs.evolve(kept.run.home.config, cache=attrs.evolve(kept.run.home.config.cache, scope="shared"))
    )
    sid = kept.over(event(1)).run.sid
    assert kept.streams.setting(sid) == "shared"
    kept.streams.forget(sid)
    assert kept.streams.setting(sid) == "shared"
    assert kept.streams.setting(new_sid()) == "credential"


# -- claims


def test_a_claim_leads_to_its_stream_with_the_same_body() -> None:
    kept = Kept(claim=CLAIM)
    assert kept.streams.claimed(CLAIM, b"body") is kept.run
    with pytest.raises(ProxyError) as caught:
        kept.streams.claimed(CLAIM, b"another")
    assert (caught.value.code, kept.counts["conflict"]) == ("idempotency_conflict", 1)
    for other in (Claim("other", MINE, b"key"), Claim("llama", YOURS, b"key"), Claim("llama", MINE, b"another")):
        assert kept.streams.claimed(other, b"body") is None


def test_more_than_one_leads_to_a_stream_each_with_its_body_but_not_any_number() -> None:
    claims = [attrs.evolve(CLAIM, key=b"%d" % number) for number in range(MOST_CLAIMS + 1)]
    kept = Kept()
    assert [kept.streams.lead(claim, b"of " + claim.key, kept.run) for claim in claims] == [True] * MOST_CLAIMS + [False]
    assert kept.streams.claimed(claims[-2], b"of " + claims[-2].key) is kept.run
    assert kept.streams.claimed(claims[-1], b"of " + claims[-1].key) is None
    with pytest.raises(ProxyError, match="another body"):
        kept.streams.claimed(claims[0], b"of " + claims[1].key)
    kept.over(event(1))
    kept.streams.forget(kept.run.sid)
    assert not any(map(kept.streams.is_claimed, claims))


def test_none_leads_to_what_cannot_be_come_back_to() -> None:
    kept = Kept()
    kept.run.kept = False
    assert not kept.streams.lead(CLAIM, b"body", kept.run)
    assert not kept.streams.is_claimed(CLAIM)


def test_a_claim_lasts_as_long_as_its_stream() -> None:
    kept = Kept(claim=CLAIM).over(event(1))
    assert kept.streams.claimed(CLAIM, b"body") is kept.run
    kept.streams.forget(kept.run.sid)
    assert kept.streams.claimed(CLAIM, b"body") is None


@pytest.mark.parametrize("how", ["refused", "error"])
def test_where_nothing_was_begun_another_try_is_another_stream(how: str) -> None:
    kept = Kept(claim=CLAIM)
    kept.join(asked=True)
    if how == "refused":
        kept.failed(Failed(Fault.RESET, "reset"))
    else:
        kept.answer(500, b"application/json")
        kept.body(b"{}")
        kept.ended()
    kept.streams.ended(kept.run)
    assert kept.streams.claimed(CLAIM, b"body") is None
    assert kept.code() == "", "what there was of it can be looked at"


def test_a_later_stream_keeps_a_claim_that_an_earlier_one_has_lost() -> None:
    kept = Kept(claim=CLAIM).over(event(1))
    later = Kept(kept.streams, CLAIM)
    kept.streams.forget(kept.run.sid)
    assert kept.streams.claimed(CLAIM, b"body") is later.run


# -- memory


def test_the_one_that_has_been_over_longest_goes_first_and_none_that_runs() -> None:
    first = Kept()
    streams = first.streams
    others = [Kept(streams) for _ in range(3)]
    for kept in (others[1], first, others[0]):
        kept.over(event(1))
    streams.evict()
    assert others[1].code() == "stream_gone"
    streams.evict()
    assert first.code() == "stream_gone"
    streams.evict()
    assert (others[0].code(), others[2].code(), streams.bytes_used, len(streams)) == ("stream_gone", "", 0, 1)


def test_of_refusals_the_latest_are_kept() -> None:
    first = Kept()
    refused = [Kept(first.streams) for _ in range(MOST_REFUSALS + 2)]
    for kept in refused:
        kept.join(asked=True)
        kept.failed(Failed(Fault.RESET, "reset"))
        kept.streams.ended(kept.run)
    assert [kept.code() for kept in (*refused[:3], refused[-1])] == ["stream_gone", "stream_gone", "", ""]


def test_refusals_do_not_drive_out_streams() -> None:
    first = Kept().over(event(1))
    refused = [Kept(first.streams) for _ in range(3)]
    refused[2].run.let_run()
    for kept in refused:
        kept.join(asked=True)
        kept.answer(429, b"application/json", (b"Content-Length", b"0"))
        kept.ended()
        kept.streams.ended(kept.run)
    for _ in range(2):
        first.streams.evict()
    assert [kept.code() for kept in (first, *refused)] == ["", "stream_gone", "stream_gone", ""], "who is in the background looks later"


def test_one_that_is_read_now_goes_last() -> None:
    read = Kept()
    read.streaming(event(1))
    slow = read.join()
    slow.reader.client_paused()
    read.body(event(2))
    read.ended()
    read.streams.ended(read.run)
    other = Kept(read.streams).over(event(1))
    read.streams.evict()
    assert (read.code(), other.code()) == ("", "stream_gone")
    read.streams.evict()
    assert read.code() == "stream_gone"
    slow.reader.client_resumed()
    read.wait(0.5)
    assert slow.code == "replay_truncated"


def test_memory_that_others_need_is_taken_from_streams_that_are_over() -> None:
    kept = Kept().over(event(1))
    quota: Quota = kept.quota
    quota.attach(kept.streams)
    quota.limit = quota.used + 100
    assert quota.take(100)
    assert kept.code() == ""
    assert quota.take(1)
    assert kept.code() == "stream_gone"
    assert not quota.take(quota.limit)


def test_no_more_ids_are_remembered_than_that() -> None:
    kept = Kept()
    first = kept.run.sid
    run: ResumableRun = kept.over().run
    kept.streams.forget(first)
    for number in range(MOST_REMEMBERED):
        run.sid = f"{number:022}"
        kept.streams.add(run)
        kept.streams.ended(run)
        kept.streams.forget(run.sid)
    assert not kept.streams.knows(first)
    assert kept.streams.knows(f"{0:022}") and kept.streams.knows(run.sid)


def test_what_a_stream_takes_besides_its_events_counts() -> None:
    kept = Kept().over(event(1))
    assert kept.streams.bytes_used > PER_STREAM


def test_where_there_is_no_memory_for_that_it_is_gone_at_once() -> None:
    kept = Kept()
    kept.streaming(event(1))
    kept.quota.limit = kept.quota.used + PER_STREAM - 1
    kept.ended()
    kept.streams.ended(kept.run)
    assert (kept.code(), kept.quota.used, kept.streams.bytes_used) == ("stream_gone", 0, 0)


def test_of_more_streams_than_may_run_the_oldest_that_nobody_reads_is_ended() -> None:
    read = Kept()
    streams = read.streams
    streams.most_live = 3
    read.streaming(event(1))
    orphans = [Kept(streams) for _ in range(2)]
    for orphan in orphans:
        orphan.leave(orphan.streaming(event(1)))
    assert streams.live == 3
    for count in (1, 2, 2):
        newest = Kept(streams)
        newest.streaming(event(1))
        assert [orphan.closed for orphan in orphans].count(True) == count
    assert not read.closed and not newest.closed
    assert orphans[0].run.error is not None and orphans[0].run.error.code == "cancelled"
