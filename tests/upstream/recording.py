"""A receiver that writes down what it hears, and holds its caller to the order that :class:`txsse.interfaces.Receiver` promises."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from txsse.interfaces import Failed, Fault
from txsse.wire.http1 import ResponseHead


class RecordingReceiver:
    """Implements :class:`txsse.interfaces.Receiver`. The hooks are called at the end of the method they are named after."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.reads: list[bytes] = []
        self.corked = False
        self.corks = 0
        self.ended = False
        self.failed: Failed | None = None
        self.over: Deferred[None] = Deferred()
        self.on_start: Callable[[], None] = lambda: None
        self.on_body: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    @property
    def body(self) -> bytes:
        return b"".join(self.reads)

    @property
    def fault(self) -> Fault | None:
        return None if self.failed is None else self.failed.fault

    @property
    def silent(self) -> bool:
        return self.head is None and not self.reads and not self.ended and self.failed is None

    def cork(self) -> None:
        assert not self.corked
        self.corked = True
        self.corks += 1

    def uncork(self) -> None:
        assert self.corked
        self.corked = False

    def response_started(self, head: ResponseHead) -> None:
        assert self.silent and self.corked
        self.head = head
        self.on_start()

    def body_received(self, data: bytes) -> None:
        assert data and self.head is not None and not self.ended and self.failed is None
        self.reads.append(data)
        self.on_body()

    def response_ended(self) -> None:
        assert self.head is not None and not self.ended and self.failed is None
        self.ended = True
        self.over.callback(None)
        self.on_end()

    def dispatch_failed(self, failed: Failed) -> None:
        assert not self.ended and self.failed is None
        self.failed = failed
        self.over.callback(None)
