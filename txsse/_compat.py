"""Every look at a private attribute of Twisted, each with its reason. Each has a test that fails when Twisted changes.

Nothing here raises when the attribute is gone: the caller is told that it cannot be known, and does without.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import ProtocolWrapper


def pending_bytes(transport: object) -> int | None:
    """How many of the bytes written to *transport* the socket has not accepted yet; ``None`` if there is no telling.

    Why: Twisted says when more than 64 KiB are queued and when nothing is any more (``IPushProducer``), but a stuck reader
    of a slow stream is found out at a few bytes, and "drop the connection once this has left" has no call at all.

    Private: ``FileDescriptor.dataBuffer``, ``offset`` and ``_tempDataLen`` (TCP and UNIX sockets alike);
    ``TLSMemoryBIOProtocol._appSendBuffer`` and the ``_aggregator`` of ``BufferingTLSTransport``, whose bytes are counted before
    encryption, so the sum over TLS is out by some 30 bytes a record.
    """
    total = 0
    while isinstance(transport, ProtocolWrapper):  # TLS, PROXY protocol, ..: one transport in another
        # vars(), for a wrapper passes on what it lacks to the transport below, which would be counted twice.
        own: dict[str, Any] = vars(transport)
        total += sum(map(len, own.get("_appSendBuffer", ())))
        total += sum(map(len, getattr(own.get("_aggregator"), "_buffer", ())))
        transport = transport.transport
    if transport is None:  # the connection is lost
        return 0
    queued = getattr(transport, "dataBuffer", None)
    fresh = getattr(transport, "_tempDataLen", None)
    sent = getattr(transport, "offset", None)
    if isinstance(queued, bytes) and isinstance(fresh, int) and isinstance(sent, int):
        return total + len(queued) - sent + fresh
    return None
