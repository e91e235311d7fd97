"""Upstreams that the proxy starts and stops, through the real command line, with processes, packets and requests that wake them."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import ASK, DONE, PLAIN, Bench, ch, error_of, is_cut, last_error
from tests.integration.process import Proxy, route, server
from tests.timing import BUSY
from tests.upstream.wake.processes import lives
from txsse.testing import REQUEST, RecordingClient, Response, Script, ScriptedUpstream, answer, eventually, head, sleep, steps, stream

MODEL = Path(__file__).with_name("model_server.py")
TIMES = """
[route.hold]
timeout = "60s"
commit_after = "50ms"
[route.keepalive]
commit_after = "50ms"
interval = "100ms"
heartbeat = 0
"""
MAC = "00:1b:63:84:45:e6"


def started(name: str, mode: str = "serve", seconds: float = 0.2, *, wake: str = "", more: str = "") -> str:
    """An upstream that is a process of the proxy's, and its route."""
    command = json.dumps([sys.executable, "-I", "-S", str(MODEL), "$${PORT}", "FOLDER", name, mode, str(seconds)])
    table = (
        f'[[upstream]]\nname = "{name}"\nurl = "http://127.0.0.1:$${{PORT}}"\n{more}\n[upstream.probe]\npreset = "tcp"\ninterval = "50ms"\n'
    )
    return f"{table}[upstream.wake]\nexec = {command}\n{wake}\n{route(name, name, TIMES)}"


def woken(name: str, wake: str) -> str:
    """An upstream elsewhere that something wakes, and its route."""
    table = f'[[upstream]]\nname = "{name}"\nurl = "http://127.0.0.1:$main"\n[upstream.probe]\npreset = "tcp"\ninterval = "50ms"\n'
    return f"{table}[upstream.wake]\n{wake}\n{route(name, name, TIMES)}"


CONFIG = (
    server('state_dir = "FOLDER/state"\ndrain = "10s"')
    + started("plain")
    + started("ordered")
    + started("broken", "exit", wake='cooldown = "60s"')
    + started("idle", wake='stop_after_idle = "300ms"')
    + started("slow", seconds=60, wake='cancel_after = "100ms"')
    + started("one", more='group = "gpu"')
    + started("two", more='group = "gpu"')
    + woken("hook", 'http = [{ url = "http://127.0.0.1:$hook/wake_up?level=1" }, { url = "http://127.0.0.1:$hook/reset", method = "PUT" }]')
    + woken("lan", f'wol = "{MAC}"\nwol_broadcast = "127.0.0.1:$udp"')
    + woken("refuses", 'http = [{ url = "http://127.0.0.1:$hook/wake_up" }]')
)


class World(Bench):
    """A proxy of one's own, and the folder in which its processes meet."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        super().__init__(reactor, proxy)
        self.folder = folder
        self._hook: ScriptedUpstream | None = None

    async def hook(self, script: Script) -> ScriptedUpstream:
        """Who is asked to wake an upstream; stopped at the end."""
        self._hook = ScriptedUpstream(self.reactor, script, port=self.proxy.ports["hook"])
        await self._hook.open()
        return self._hook

    async def close(self) -> None:
        await super().close()
        if self._hook is not None:
            await self._hook.stop()

    def pid(self, name: str) -> int:
        """Of the model *name*; 0 before its first start."""
        file = self.folder / f"{name}.pid"
        return int((file.read_text() if file.exists() else "") or 0)

    def runs(self, name: str) -> bool:
        return bool(self.pid(name)) and lives(self.pid(name))

    def hold(self, name: str) -> None:
        """Have the model *name* load until it is let go on."""
        (self.folder / f"{name}.hold").touch()

    def load(self, name: str) -> None:
        (self.folder / f"{name}.hold").unlink()

    def go(self, name: str) -> None:
        """Let the streams of the model *name* end."""
        (self.folder / f"{name}.go").touch()

    async def ask(self, name: str, body: bytes = ASK) -> RecordingClient:
        return await self.post(body, case=name)

    async def ends(self, name: str) -> None:
        await eventually(reactor, lambda: not self.runs(name), what=f"the end of {name}")

    async def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(bytes((await self.trusted("/status")).body))["upstreams"][name]
        return found

    async def order(self, what: str) -> int:
        return (await self.trusted(f"/upstreams/{what}", "POST")).status

    async def trusted(self, target: str, method: str = "GET") -> Response:
        """The answer of a page of the admin listener that is not for strangers."""
        client = await self.send(
            head(f"{method} {target} HTTP/1.1", ["Host: localhost", "Connection: close", "Content-Length: 0"]), self.admin_port
        )
        return await client.complete()

    @property
    def admin_port(self) -> int:
        return self.proxy.ports["admin"]

    async def demand(self, name: str) -> dict[str, int]:
        found: dict[str, int] = json.loads(bytes((await self.admin("/queue")).body))[name]
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Proxy]:
    """One proxy for the tests that can share it: each has upstreams of its own."""
    proxy = Proxy(CONFIG.replace("FOLDER", str(folder)), folder)
    yield proxy
    assert proxy.stop() == 0, proxy.log
    assert proxy.complaints == [], proxy.log


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def world(request: pytest.FixtureRequest, running: Proxy, folder: Path) -> AsyncIterator[World]:
    request.node.proxies = [running]
    made = World(running, folder)
    yield made
    await made.close()


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose proxy the test may end."""
    configuration = (server('drain = "10s"') + started("plain") + started("old")).replace("FOLDER", str(tmp_path))
    made = World(Proxy(configuration, tmp_path), tmp_path)
    request.node.proxies = [made.proxy]
    yield made
    await made.close()
    made.proxy.stop()
    assert made.proxy.complaints == []


