"""HTTP requests that wake an upstream, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, TimeoutError

from txsse.config import model
from txsse.config.wake import read_page
from txsse.upstream.endpoints import ConnectFailed, Target
from txsse.upstream.wake.parts import WakeFailed
from txsse.wire.headers import Headers, get

_AGENT: Final = (b"User-Agent", b"txsse-wake")


@attrs.frozen
class _Step:
    target: Target
    path: str
    method: str
    headers: Headers
    content: bytes
    timeout: float

    @classmethod
    def of(cls, config: model.WakeStep) -> _Step:
        page = read_page(config.url)
        headers = [(name.encode("latin-1"), value.reveal().encode("latin-1")) for name, value in config.headers.items()]
        if get(headers, b"user-agent") is None:
            headers.append(_AGENT)
        return cls(Target.parse(page.address.url), page.target, config.method, headers, config.body.encode(), config.timeout)


class Hook:
    """Sends the steps in order, when called; each begins when the one before it was answered with a 2xx.

    :param reactor: what :func:`txsse.upstream.endpoints.connect` needs.
    :raises Refused: of :mod:`txsse.config.errors`: a URL cannot be used.
    """

    def __init__(self, reactor: Any, steps: Sequence[model.WakeStep]) -> None:
        self._reactor = reactor
        self._steps = [_Step.of(each) for each in steps]

    async def __call__(self) -> None:
        """Send them all. Cancelling resets the connection of the one under way, and the others are not sent.

        :raises WakeFailed: naming the step by its number, and what happened; never its URL.
        """
        for number, step in enumerate(self._steps, 1):
            sending: Deferred[str] = Deferred.fromCoroutine(self._send(step))
            try:
                problem = await sending.addTimeout(step.timeout, self._reactor)
            except TimeoutError:
                problem = "timed out"
            if problem:
                raise WakeFailed(f"wake step {number}: {problem}")

    async def _send(self, step: _Step) -> str:
        """Send one; what is wrong with the answer, or ""."""
        from txsse.upstream.fetch import FetchFailed, fetch  # heavy, and an upstream that stays up is never woken

        try:
            answer = await fetch(self._reactor, step.target, step.path, step.headers, step.timeout, step.method, step.content)
        except (ConnectFailed, FetchFailed) as failure:
            return str(failure)
        return "" if 200 <= answer.status < 300 else f"HTTP {answer.status}"
