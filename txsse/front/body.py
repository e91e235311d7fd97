"""The body of one request while it comes: its framing is taken off, and its bytes are bounded and counted."""

from __future__ import annotations

from io import BytesIO

from txsse.front.limits import Budget, Limits, body_too_large, malformed, too_much_buffered
from txsse.wire.chunked import BadChunk, ChunkedDecoder
from txsse.wire.http1 import CHUNKED


class RequestBody:
    """Collects one body and holds its share of the budget until :meth:`release`.

    :param length: as :func:`txsse.wire.http1.framing` says; not 0.
    :ivar done: it is complete.
    """

    __slots__ = ("_budget", "_content", "_decoder", "_held", "_left", "_limits", "done")

    def __init__(self, length: int, limits: Limits, budget: Budget) -> None:
        self.done = False
        self._limits = limits
        self._budget = budget
        self._decoder = ChunkedDecoder() if length == CHUNKED else None
        self._left = length  # bytes still to come, when their number was declared
        self._held = 0  # bytes of the budget
        self._content = BytesIO()  # hands its bytes out without a copy, so a body never occupies twice its size

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what is not of this body: the next request's bytes.

        :raises ProxyError: why the request is refused.
        """
        data, rest = self._unframed(data)
        if self._held + len(data) > self._limits.max_body:
            raise body_too_large(self._limits)
        if not self._budget.take(len(data)):
            raise too_much_buffered()
        self._held += len(data)
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

    def take(self) -> bytes:
        """The whole body, once it is done. Kept here no longer, it counts until :meth:`release`."""
        content, self._content = self._content.getvalue(), BytesIO()
        return content

    def release(self) -> None:
        """The body is needed no more: its bytes leave the budget. Idempotent."""
        self._budget.give(self._held)
        self._held = 0