async def test_the_first_request_starts_it_and_is_answered_by_it(world: World) -> None:
    assert not world.runs("plain")
    assert await world.demand("plain") == {"pending": 0, "active": 0, "demand": 0}
    world.hold("plain")
    client = await world.ask("plain")
    await client.contains(b'"state":"waking"')
    assert (await world.demand("plain"))["demand"] == 1
    status = await world.status("plain")
    assert status["state"] == "waking"
    assert status["elapsed"] > 0
    world.load("plain")
    world.go("plain")
    await client.complete()
    assert client.response.header("x-txsse-cold-start") == b"true"
    assert client.body.endswith(b"data: hello plain\n\n" + DONE)
    status = await world.status("plain")
    assert (status["state"], status["output"], status["elapsed"]) == ("ready", "plain loads weights\n", None)
    assert status["slots"] == {"number": 0, "taken": 0}
    assert await world.metric("txsse_wakes_total", upstream="plain", result="ready") == 1
    assert await world.metric("txsse_upstream_state", upstream="plain", state="ready") == 1
    assert await world.metric("txsse_upstream_state", upstream="plain") == 1
    assert await world.demand("plain") == {"pending": 0, "active": 0, "demand": 1}, "it was ready a moment ago"
    assert len(json.loads((world.folder / "state" / "starts.json").read_text())["starts"]["plain"]) == 1


async def test_it_is_stopped_and_started_by_the_administrator_and_the_eta_is_known_then(world: World) -> None:
    client = await world.ask("ordered")
    world.go("ordered")
    await client.complete()
    first = world.pid("ordered")
    assert await world.order("ordered/stop") == 202
    await world.ends("ordered")
    await world.logged("ordered: stopping -> down")
    assert (await world.status("ordered"))["eta"] > 0
    world.hold("ordered")
    assert await world.order("ordered/wake") == 202
    client = await world.ask("ordered")
    await client.contains(b'"eta":0')
    world.load("ordered")
    await client.complete()
    assert world.runs("ordered")
    assert world.pid("ordered") != first
    assert await world.order("main/wake") == 404


async def test_an_exit_before_it_is_ready_ends_every_wait_at_once_and_is_told_without_its_output(world: World) -> None:
    began = reactor.seconds()
    committed, silent = await world.ask("broken"), await world.ask("broken", PLAIN)
    response = await silent.complete()
    await is_cut(committed)
    assert reactor.seconds() - began < 20, "the hold would last longer"
    for error in (last_error(committed), error_of(silent.body)):
        assert error["code"] == "wake_failed"
        assert "its process exited with status 3" in str(error["message"])
    assert response.status == 503
    assert 40 <= int(response.header("retry-after") or 0) <= 60
    again = await world.ask("broken")
    response = await again.complete()
    assert (response.status, error_of(again.body)["code"]) == (503, "wake_failed")
    assert 20 <= int(response.header("retry-after") or 0) <= 60
    for client in (committed, silent, again):
        assert b"CUDA" not in client.received
    status = await world.status("broken")
    assert (status["state"], status["output"]) == ("failing", "broken loads weights\nCUDA out of memory\n")
    await world.logged("CUDA out of memory")
    assert await world.metric("txsse_wakes_total", upstream="broken", result="failed") == 1


