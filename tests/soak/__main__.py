"""``make soak``: streams on three nodes that are killed in turn, and what their readers say."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from tests.integration.nodes import Nodes
from tests.redis.server import RedisServer
from tests.soak.failures import all_failures
from tests.soak.model import Model
from tests.soak.reading import Stream
from tests.soak.schedule import LEASE, Schedule

NAMES = "abc"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000, help="at a time, each with three readers (1000)")
    parser.add_argument("--seconds", type=float, default=120, help="for which nodes are killed (120); 0: not at all")
    parser.add_argument("--interval", type=float, default=5, help="seconds from one kill to the next (5)")
    parser.add_argument("--failures", action=argparse.BooleanOptionalAction, default=True, help="what else can fail, for 100 s")
    asked = parser.parse_args()
    reactor: Any = installed
    with tempfile.TemporaryDirectory(prefix="txsse-soak-") as folder:
        failures: list[str] = []
        running = Deferred.fromCoroutine(run(reactor, Path(folder), asked, failures))
        running.addErrback(lambda failure: failures.append(failure.getTraceback()))
        running.addBoth(lambda _: reactor.stop())
        reactor.run()
    print("\n".join(failures) or "all is well")
    sys.exit(bool(failures))


async def run(reactor: Any, folder: Path, asked: argparse.Namespace, failures: list[str]) -> None:
    if asked.seconds:
        failures += await kill(reactor, folder, asked)
    if asked.failures:
        await all_failures(reactor, folder)
        print("Redis gone, Redis standing still, a peer standing still: as it should be")


async def kill(reactor: Any, folder: Path, asked: argparse.Namespace) -> list[str]:
    redis = RedisServer(folder)
    try:
        nodes = Nodes(folder, NAMES, interval="15s", more=f'[store]\nkind = "redis"\nurl = "{redis.url}"\nmax_bytes = "256MiB"\n')
        model = Model(reactor, nodes.main)
        try:
            schedule = Schedule(reactor, nodes, NAMES, asked.streams, asked.seconds, asked.interval)
            began = time.monotonic()
            await schedule.run()
            took = time.monotonic() - began
        finally:
            nodes.stop()
            await model.stop()
    finally:
        redis.stop()
    return report(schedule, took)


def report(schedule: Schedule, took: float) -> list[str]:
    """Prints what happened; gives what must not have."""
    streams = schedule.over
    kept, lost = [each for each in streams if each.lost_at is None], [each for each in streams if each.lost_at is not None]
    readers = [reader for stream in streams for reader in stream.readers]
    print(f"{len(streams)} streams, {sum(reader.last for reader in readers)} events read, {schedule.kills} kills, {took:.0f} s")
    print(f"connections a reader: {sum(reader.connections for reader in readers) / max(len(readers), 1):.2f}")
    for title, some in (("owner lived", kept), ("owner killed", lost)):
        ends = Counter(reader.end or "none" for each in some for reader in each.readers)
        print(f"{title}: {len(some)} streams, their readers' ends: {dict(ends)}")
    delays = sorted(delay for stream in lost for delay in told_after(stream))
    if delays:
        print(f"told of the owner's death after {delays[len(delays) // 2]:.1f} s (median), {delays[-1]:.1f} s (longest)")
    wrong = [
        f"stream {each.number}, reader {number}: {text}"
        for each in streams
        for number, reader in enumerate(each.readers)
        for text in reader.wrong
    ]
    wrong += [
        f"stream {each.number}, reader {number} (owner lived): {reader.end or 'no end'} at {reader.last} of {each.last}"
        for each in kept
        for number, reader in enumerate(each.readers)
        if reader.end != "done" or reader.last != each.last
    ]
    wrong += [
        f"stream {each.number}, reader {number} (owner killed): no end"
        for each in lost
        for number, reader in enumerate(each.readers)
        if not reader.end
    ]
    if delays and delays[-1] > LEASE + 1:
        wrong.append(f"{sum(delay > LEASE + 1 for delay in delays)} readers were told later than {LEASE + 1:g} s after the kill")
    return wrong if len(wrong) < 30 else [*wrong[:30], f"and {len(wrong) - 30} more"]


def told_after(stream: Stream) -> list[float]:
    """Seconds from the owner's death to the end that each reader heard, of those that did not have all by then."""
    assert stream.lost_at is not None
    return [reader.ended_at - stream.lost_at for reader in stream.readers if reader.end not in ("", "done")]


if __name__ == "__main__":
    main()
