"""Predictions over HTTP, raw requests in and raw answers out, time by a clock: made by a function, or by an upstream of a real proxy."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from tests.web.bench import Client, Service
from txsse.clock import Alarms
from txsse.config import loads
from txsse.config.model import Resume
from txsse.logs import AccessLog
from txsse.predictions.app import PredictionsApp
from txsse.predictions.elsewhere import Elsewhere
from txsse.predictions.handlers import HandlerModels
from txsse.predictions.job import Name
from txsse.predictions.jobs import Jobs
from txsse.proxy.handler import Proxy
from txsse.proxy.resumption import ANONYMOUS
from txsse.recordings.store import Quota
from txsse.web.handler import Function
from txsse.webhooks import Sender

EVENTS = "Accept: text/event-stream"
ASYNC = "Prefer: respond-async"
JSON = "Content-Type: application/json"
MIB = 2**20


class _Bench:
    service: Service
    jobs: Jobs

    def ask(self, method: str, path: str, *fields: str, body: object = None) -> Client:
        """*body* as JSON, unless it is bytes."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.service.ask(method, path, JSON, *fields, body=data)

    def put(self, id: str, *fields: str, **given: object) -> Client:
        return self.ask("PUT", f"/predictions/{id}", *fields, body={"id": id, "input": given})

    def post(self, *fields: str, **given: object) -> Client:
        return self.ask("POST", "/predictions", *fields, body={"input": given})

    def look(self, id: str, *fields: str) -> Client:
        return self.ask("GET", f"/predictions/{id}", *fields)

    def wait(self, seconds: float) -> None:
        self.service.pass_time(seconds)


class FunctionBench(_Bench):
    """One function makes all predictions."""

    def __init__(
        self,
        function: Function,
        *,
        slots: int = 0,
        memory: int = MIB,
        sender: Sender | None = None,
        elsewhere: Elsewhere | None = None,
        **resume: Any,
    ) -> None:
        self._sender = sender
        self._elsewhere = elsewhere
        self.models = HandlerModels(function, slots=slots, resume=Resume(**{"on_disconnect": "cancel", **resume}))
        self.quota = Quota(memory)
        self.service = Service(self._resource)

    @property
    def clock(self) -> MemoryReactorClock:
        return self.service.clock

    def _resource(self, clock: MemoryReactorClock) -> IResource:
        self.jobs = Jobs(Alarms(clock), self.quota, self._elsewhere)
        self.quota.attach(self.jobs)
        resource: IResource = PredictionsApp(self.models, self.jobs, self._sender).app.resource()
        return resource

    def status(self, id: str) -> str:
        return self.jobs.get(Name("", ANONYMOUS, id)).prediction.status


READY = """
[[upstream]]
name = "llama"
url = "http://127.0.0.1:8080"
probe = { preset = "none" }
"""
COLD = READY.replace('"none"', '"tcp"')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def predictions(more: str = "", path: str = "/v1/chat/completions") -> str:
    return f'[[route]]\nkind = "predictions"\nupstream = "llama"\nmatch.path = "{path}"\n{more}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def says(text: str) -> bytes:
    """A chat completion chunk."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


DONE = b"data: [DONE]\n\n"


class Connection:
    """Of the proxy to its upstream."""

    def __init__(self, protocol: Any, transport: StringTransport) -> None:
        self._protocol = protocol
        self.transport = transport

    @property
    def head(self) -> list[str]:
        lines: list[str] = self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return lines

    @property
    def body(self) -> bytes:
        body: bytes = self.transport.value().partition(b"\r\n\r\n")[2]
        return body

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def stream(self, *events: bytes) -> None:
        """Begin a stream with these events."""
        self.send(HEAD + b"".join(map(chunk, events)))

    def tell(self, *events: bytes) -> None:
        self.send(b"".join(map(chunk, events)))

    def end(self) -> None:
        self.send(LAST)

    def die(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def aborted(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected


class UpstreamBench(_Bench):
    """A proxy whose only route is for predictions, and the sockets of its upstream."""

    def __init__(self, configuration: str = "") -> None:
        self._configuration = configuration or READY + predictions()
        self.log: list[str] = []
        self.service = Service(self._resource)

    def _resource(self, clock: MemoryReactorClock) -> IResource:
        self.proxy = Proxy(loads(self._configuration), clock, "abc", AccessLog(self.log.append, "text", clock))
        models = self.proxy.predictions
        assert models is not None
        self.jobs = models.jobs
        resource: IResource = PredictionsApp(models, models.jobs, self.proxy.webhooks).app.resource()
        return resource

    @property
    def asked(self) -> int:
        """How often the upstream was asked for a connection."""
        return len(self.service.clock.tcpClients)

    def connect(self, which: int = -1) -> Connection:
        protocol: Any = self.service.clock.tcpClients[which][2].buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return Connection(protocol, transport)

    def refuse(self) -> None:
        factory: Any = self.service.clock.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    @property
    def lines(self) -> list[str]:
        self.wait(1)
        return "".join(self.log).splitlines()
