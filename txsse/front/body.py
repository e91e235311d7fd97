"""The body of one request while it comes: its framing is taken off, and its bytes are bounded and counted."""

from __future__ import annotations

from io import BytesIO

from txsse.front.limits import Budget, Limits, body_too_large, malformed, too_much_buffered
from txsse.wire.chunked import BadChunk, ChunkedDecoder
from txsse.wire.http1 import CHUNKED


class RequestBody:
    """Collects one body that comes in pieces, or in chunks.

    :param length: in bytes, or :data:`~txsse.wire.http1.CHUNKED`; not 0.
    :ivar done: it is complete.
    :ivar held: bytes taken from the budget; given back by :meth:`release`, or by whoever takes the content.
    """

    __slots__ = ("_budget", "_content", "_decoder", "_left", "_limits", "done", "held")

    def __init__(self, length: int, limits: Limits, budget: Budget) -> None:
        self.done = False
        self._limits = limits
        self._budget = budget
        self._decoder = ChunkedDecoder() if length == CHUNKED else None
        self._left = length  # bytes still to come, when their number was declared
        self.held = 0
        self._content = BytesIO()  # hands its bytes out without a copy, so a body never occupies twice its size

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what is not of this body: the next request's bytes.

        :raises ProxyError: why the request is refused.
        """
        data, rest = self._unframed(data)
        if self.held + len(data) > self._limits.max_body:
            raise body_too_large(self._limits)
        if not self._budget.take(len(data)):
            raise too_much_buffered()
        self.held += len(data)
        self._content.write(data)
        return rest

    def _unframed(self, data: bytes) -> tuple[bytes, bytes]:
        """The body's bytes in *data*, and the rest."""
        if self._decoder is None:
            rest = data[self._left :]
            data = data[: self._left]
            self._left -= len(data)
            self.done = not self._left
            return data, rest
        try:
            data = self._decoder.feed(data)
        except BadChunk as bad:
            raise malformed(str(bad)) from None
        self.done = self._decoder.done
        return data, self._decoder.unused

    @property
    def content(self) -> bytes:
        """The whole body, once it is done."""
        return self._content.getvalue()

    def release(self) -> None:
        """The body is not wanted: its bytes leave the budget. Idempotent."""
        self._budget.give(self.held)
        self.held = 0
