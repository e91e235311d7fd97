"""What our transports are made of: a connected stream socket in any reactor that watches file descriptors, for protocols that relay.

To a protocol they are what Twisted's own transports are. They differ in this:

* ``write`` sends at once when nothing is queued. Twisted queues and asks the reactor for a writer: two epoll_ctl per event.
* Every socket reads into one buffer of the process, not into 64 KiB allocated for the purpose.
* An instance has slots and nothing it does not need; its queue exists while something is queued.
* A FIN ends the connection, unless the protocol has a method ``half_closed`` that says ``True`` to it: then what is written still leaves.
  ``IHalfCloseableProtocol`` is for protocols that want that all their life.

Not here, for nothing of ours uses them: pull producers, STARTTLS.

Life of a connection, by its phase::

    OPEN -> CLOSED                               FIN, reset or a protocol that raised
    OPEN -> HALF_CLOSING -> HALF_CLOSED          loseWriteConnection, done when the queue is empty
    OPEN, HALF_CLOSING -> CLOSING -> CLOSED      loseConnection, done when the queue is empty
    .. -> BROKEN -> CLOSED                       a send failed; told in a turn of its own
    .. -> ABORTED -> CLOSED                      abortConnection; told in a turn of its own
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from errno import EAGAIN, ENOBUFS, EWOULDBLOCK
from typing import Any, Final

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    ILoggingContext,
    IProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ISystemHandle,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

READ_SIZE: Final = 64 * 1024
"""Bytes read at most in one go."""

HIGH_WATER: Final = 64 * 1024
"""Queued bytes above which a producer is paused, as Twisted's transports do; where :attr:`Descriptor.high_water` does not say otherwise."""

# Every descriptor reads into this and hands on a copy: there is one reactor thread, and nothing reads while another read is copied.
_BUFFER: Final = bytearray(READ_SIZE)
_FILLED: Final = memoryview(_BUFFER)

_NOT_NOW: Final = frozenset((EAGAIN, EWOULDBLOCK, ENOBUFS))
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

# In the order of how much is still allowed. Plain numbers: every write compares them.
OPEN: Final = 0
HALF_CLOSING: Final = 1
CLOSING: Final = 2
BROKEN: Final = 3  # from here on nothing is sent
HALF_CLOSED: Final = 4
ABORTED: Final = 5  # from here on nothing happens
CLOSED: Final = 6


