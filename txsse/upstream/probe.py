"""One look at an upstream over the network: connect, ask what its preset says, and give a verdict."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from txsse.config import model
from txsse.interfaces import Fault
from txsse.upstream.endpoints import ConnectFailed, Target, connect
from txsse.upstream.lookout import Verdict
from txsse.upstream.presets import Answer, Judgement, Step, is_loading_answer, preset_of
from txsse.wire.headers import Headers


class Probe:
    """Looks at one upstream when called.

    :param reactor: what :func:`txsse.upstream.endpoints.connect` needs.
    :param headers: the upstream's own ``set_headers``; they may hold its credentials.
    """

    def __init__(self, reactor: Any, target: Target, config: model.Probe, headers: Headers | None = None) -> None:
        self._reactor = reactor
        self._target = target
        self._config = config
        self._headers = headers or []
        self._steps = preset_of(config).steps
        self._decided: Step | None = None

    def move(self, target: Target) -> None:
        """It is there from now on."""
        self._target = target

    def __call__(self) -> Deferred[Verdict]:
        """Look once. The gate limits its time by cancelling it, which resets the connection in whatever phase it is."""
        looking = Deferred.fromCoroutine(self._ask()) if self._steps else self._touch()
        return looking.addErrback(_not_connected)

    def _touch(self) -> Deferred[Verdict]:
        """Connect and close."""
        return connect(self._reactor, self._target, Protocol, self._config.timeout).addCallback(_connected)

    async def _ask(self) -> Verdict:
        from txsse.upstream.fetch import FetchFailed, fetch  # heavy, and an upstream that stays up is asked once

        for step in self._in_order():
            try:
                answer = await fetch(self._reactor, self._target, step.path, self._headers, self._config.timeout)
            except FetchFailed as failure:
                return Verdict(False, detail=str(failure))
            verdict = self._judge(step, answer)
            if verdict is not None:
                self._decided = step
                return verdict
        raise AssertionError("the last step of a preset decides")

    def _in_order(self) -> list[Step]:
        """The step that decided last time first: most backends know one of these pages, and each other one costs a 404."""
        return sorted(self._steps, key=lambda step: step is not self._decided)

    def _judge(self, step: Step, answer: Answer) -> Verdict | None:
        detail = f"HTTP {answer.status}"
        if is_loading_answer(answer.status, answer.body, self._config):
            return Verdict(False, loading=True, detail=detail)
        judgement = step.judge(answer, self._config)
        if judgement is Judgement.UNDECIDED:
            return None
        if judgement is Judgement.READY:
            return Verdict(True)
        return Verdict(False, detail=f"{detail}, unexpected body" if answer.status in self._config.expect else detail)


def _connected(protocol: Protocol) -> Verdict:
    transport: Any = protocol.transport
    transport.abortConnection()  # loseConnection over TLS would wait for the peer's goodbye
    return Verdict(True)


def _not_connected(failure: Failure) -> Verdict:
    error = failure.value
    if not isinstance(error, ConnectFailed):
        failure.raiseException()
    # Refused and unreachable may pass; a certificate that is not to be trusted is somebody's mistake.
    return Verdict(False, detail=error.failed.detail, hopeless=error.failed.fault is Fault.INVALID)
