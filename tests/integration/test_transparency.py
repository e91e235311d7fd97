"""Whatever an event stream looks like, its bytes are not changed: the web platform's own cases, cut in every way."""

from __future__ import annotations

import pytest

from tests.integration.bench import SSE, Bench
from tests.integration.process import CALM, route, server, upstream
from txsse.testing import LAST_CHUNK, STREAM_HEAD, UpstreamConnection, chunk, sleep

CONFIG = server() + upstream(more='probe = { preset = "none" }\n') + route(more=CALM)

BODIES = {
    "W1": b"data:msg\ndata:msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
    "W2": b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n",
    "W3": b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n",
    "W4": b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 2049 + b"\rdata:3\n:data:fail\r:" + b"x" * 2049 + b"\ndata:4\n\n",
    "W5": b"retry:1000\ndata:test1\n\nid:test\ndata:test2",
    "W6": b"data:\n\ndata\ndata\n\ndata:test\n\n",
    "W7": b"event: \ndata:data\n\n",
    "W8": b"event:test\ndata:x\n\ndata:x\n\n",
    "W9": b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
    "W10": b"retry:3000\nretry:1000x\ndata:x\n\n",
    "W11": b"retry\ndata:test\n\n",
    "W12": b"retry:03000\ndata:x\n\n",
    "W13": b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
    "W14": b"data:\ttest\rdata: \ndata:test\n\n",
    "W15": b"data:test\r\ndata\ndata:test\r\n\r",
    "W16": b"data:\0\n\n\n\n",
    "W17": b"data:ok\xe2\x80\xa6\n\n",
    "W18": b"id:1\ndata:a\n\nid\ndata:b\n\ndata:c\n\n",
    "W19": b"id:\0\0\ndata:a\n\nid:x\0\ndata:b\n\n",
    "W21": b"data: a\r\n\r\ndata: b\r\n\r\n",
}
MIX = b"data: 1\n\ndata: 2\r\n\r\nid: 3\r\ndata: 3\n\n: c\n\nevent: e\ndata: 4\r\n\r\ndata: 5\n\r\ndata: [DONE]\n\n"


async def serve(connection: UpstreamConnection) -> None:
    """``/NAME/SIZE``: that body in pieces of that size, each in a write of its own."""
    while True:
        _, name, size = (await connection.request()).target.decode().split("/")
        body = BODIES[name]
        connection.send(STREAM_HEAD)
        for at in range(0, len(body), int(size)):
            connection.send(chunk(body[at : at + int(size)]))
            await sleep(connection._owner.reactor, 0)
        connection.send(LAST_CHUNK)


@pytest.mark.parametrize("size", [1, 2, 3, 37, 100_000])
async def test_bytes_are_the_same_whatever_the_pieces(bench: Bench, size: int) -> None:
    await bench.play(serve)
    clients = [await bench.get(f"/{name}/{size}") for name in BODIES]
    for client, (name, body) in zip(clients, BODIES.items(), strict=True):
        assert bytes((await client.complete()).body) == body, name


async def test_bytes_are_the_same_wherever_they_are_cut(bench: Bench) -> None:
    async def cut(connection: UpstreamConnection) -> None:
        while True:
            at = int((await connection.request()).target[1:])
            connection.send(STREAM_HEAD + chunk(MIX[:at]))
            await sleep(connection._owner.reactor, 0)
            connection.send(chunk(MIX[at:]) + LAST_CHUNK)

    await bench.play(cut)
    client = await bench.client()
    for at in range(1, len(MIX)):
        client.request("GET", f"/{at}", headers=[SSE])
        assert bytes((await client.complete(at)).body) == MIX, at


async def test_a_line_without_end_is_relayed_in_bounded_memory(bench: Bench) -> None:
    size = 50 * 2**20
    block = b"x" * 65536

    async def endless(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD + chunk(b"data: "))
        for _ in range(size // len(block)):
            await connection.writable()
            connection.send(chunk(block))
        connection.send(chunk(b"\n\n") + LAST_CHUNK)

    await bench.play(endless)
    before = bench.proxy.memory()
    client = await bench.client(keep=False)
    client.request("GET", "/", headers=[SSE])
    await client.complete(timeout=60)
    assert client.response.size == size + 8
    assert bench.proxy.memory() - before < 4 * 2**20