async def test_an_idle_one_is_stopped_and_an_open_stream_is_not_idle(world: World) -> None:
    client = await world.ask("idle")
    await client.contains(b"hello idle")
    await sleep(reactor, 0.7)
    assert world.runs("idle")
    finished = reactor.seconds()
    world.go("idle")
    await client.complete()
    await world.ends("idle")
    assert 0.25 <= reactor.seconds() - finished < 0.3 + BUSY


async def test_a_start_nobody_waits_for_is_given_up(world: World) -> None:
    client = await world.ask("slow")
    await eventually(reactor, lambda: world.runs("slow"), what="its start")
    client.close()
    await world.ends("slow")
    await eventually(reactor, lambda: "slow: stopping -> down" in world.proxy.log)
    assert await world.metric("txsse_wakes_total", upstream="slow", result="cancelled") == 1


async def test_of_a_group_one_runs_at_a_time_and_a_busy_one_is_waited_for(world: World) -> None:
    one = await world.ask("one")
    await one.contains(b"hello one")
    two = await world.ask("two")
    await two.contains(b'"state":"down"')
    await sleep(reactor, 0.3)
    assert world.runs("one") and not world.runs("two")
    assert not one.closed
    world.go("one")
    await one.complete()
    await two.contains(b"hello two")
    assert world.runs("two") and not world.runs("one")
    world.go("two")
    await two.complete()
    back = await world.ask("one")
    await back.complete()
    assert back.body.endswith(DONE)
    assert world.runs("one") and not world.runs("two")


async def test_http_steps_are_sent_in_order_and_once_for_all_who_wait(world: World) -> None:
    hook = await world.hook(steps(REQUEST, 0.1, answer(b"ok"), REQUEST, answer(b"ok"), repeat=True))
    clients = [await world.ask("hook") for _ in range(3)]
    await eventually(reactor, lambda: len(hook.requests) == 2, what="both steps")
    await world.play(steps(REQUEST, stream(ch("up"), DONE), repeat=True))
    for client in clients:
        await client.complete()
        assert client.body.endswith(ch("up") + DONE)
    assert [(each.method, each.target) for each in hook.requests] == [(b"POST", b"/wake_up?level=1"), (b"PUT", b"/reset")]


async def test_a_step_that_is_refused_fails_the_start(world: World) -> None:
    await world.hook(steps(REQUEST, answer(b"no", "500 No")))
    client = await world.ask("refuses", PLAIN)
    assert (await client.complete()).status == 503
    assert error_of(client.body)["message"] == "The upstream refuses could not be started: wake step 1: HTTP 500. Try again later."


async def test_a_packet_wakes_another_machine(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", world.proxy.ports["udp"]))
        card.setblocking(False)
        packets: list[bytes] = []

        def came() -> bool:
            try:
                packets.append(card.recv(1024))
            except BlockingIOError:
                return False
            return True

        client = await world.ask("lan")
        await eventually(reactor, came, what="the packet")
        await client.contains(b'"state":"waking"')
        await world.play(steps(REQUEST, stream(ch("up"), DONE), repeat=True))
        await client.complete()
        assert client.body.endswith(ch("up") + DONE)
        assert not came()
    assert packets == [b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) * 16]


async def test_a_reload_adds_and_removes_them_and_streams_come_to_their_end(own: World) -> None:
    client = await own.ask("old")
    await client.contains(b"hello old")
    configuration = (server('drain = "10s"') + started("plain") + started("new")).replace("FOLDER", str(own.folder))
    own.proxy.configure(configuration)
    own.proxy.signal(signal.SIGHUP)
    await own.logged("reloaded")
    other = await own.ask("new")
    await other.contains(b"hello new")
    assert own.runs("old")
    own.go("old")
    await client.complete()
    assert client.body.endswith(DONE)
    await own.ends("old")
    assert own.runs("new")


async def test_its_own_end_is_theirs(own: World) -> None:
    client = await own.ask("plain")
    await client.contains(b"hello plain")
    own.proxy.signal(signal.SIGTERM)
    await sleep(reactor, 0.2)
    assert own.runs("plain"), "a stream is open"
    own.go("plain")
    await client.complete()
    await eventually(reactor, lambda: own.proxy.returncode is not None, what="the end of the proxy")
    assert own.proxy.returncode == 0
    assert not own.runs("plain")


async def test_a_proxy_that_is_killed_leaves_none_behind(own: World) -> None:
    client = await own.ask("plain")
    await client.contains(b"hello plain")
    own.proxy.signal(signal.SIGKILL)
    await own.ends("plain")  # which may be before the kernel has put the proxy away
    await eventually(reactor, lambda: own.proxy.returncode is not None, what="the end of the proxy")
