"""The exchange that asks an upstream for a prediction: held, dispatched and retried as any other, but what comes of it becomes events.

It has no client. What it relays goes through :class:`~txsse.predictions.deltas.Deltas` into the prediction; who follows that is none of its
business, but for one thing: it reads no more from the upstream while nobody reads what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import failures
from txsse.predictions.deltas import Deltas, Told
from txsse.proxy.forwarder import NOWHERE, Forwarder
from txsse.web.prediction import Ending, Prediction
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.dialects import Dialect
    from txsse.dialects.base import Members
    from txsse.interfaces import Request
    from txsse.proxy.conductor import Owner
    from txsse.proxy.routes import BoundRoute

MOST_OF_AN_ERROR: Final = 64 * 1024
"""Bytes of an upstream's error that are read."""
INPUT_TOKENS: Final = "input_token_count"
OUTPUT_TOKENS: Final = "output_token_count"


class Asker(Forwarder):
    """Implements :class:`~txsse.predictions.job.Work`.

    :param prediction: what comes of it.
    :ivar refused: why it came to nothing before anything was sent.
    """

    __slots__ = ("_deltas", "_head", "_prediction", "_wrong", "refused")

    def __init__(
        self, owner: Owner, route: BoundRoute, request: Request, dialect: Dialect, prediction: Prediction, *, members: Members, ident: bytes
    ) -> None:
        assert route.for_predictions is not None
        super().__init__(
            owner,
            route.for_predictions,
            request,
            NOWHERE,
            dialect,
            streaming=True,
            commits=False,
            interval=route.policy.interval,
            members=members,
            show_text=False,
            request_id=ident,
        )
        self.refused: ProxyError | None = None
        self._prediction = prediction
        self._deltas = Deltas(dialect.name)
        self._head: ResponseHead | None = None
        self._wrong = b""  # the body of an error

    # -- as work

    def cancel(self) -> None:
        self._stop("canceled")

    def pause(self) -> None:
        self.client_paused()

    def resume(self) -> None:
        self.client_resumed()

    def _stop(self, status: Ending, error: str | None = None) -> None:
        """End it now, whatever upstream does."""
        self._end(status, error)
        self.client_gone()

    def _end(self, status: Ending, error: str | None = None) -> None:
        if not self._prediction.over:
            self._prediction.end(status, error)

    # -- what a conductor does

    def _send_upstream(self, action: act.Dispatch) -> None:
        if self._prediction.status == "starting":
            self._prediction.start()
        super()._send_upstream(action)

    def _relay_head(self, action: act.RelayHead) -> None:
        head = self._head = action.head
        self.tally.status = head.status
        self._forget_body()
        wrong = None if head.status >= 400 else failures.unexpected(head, self.dialect)
        if wrong is not None:
            self._stop("failed", wrong.message)

    def _relayed(self, data: bytes, now: float) -> None:
        self.wrote = now
        tally, prediction = self.tally, self._prediction
        if tally.first_byte is None:
            tally.first_byte = now
        tally.relayed += len(data)
        if prediction.over:
            return
        if self._head is not None and self._head.status >= 400:
            self._wrong += data[: MOST_OF_AN_ERROR - len(self._wrong)]
            return
        try:
            for text in self._deltas.feed(data):
                prediction.output(text)
                if prediction.over:  # its last reader has left
                    return
        except Told as told:
            self._stop("failed", str(told))

    def _refuse(self, action: act.Refuse) -> None:
        super()._refuse(action)
        if self._prediction.status == "starting":
            self.refused = action.error
        self._end("failed", action.error.message)

    def _finish(self, action: act.Finish) -> None:
        head, prediction = self._head, self._prediction
        if prediction.over:
            return
        if head is not None and head.status >= 400:
            prediction.end("failed", failures.upstream_error(head, self._wrong).message)
            return
        usage, _ = self.usage()
        if usage is not None:
            prediction.metric(INPUT_TOKENS, usage.prompt)
            prediction.metric(OUTPUT_TOKENS, usage.completion)
        prediction.end("succeeded")

    def _done(self, done: act.Done) -> None:
        super()._done(done)
        self._end("failed", "The prediction could not be completed; the log of the server says more.")
