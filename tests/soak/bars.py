"""``python -m tests.soak.bars``: what an event of a stream that is kept costs, a reader that reads nothing, and reading on elsewhere."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.fakes import FakeBackend, FakeOwner, FakeWatcher, a_request, bound
from tests.integration.caching import KEY, says
from tests.integration.nodes import STREAM, Nodes, World, numbers, sid_of, words
from tests.redis.server import RedisServer
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.shared import Shared
from txsse.recordings.numbering import Splitter
from txsse.recordings.recording import Recording
from txsse.recordings.store import Quota
from txsse.redis.journal import Journal
from txsse.redis.link import RedisLink
from txsse.testing import RecordingClient
from txsse.wire.http1 import ResponseHead

EVENTS = 20_000
READERS = 500
EVENT = says("a word or two of an answer")


def main() -> None:
    append()
    reactor: Any = installed
    with tempfile.TemporaryDirectory(prefix="txsse-bars-") as folder:
        running = Deferred.fromCoroutine(processes(reactor, Path(folder)))
        running.addErrback(lambda failure: print(failure.getTraceback()))
        running.addBoth(lambda _: reactor.stop())
        reactor.run()


# -- an event


class _Line:
    """To a Redis that answers at once."""

    available = True

    def watch(self, changed: object) -> None: ...

    def subscribe(self, channel: bytes, listener: object) -> None: ...

    def run(self, *args: object) -> Deferred[bytes]:
        return succeed(b"ok")


def append() -> None:
    recording, splitter = Recording(1 << 20, Quota(1 << 30)), Splitter()
    alone = _cost(lambda: recording.append(EVENT, 1.0))
    print(f"an event of {len(EVENT)} bytes: recorded in {alone:.2f} us, split off in {_cost(lambda: splitter.feed(EVENT)):.2f} us")
    own, _ = _a_run(shared=False)
    print(f"    relayed by a run in {_cost(lambda: own._relayed(EVENT, 1.0)):.2f} us in all")
    run, clock = _a_run(shared=True)
    sharing = run.sharing
    assert sharing is not None
    took = _cost(lambda: sharing.append(EVENT), lambda: clock.advance(0.06))
    print(f"    shared in {took:.2f} us more, batches of 40 made up included, but for what Redis costs")


def _cost(call: Any, between: Any = lambda: None) -> float:
    """Microseconds of the best of some rounds; *between* is called after each 40 calls, and not counted where it does nothing."""
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(EVENTS // 40):
            for _ in range(40):
                call()
            between()
        rounds.append(time.process_time() - began)
    return min(rounds) / EVENTS * 1e6


def _a_run(*, shared: bool) -> tuple[ResumableRun, Clock]:
    clock = Clock()
    backend = FakeBackend()
    route = bound(model.Route(name="m", resume=model.Resume(mode="auto")), backend)
    run = ResumableRun(
        FakeOwner(clock),
        FakeWatcher(),
        route,
        a_request(clock),
        DIALECTS["openai-chat"],
        sid="s" * 22,
        scope=b"o" * 32,
        created=0.0,
        streaming=True,
        members={},
        request_id=b"r",
        limit=1 << 20,
        space=Quota(1 << 30),
    )
    if shared:
        line = cast(RedisLink, _Line())
        Shared(line, Journal(line, clock, "n"), tuple, lambda result: None).share(run)
    run.begin()
    run.response_started(ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Content-Type", b"text/event-stream")]))
    return run, clock


# -- readers


async def processes(reactor: Any, folder: Path) -> None:
    redis = RedisServer(folder)
    try:
        await _with(reactor, folder, redis)
    finally:
        redis.stop()


async def _with(reactor: Any, folder: Path, redis: RedisServer) -> None:
    store = f'[store]\nkind = "redis"\nurl = "{redis.url}"\nmax_bytes = "256MiB"\n'
    world = World(reactor, Nodes(folder, "ab", interval="15s", more=store, readers=2 * READERS))
    try:
        await world.upstream.open()
        await elsewhere(world)
        client = await world.post("a", words(EVENTS, 0))
        await client.complete(timeout=60)
        sid = sid_of(client)
        for node in "ab":
            await replay(world, node, sid)
        await stalled(world, sid)
    finally:
        world.nodes.stop()
        await world.close()


async def elsewhere(world: World) -> None:
    """How much later than a reader of the owner's one elsewhere hears the same, and how long it takes until it hears anything."""
    client, sid = await world.begin("a", words(200, 0.02), 3)
    firsts: dict[str, list[float]] = {"a": [], "b": []}
    for _ in range(20):
        for node, took in firsts.items():
            began = world.reactor.seconds()
            reader = await world.read(node, sid, f"Last-Event-ID: {sid}.1")
            took.append(1000 * (await reader.contains(b'"content":"2"') - began))
            reader.reset()
            await reader.gone()
    reader = await world.read("b", sid)
    await client.complete(timeout=20)
    await reader.complete(timeout=20)
    late = sorted(1000 * (_at(reader, number) - _at(client, number)) for number in range(150, 200))
    here, there = median(firsts["a"]), median(firsts["b"])
    print(f"the first event after coming back: {here:.1f} ms at its owner, {there:.1f} ms elsewhere (median of 20)")
    print(f"what comes live is {median(late):.0f} ms later elsewhere (median), {late[-1]:.0f} ms (most)")


def _at(client: RecordingClient, number: int) -> float:
    return next(at for at, data in client.body_reads if b'"content":"%d"' % number in data)


async def replay(world: World, node: str, sid: str) -> None:
    began = world.reactor.seconds()
    reader = await world.read(node, sid)
    await reader.complete(timeout=60)
    took = world.reactor.seconds() - began
    assert numbers(reader) == list(range(1, EVENTS + 3))
    print(f"{EVENTS} events from {'its owner' if node == 'a' else 'elsewhere'}, in order, on one connection: {took:.2f} s")


async def stalled(world: World, sid: str) -> None:
    for node in "ab":
        before = world.nodes[node].memory()
        sockets = []
        for _ in range(READERS):
            sockets.append(socket.create_connection(("127.0.0.1", world.nodes[node].port)))
            sockets[-1].sendall(f"GET {STREAM}{sid} HTTP/1.1\r\nHost: x\r\n{KEY}\r\n\r\n".encode())
        deadline = world.reactor.seconds() + 5
        while world.reactor.seconds() < deadline:
            pause: Deferred[None] = Deferred()
            world.reactor.callLater(0.1, pause.callback, None)
            await pause
        each = (world.nodes[node].memory() - before) / READERS / 1024
        print(f"{READERS} readers that read nothing take {each:.1f} KiB each {'at its owner' if node == 'a' else 'elsewhere'}")
        for each_socket in sockets:
            each_socket.close()


if __name__ == "__main__":
    main()
