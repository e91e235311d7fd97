"""What the tests of clients share that read a stream over several connections: an answer that takes a while, and what cuts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, gatherResults

from tests.integration.bench import CHAT, DONE, Bench, ch
from tests.integration.caching import READY, STOP
from tests.integration.process import TIMES, route, server, upstream
from tests.test_examples import example
from txsse.testing import LAST_CHUNK, STREAM_HEAD, UpstreamConnection, answer, chunk, sleep

T = TypeVar("T")

WORDS: Final = ["Good ", "morning. ", "Ça va? ", "Ich ", "heiße ", "txsse ", "und ", "bin ", "ein ", "Proxy ", "🙂."]
TEXT: Final = "".join(WORDS)
CUTS: Final = (0, 1, 60, 150, 333, 444, 800)
"""Bytes of a stream to its cut: before the first event, in its id, in its data, in a character, later."""

RESUME: Final = '[route.resume]\nmode = "auto"\n'
CONFIG: Final = (
    server()
    + upstream(more=READY)
    + '[[route]]\nupstream = "main"\nmatch.path = "/fleeting/**"\nresume = { mode = "auto", ttl = "1ms" }\n'
    + route(more=TIMES + RESUME)
)
"""What is below ``/fleeting`` is not kept."""


async def tell(connection: UpstreamConnection) -> None:
    """Every word of an answer an event; in the middle a pause longer than that after which clients come back, so that they find it live."""
    while True:
        request = await connection.request()
        if not request.target.endswith(CHAT.encode()):
            connection.send(answer(b"ok"))
            continue
        first, *others = map(ch, WORDS)
        pause = 0.0 if request.target.startswith(b"/fleeting") else 0.7
        connection.send(STREAM_HEAD + chunk(b"retry: 50\n" + first))
        for number, event in enumerate(others):
            await sleep(connection._owner.reactor, pause if number == len(others) // 2 else 0.01)
            connection.send(chunk(event))
        connection.send(chunk(STOP + DONE) + LAST_CHUNK)


async def read_cut(bench: Bench, read: Callable[[str], Awaitable[T]], afters: Iterable[int] = CUTS, cuts: int = 2) -> dict[int, T]:
    """What *read* makes of the URL of a relay before the proxy that cuts streams after so many bytes, so many times; by that number of
    bytes. Whatever is cut, the model is asked once.
    """
    await bench.play(tell)
    reactor: Any = bench.reactor

    async def through_relay(after: int) -> T:
        relay = example("cutting_relay").CuttingRelay("127.0.0.1", bench.proxy.port, after=after, cuts=cuts)
        port = reactor.listenTCP(0, relay, interface="127.0.0.1")
        try:
            found = await read(f"http://127.0.0.1:{port.getHost().port}")
        finally:
            await port.stopListening()
        assert relay.cuts == 0, "it was not cut"
        return found

    asked, wanted = len(bench.upstream.requests), tuple(afters)
    running = [Deferred.fromCoroutine(through_relay(after)) for after in wanted]
    found = await gatherResults(running, consumeErrors=True)
    questions = [each for each in bench.upstream.requests[asked:] if each.target.endswith(CHAT.encode())]
    assert len(questions) == len(wanted)
    return dict(zip(wanted, found, strict=True))
