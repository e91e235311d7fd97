"""The packet, then the HTTP steps."""

from __future__ import annotations

import errno
from typing import Any

import attrs
import pytest
from twisted.internet import reactor as _reactor

from tests.upstream.wake.test_wol import MAC, FakePort
from txsse.config import model
from txsse.testing import REQUEST, ScriptedUpstream, answer, steps
from txsse.upstream.wake.errands import errands_of
from txsse.upstream.wake.parts import WakeFailed

reactor: Any = _reactor


@attrs.define
class WithPort:
    """The reactor, but for UDP."""

    port: FakePort

    def listenUDP(self, *_: object) -> FakePort:
        return self.port

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def test_without_either_there_is_nothing_to_do() -> None:
    assert errands_of(reactor, model.Wake(exec=("llama-server",))) is None


async def test_the_packet_goes_first_and_each_start_sends_both() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer()))
    await upstream.open()
    port = FakePort()
    errands = errands_of(WithPort(port), model.Wake(wol=MAC, http=(model.WakeStep(url=f"http://127.0.0.1:{upstream.port}/"),)))
    assert errands is not None
    for count in (1, 2):
        running = errands()
        assert len(port.log) == 3 * count
        await running
        assert len(upstream.requests) == count
    await upstream.stop()


async def test_without_the_packet_the_steps_are_not_sent() -> None:
    port = FakePort(OSError(errno.ENETUNREACH, ""))
    errands = errands_of(WithPort(port), model.Wake(wol=MAC, http=(model.WakeStep(url="http://127.0.0.1:1/"),)))
    assert errands is not None
    with pytest.raises(WakeFailed, match="network is unreachable"):
        await errands()


async def test_the_packet_alone_is_enough() -> None:
    port = FakePort()
    errands = errands_of(WithPort(port), model.Wake(wol=MAC))
    assert errands is not None
    await errands()
    assert len(port.log) == 3
