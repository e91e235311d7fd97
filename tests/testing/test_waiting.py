from __future__ import annotations

import os
import socket

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, LoopingCall

from txsse.testing import Gate, eventually, free_port, pump
from txsse.testing.waiting import KEPT_PORTS, Watch


def test_pump_lets_a_looping_call_tick_each_time() -> None:
    clock = Clock()
    ticks: list[float] = []
    loop = LoopingCall(lambda: ticks.append(clock.seconds()))
    loop.clock = clock
    loop.start(0.1, now=False)
    pump(clock, 1.0, step=0.05)
    loop.stop()
    assert len(ticks) == 10
    assert clock.seconds() == pytest.approx(1.0)


def test_a_gate_lets_everybody_pass_once_it_is_open() -> None:
    gate = Gate()
    early = gate.wait()
    gone = gate.wait()
    gone.cancel()
    assert not early.called
    gate.open()
    assert early.called
    assert gate.wait().called
    assert gone.addErrback(lambda failure: failure.trap(CancelledError)).called


def test_a_watch_releases_those_whose_condition_came_true() -> None:
    seen: list[int] = []
    watch = Watch(Clock())
    one = Deferred.fromCoroutine(watch.until(lambda: len(seen) >= 1, None, lambda: ""))
    two = Deferred.fromCoroutine(watch.until(lambda: len(seen) >= 2, None, lambda: ""))
    seen.append(1)
    watch.look()
    assert (one.called, two.called) == (True, False)
    seen.append(2)
    watch.look()
    assert two.called


def test_a_watch_that_times_out_says_what_was_seen() -> None:
    clock = Clock()
    waiting = Deferred.fromCoroutine(Watch(clock).until(lambda: False, 2.0, lambda: "nothing came"))
    clock.advance(2.0)
    failure: list[str] = []
    waiting.addErrback(lambda reason: failure.append(reason.getErrorMessage()))
    assert failure == ["nothing came within 2.0 s"]


async def test_eventually_gives_up_with_the_name_of_what_it_waited_for() -> None:
    await eventually(reactor, lambda: True)
    with pytest.raises(AssertionError, match="the moon"):
        await eventually(reactor, lambda: False, timeout=0.01, what="the moon")


def test_free_ports_are_ports() -> None:
    assert 1024 < free_port() < 65536


def test_a_free_port_is_kept_for_who_asked_and_refuses_until_then() -> None:
    port = free_port()
    with socket.socket() as stranger, pytest.raises(ConnectionRefusedError):
        stranger.connect(("127.0.0.1", port))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        pass


def test_no_more_than_so_many_ports_are_kept() -> None:
    for _ in range(KEPT_PORTS):
        free_port()
    before = len(os.listdir("/proc/self/fd"))
    free_port()
    assert len(os.listdir("/proc/self/fd")) == before
