"""Several proxies that know of each other's streams, before one backend: what the tests of peers and of Redis share."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from twisted.internet import reactor

from tests.integration.bench import CHAT, DONE
from tests.integration.caching import KEY, STOP, question, says
from tests.integration.process import Proxy, reserve
from tests.redis.server import RedisServer
from txsse.testing import (
    LAST_CHUNK,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    Response,
    ScriptedUpstream,
    UpstreamConnection,
    chunk,
    eventually,
    head,
    sleep,
)
from txsse.testing.waiting import Reactor

LISTEN = """
[server]
listen = ["tcp:$listen:interface=127.0.0.1"]
admin = "tcp:$admin:interface=127.0.0.1"
node = "{name}"
drain = "1s"
{more}
"""
ROUTES = """
[[upstream]]
name = "main"
url = "http://127.0.0.1:$main"
probe = { preset = "none" }
[[route]]
upstream = "main"
[route.keepalive]
interval = "{interval}"
[route.resume]
mode = "auto"
grace = "400ms"
max_readers = {readers}
max_bytes = "8MiB"
[route.cache]
mode = "opt-in"
"""
GRACE = 0.4
LEASE = 10.0
NUMBERED = "X-Txsse-Resume: 1"
STREAM = "/-/streams/"
JSON = "Accept: application/json"
_EVENT = re.compile(rb"id: (\S+)\.(\d+)\ndata: ([^\n]*)\n\n")
_COMMENT = re.compile(rb"(?m)^: [^\n]*\n\n?")


def shared(redis: RedisServer) -> str:
    """What nodes that share this Redis have in their configuration."""
    return f'[store]\nkind = "redis"\nurl = "{redis.url}"\n'


class Nodes:
    """
    :param names: of the proxies.
    :param peers: they know each other's addresses.
    :param interval: of keepalives.
    :param readers: that a stream may have.
    :param more: of their configuration; *first*: of that what comes before the other routes.
    """

    def __init__(
        self,
        folder: Path,
        names: Iterable[str],
        *,
        peers: bool = False,
        interval: str = "200ms",
        readers: int = 6,
        more: str = "",
        first: str = "",
    ) -> None:
        self._reserved: list[socket.socket] = []
        self.main = self._reserve()
        self._folder = folder
        self._ports = {name: self._reserve() for name in names}
        urls = ", ".join(f'{name} = "http://127.0.0.1:{port}"' for name, port in self._ports.items())
        self._server = f"peers = {{ {urls} }}" if peers else ""
        self._more = first + ROUTES.replace("{interval}", interval).replace("{readers}", str(readers)) + more
        self._started = 0
        self._proxies: dict[str, Proxy] = {}
        try:
            for name in self._ports:
                self.start(name)
        except BaseException:
            self.stop()
            raise

    def _reserve(self) -> int:
        reserved, port = reserve()
        self._reserved.append(reserved)
        return port

    def start(self, name: str) -> None:
        """Also again, after it was killed; returns when it listens."""
        self._started += 1
        if name in self._proxies:
            self._proxies[name].stop()
        configuration = LISTEN.format(name=name, more=self._server) + self._more
        ports = {"main": self.main, "listen": self._ports[name]}
        self._proxies[name] = Proxy(configuration, self._folder, f"{name}{self._started}", ports)

    def port_of(self, name: str) -> int:
        return self._ports[name]

    def __getitem__(self, name: str) -> Proxy:
        return self._proxies[name]

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self._proxies.values())

    async def kill(self, name: str) -> None:
        """Without a word, and for good."""
        self[name].signal(signal.SIGKILL)
        await eventually(reactor, lambda: self[name].returncode is not None)

    def freeze(self, name: str) -> None:
        self[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self[name].signal(signal.SIGCONT)

    def stop(self) -> None:
        for proxy in self:
            proxy.ask_to_stop()
        for proxy in self:
            proxy.stop()
        for reserved in self._reserved:
            reserved.close()
        for proxy in self:
            assert proxy.complaints == [], proxy.log


class World:
    """One test's view of the nodes: the backend behind them, clients in front."""

    def __init__(self, reactor: Reactor, nodes: Nodes) -> None:
        self.reactor = reactor
        self.nodes = nodes
        self.gate = Gate()
        """Lets those requests go on that said ``halt``."""
        self.upstream = ScriptedUpstream(reactor, self.tell, port=nodes.main)
        self.clients: list[RecordingClient] = []

    async def client(self, node: str) -> RecordingClient:
        client = await RecordingClient.connect(self.reactor, self.nodes[node].port)
        self.clients.append(client)
        return client

    async def post(self, node: str, body: bytes, *headers: str, key: str = KEY) -> RecordingClient:
        client = await self.client(node)
        client.post(CHAT, body, ["Content-Type: application/json", NUMBERED, key, *headers])
        return client

    async def begin(self, node: str, body: bytes, events: int = 1, *headers: str) -> tuple[RecordingClient, str]:
        """A new stream of which so many events have come; and its id."""
        client = await self.post(node, body, *headers)
        await client.until(lambda: len(numbers(client)) >= events or client.closed)
        return client, sid_of(client)

    async def read(self, node: str, sid: str, *headers: str, query: str = "", key: str = KEY) -> RecordingClient:
        client = await self.client(node)
        client.request("GET", STREAM + sid + query, headers=[key, *headers])
        return client

    async def operate(self, node: str, method: str, target: str) -> Response:
        """The answer of the admin listener."""
        client = await RecordingClient.connect(self.reactor, self.nodes[node].ports["admin"])
        self.clients.append(client)
        client.send(head(f"{method} {target} HTTP/1.1", ["Host: localhost", "Connection: close", "Content-Length: 0"]))
        return await client.complete()

    async def call(self, node: str, method: str, target: str, *headers: str, key: str = KEY, body: bytes = b"") -> Response:
        """The whole answer to a request on a connection of its own."""
        client = await self.client(node)
        client.request(method, target, body, headers=["Connection: close", key, *headers])
        return await client.complete()

    async def state(self, node: str, sid: str) -> Mapping[str, object]:
        """What the node says of a stream, as JSON."""
        answer = await self.call(node, "GET", STREAM + sid, JSON)
        found = json.loads(bytes(answer.body))
        assert isinstance(found, dict)
        return found

    async def tell(self, connection: UpstreamConnection) -> None:
        """As many words as the request says (``count``), with a pause after each (``pause``, seconds) and the gate after ``halt``."""
        while True:
            asked = json.loads(bytes((await connection.request()).body))
            connection.send(STREAM_HEAD)
            for number in range(1, asked["count"] + 1):
                if number > asked.get("halt", number):
                    await self.gate.wait()
                connection.send(chunk(says(str(number))))
                await sleep(self.reactor, asked["pause"])
            connection.send(chunk(STOP) + chunk(DONE) + LAST_CHUNK)

    @property
    def asked(self) -> int:
        """How often the model was asked."""
        return len(self.upstream.requests)

    async def close(self) -> None:
        for client in self.clients:
            client.reset()
        for client in self.clients:
            await client.gone()
        await self.upstream.stop()


def words(count: int, pause: float = 0.02, **more: object) -> bytes:
    """A request for that."""
    return question(count=count, pause=pause, **more)


def sid_of(client: RecordingClient) -> str:
    return (client.response.header("x-txsse-stream") or b"").decode()


def numbers(client: RecordingClient) -> list[int]:
    """Those of the events that came, in their order; each was the word that goes with it."""
    if not client.responses:
        return []
    found = [(int(number), data) for _, number, data in _EVENT.findall(client.body)]
    for number, data in found:
        if b'"content"' in data:
            assert b'{"content":"%d"}' % number in data, (number, data)
    return [number for number, _ in found]


def unspoken(client: RecordingClient) -> bytes:
    """The body without comments."""
    return _COMMENT.sub(b"", client.body)


def is_whole(client: RecordingClient, first: int, count: int) -> bool:
    """Every event from this number on came once and in order, the two after the last of so many words among them."""
    return numbers(client) == list(range(first, count + 3)) and client.body.endswith(DONE) and client.response.complete