@implementer(IReadWriteDescriptor, IPushProducer, ISystemHandle, ILoggingContext)
class Descriptor:
    """One connected, non-blocking stream socket in a reactor. Not watched until :meth:`resumeProducing`. The addresses, by which TCP and
    UNIX sockets differ, are in :mod:`txsse.sockets.transports`.

    :param reactor: provides IReactorFDSet and IReactorTime.
    :param peer: the other side's address, as the socket module has it.
    :param lost: called when the connection is lost, after the protocol was told.
    :ivar high_water: queued bytes above which its producer is paused.
    """

    __slots__ = ("_lost", "_peer", "_phase", "_producer", "_producer_paused", "_protocol", "_queue", "_reactor", "_socket", "high_water")

    _protocol: IProtocol  # until it was told that the connection is lost

    def __init__(
        self, reactor: Any, handle: socket.socket, protocol: IProtocol, peer: Any, lost: Callable[[Failure], None] | None = None
    ) -> None:
        self._reactor = reactor
        self._socket = handle
        self._protocol = protocol
        self._peer = peer
        self._lost = lost
        self._phase = OPEN
        self._queue: bytearray | None = None  # what the socket has not accepted; a writer is registered while there is any
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self.high_water = HIGH_WATER

    @property
    def pending(self) -> int:
        """Bytes written that the socket has not accepted."""
        return 0 if self._queue is None else len(self._queue)

    @property
    def disconnecting(self) -> bool:
        """It will be closed. Asked for by ``twisted.protocols.basic.LineReceiver``, in no interface of Twisted's."""
        return self._phase in (CLOSING, BROKEN, ABORTED)

    def getHandle(self) -> socket.socket:
        return self._socket

    def fileno(self) -> int:
        """The file descriptor; -1 once the connection is lost."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "-" if self._phase == CLOSED else type(self._protocol).__name__

    # Reading

    def doRead(self) -> Exception | None:  # type: ignore[override]  # reactors take exceptions, and Twisted's transports return them
        """Called by the reactor when there is something to read."""
        try:
            size = self._socket.recv_into(_BUFFER)
        except OSError as error:
            return None if error.errno in _NOT_NOW else CONNECTION_LOST
        if not size:
            # After a reset the failed send has taken the error, and what is left looks like a FIN.
            return CONNECTION_LOST if self._phase == BROKEN else self._fin_received()
        self._protocol.dataReceived(_FILLED[:size].tobytes())
        return None

    def _fin_received(self) -> Exception | None:
        half_closed = getattr(self._protocol, "half_closed", None)
        if half_closed is None:
            return CONNECTION_DONE
        self._reactor.removeReader(self)
        return None if half_closed() else CONNECTION_DONE

    def pauseProducing(self) -> None:
        if self._phase < CLOSED:
            self._reactor.removeReader(self)

    def resumeProducing(self) -> None:
        if self._phase in (OPEN, HALF_CLOSING, HALF_CLOSED):
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        self.loseConnection()

    # Writing

    def write(self, data: bytes) -> None:
        """Send *data*, at once as far as the socket takes it. Never calls the protocol: a failure is told in the reactor's next turn."""
        queue = self._queue
        if queue is None:
            sent = 0
            if self._phase == OPEN and data:
                try:
                    sent = self._socket.send(data)
                except OSError as error:
                    if error.errno not in _NOT_NOW:
                        self._phase = BROKEN
            elif self._phase >= BROKEN:
                return
            if sent == len(data):
                return
            # One growing block, not a list of what was written: many small writes leave by one send, and nothing is
            # copied twice, for bytearrays drop what is at their front without moving the rest.
            queue = self._queue = bytearray(memoryview(data)[sent:])
            self._reactor.addWriter(self)
        else:
            queue += data
        if len(queue) > self.high_water and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def doWrite(self) -> Exception | None:  # type: ignore[override]  # as doRead
        """Called by the reactor when the socket takes more, or has failed."""
        if self._phase >= BROKEN:
            return CONNECTION_LOST if self._phase == BROKEN else None
        queue = self._queue
        if queue is not None:
            try:
                sent = self._socket.send(queue)
            except OSError as error:
                return None if error.errno in _NOT_NOW else CONNECTION_LOST
            if sent < len(queue):
                del queue[:sent]
                return None
            self._queue = None
        self._reactor.removeWriter(self)
        return self._drained()

    def _drained(self) -> Exception | None:
        producer = self._producer
        if producer is not None and self._producer_paused:
            # Before closing: it has more to write, and will close by unregistering.
            self._producer_paused = False
            producer.resumeProducing()
        elif self._phase == CLOSING:
            return CONNECTION_DONE
        elif self._phase == HALF_CLOSING:
            self._phase = HALF_CLOSED
            with suppress(OSError):  # the peer was faster
                self._socket.shutdown(socket.SHUT_WR)
        return None

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Let *producer* be paused when more than :attr:`high_water` bytes are queued, and resumed when none is."""
        if not streaming:
            raise ValueError("pull producers are not supported")
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered and was never unregistered")
        if self._phase == CLOSED:
            producer.stopProducing()
        else:
            self._producer = producer
            self._producer_paused = False

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False
        if self._phase == CLOSING:
            self._reactor.addWriter(self)

    # The end

    def loseConnection(self) -> None:
        """Close after what is queued has left, and read no more."""
        if self._phase in (OPEN, HALF_CLOSING):
            self._phase = CLOSING
            self._reactor.removeReader(self)
            self._reactor.addWriter(self)
        elif self._phase == HALF_CLOSED:
            self.connectionLost(Failure(CONNECTION_DONE))

    def loseWriteConnection(self) -> None:
        """Send a FIN after what is queued has left, and read on."""
        if self._phase == OPEN:
            self._phase = HALF_CLOSING
            self._reactor.addWriter(self)

    def abortConnection(self) -> None:
        """Reset the connection; the protocol is told in the reactor's next turn and hears nothing before."""
        if self._phase < ABORTED:
            self._phase = ABORTED
            self._queue = None
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._reactor.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor when the connection has ended. Only the first call counts: an abort may be under way."""
        if self._phase == CLOSED:
            return
        if isinstance(reason.value, ConnectionDone) and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            # poll(2) may tell of a reset before there is anything to read, and a reactor takes that for a FIN.
            reason = Failure(CONNECTION_LOST)
        reset, self._phase = self._phase == ABORTED, CLOSED
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._close(reset)
        protocol, producer, lost = self._protocol, self._producer, self._lost
        del self._protocol
        self._queue = self._producer = self._lost = None
        if producer is not None:
            producer.stopProducing()
        protocol.connectionLost(reason)
        if lost is not None:
            lost(reason)

    def _close(self, reset: bool) -> None:
        with suppress(OSError):  # the peer was faster
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            else:
                # A child process may have the socket as well, which would keep the FIN back.
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
