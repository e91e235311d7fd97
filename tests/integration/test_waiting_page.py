"""Before the backend is there: static answers, requests that wake nobody, placeholders, and the page that browsers wait on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from twisted.internet import reactor

from tests.clients.drivers.chromium import OPTIONS
from tests.integration.bench import ASK, PLAIN, Bench, error_of
from tests.integration.process import TIMES, Proxy, route, server, upstream
from tests.timing import BUSY
from txsse.testing import REQUEST, RecordingClient, Response, ScriptedUpstream, answer, eventually, sleep, steps

PAGES = Path(__file__).with_name("pages")
HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
PROBE = 'probe = { preset = "tcp", interval = "50ms" }'
LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')


def placeholder(inside: str, times: str = LONG) -> str:
    return times.replace("[route.keepalive]", f"placeholder = {{ {inside} }}\n[route.keepalive]")


CONFIG = (
    server()
    + upstream()
    + upstream("quiet", port="quiet")  # of which no test waits for readiness
    + upstream("broken", f'{PROBE}\nwake = {{ exec = ["{sys.executable}", "-c", "import time; time.sleep(0.3); exit(3)"] }}', "broken")
    + route("broken", "broken", LONG)
    + route("static", "quiet", 'static = { body = "healthy" }')
    + route("always", "quiet", 'static = { status = 418, body = "{}", when = "always" }')
    + route("quiet", "quiet", 'no_wake = { paths = ["/v1/models", "/api/events", "*.js"], user_agents = ["kube-probe/*"] }\n' + LONG)
    + route("json", more=placeholder("""body = '{"status":"loading"}'"""))
    + route("empty", more=placeholder("status = 503"))
    + route("files", more=placeholder(f'status = 202, file = "{PAGES}/index.html", files = {{ "/styles.css" = "{PAGES}/styles.css" }}'))
    + route("own", more=placeholder(f'page = "always", page_file = "{PAGES}/own.html"'))
    + route("short", more=TIMES)
    + route(more=f'name = "browser"\nmatch = {{ path = "/browser" }}\n{LONG}')
    + route(more=LONG)
)


async def down(bench: Bench, case: str = "short") -> None:
    """The proxy has found out that the backend is down."""
    client = await bench.post(PLAIN, case=case)
    assert (await client.complete()).status == 503


async def get(bench: Bench, target: str = "/", headers: Iterable[str] = (), case: str = "") -> Response:
    client = await bench.get(target, headers, case)
    return await client.complete()


async def ask_until(bench: Bench, body: bytes, case: str, target: str = "/") -> Response:
    """Ask again and again, as those do who were sent away."""
    end = reactor.seconds() + 20
    while bytes((response := await get(bench, target, case=case)).body) != body:
        assert reactor.seconds() < end, response
        await sleep(reactor, 0.05)
    return response


# -- P1 to P5


async def test_p1_a_placeholder_is_sent_until_the_backend_is_there(bench: Bench) -> None:
    await down(bench)
    sent = reactor.seconds()
    for client in [await bench.get("/", (), "json"), await bench.post(ASK, case="json"), await bench.post(PLAIN, case="json")]:
        response = await client.complete()
        assert (response.status, bytes(response.body)) == (503, b'{"status":"loading"}')
        assert response.header("content-type") == b"application/json"
        assert 1 <= int(response.header("retry-after") or b"0") <= 60
    assert reactor.seconds() - sent < BUSY
    await bench.play(steps(REQUEST, answer(b"real"), repeat=True))
    assert (await ask_until(bench, b"real", "json")).status == 200, "to be sent away counts as demand"


async def test_p2_its_body_may_be_empty(bench: Bench) -> None:
    await down(bench)
    response = await get(bench, case="empty")
    assert (response.status, bytes(response.body), response.header("content-type")) == (503, b"", None)


async def test_p3_paths_have_files_of_their_own(bench: Bench) -> None:
    await down(bench)
    for target, body, kind in (
        ("/", (PAGES / "index.html").read_bytes(), b"text/html; charset=utf-8"),
        ("/styles.css", (PAGES / "styles.css").read_bytes(), b"text/css; charset=utf-8"),
        ("/missing.png", b"", b"image/png"),
    ):
        response = await get(bench, target, [HTML], "files")
        assert (response.status, bytes(response.body), response.header("content-type")) == (202, body, kind)


# -- P6 to P8, P11


async def test_p6_static_answers_wake_nobody(bench: Bench) -> None:
    quiet = ScriptedUpstream(reactor, port=bench.proxy.ports["quiet"])
    await quiet.open()
    try:
        for case, status, body in (("static", 200, b"healthy"), ("always", 418, b"{}")):
            response = await get(bench, "/healthz", case=case)
            assert (response.status, bytes(response.body), response.header("x-static")) == (status, body, b"true")
        for target, headers in (("/api/events", ()), ("/a/app.js", ()), ("/chat", ["User-Agent: kube-probe/1.32"])):
            response = await get(bench, target, headers, "quiet")
            assert (response.status, error_of(response.body)["code"]) == (503, "readiness_timeout")
            assert response.header("retry-after")
        await sleep(reactor, 0.3)
        assert quiet.connections == []
    finally:
        await quiet.stop()


async def test_p6_p7_p11_a_ready_backend_answers_itself_and_its_list_is_remembered(bench: Bench) -> None:
    quiet = ScriptedUpstream(reactor, steps(REQUEST, answer(b'{"data":["real"]}'), repeat=True), port=bench.proxy.ports["quiet"])
    listed = await get(bench, "/v1/models", case="quiet")
    assert listed.header("x-txsse-models") == b"configured"
    assert [(each["id"], each["status"]) for each in json.loads(listed.body)["data"]] == [("quiet", {"value": "unloaded"})]
    await quiet.open()
    try:
        client = await bench.post(PLAIN, case="quiet")
        assert (await client.complete()).status == 200
        for case, target in (("static", "/healthz"), ("quiet", "/app.js"), ("quiet", "/v1/models")):
            response = await get(bench, target, case=case)
            assert (bytes(response.body), response.header("x-static")) == (b'{"data":["real"]}', None)
        assert (await get(bench, "/x", case="always")).status == 418
    finally:
        await quiet.stop()
    for _ in range(2):  # the first one finds it gone
        listed = await get(bench, "/v1/models", case="quiet")
        assert (bytes(listed.body), listed.header("x-txsse-models")) == (b'{"data":["real"]}', b"last")
    assert (await get(bench, "/app.js", case="quiet")).status == 503


# -- P10


def token_of(page: Response) -> str:
    found = re.search(rb'data-progress="(/-/hold/[\w-]{22})"', page.body)
    assert found is not None, page.body
    return found[1].decode()


async def test_p10_browsers_get_a_page_streams_a_stream_and_all_others_wait(bench: Bench) -> None:
    await down(bench)
    page = await get(bench, "/chat", [HTML])
    assert (page.status, page.header("content-type"), page.header("cache-control")) == (503, b"text/html; charset=utf-8", b"no-store")
    assert b'http-equiv="refresh"' in page.body
    stream = await bench.get()
    assert (await stream.head()).header("content-type") == b"text/event-stream; charset=utf-8"
    api = await bench.get("/chat", ["Accept: */*"])
    await sleep(reactor, 0.2)
    assert api.reads == []


async def follow(bench: Bench, path: str) -> RecordingClient:
    return await bench.get(path, ["Accept: text/event-stream"])


async def test_the_page_follows_its_token_until_the_backend_is_ready(bench: Bench) -> None:
    await down(bench)
    path = token_of(await get(bench, headers=[HTML]))
    began = reactor.seconds()
    client = await follow(bench, path)
    head = await client.head()
    assert (head.status, head.header("content-type")) == (200, b"text/event-stream; charset=utf-8")
    await client.until(lambda: len(client.events) >= 3)
    told = [json.loads(each.data) for each in client.events]
    assert {each.type for each in client.events} == {"progress"}
    assert [each["elapsed"] for each in told] == sorted(each["elapsed"] for each in told)
    assert {each["state"] for each in told} == {"down"}
    times = [at for at, data in client.body_reads if b"progress" in data]
    assert times[2] - began >= 1.9, "each second"
    await bench.play(steps(REQUEST, answer(b"<h1>real</h1>", headers=["Content-Type: text/html"]), repeat=True))
    await client.complete()
    assert client.events[-1].type == "ready"
    assert bytes((await get(bench, headers=[HTML])).body) == b"<h1>real</h1>"
    again = await follow(bench, path)
    await again.complete()
    assert [each.type for each in again.events] == ["ready"]


async def test_a_token_that_nobody_was_given_leads_nowhere(bench: Bench) -> None:
    for path in ("/-/hold/" + "A" * 22, "/-/hold/", "/-/hold/x?y"):
        client = await follow(bench, path)
        assert (await client.complete()).status == 404
    assert bench.upstream.connections == []


async def test_a_start_that_fails_is_told_on_the_page(bench: Bench) -> None:
    page = await get(bench, headers=[HTML], case="broken")
    client = await follow(bench, token_of(page))
    await client.complete()
    assert client.events[-1].type == "failed"
    assert re.search(r"broken did not become ready: .*status 3", json.loads(client.events[-1].data)["message"])
    again = await get(bench, headers=[HTML], case="broken")
    assert again.header("content-type") == b"text/html; charset=utf-8" and b"State: failing" in again.body
    client = await follow(bench, token_of(again))
    await client.complete()
    assert [each.type for each in client.events] == ["failed"]
    api = await bench.post(PLAIN, case="broken")
    assert error_of((await api.complete()).body)["code"] == "wake_failed"


async def test_an_own_template(bench: Bench) -> None:
    await down(bench)
    page = await get(bench, headers=[HTML], case="own")
    assert b"<title>main</title>\n<p>down" in page.body
    client = await follow(bench, token_of(page))
    await client.contains(b"event: progress")


async def test_who_leaves_the_page_is_noticed(bench: Bench) -> None:
    await down(bench)
    client = await follow(bench, token_of(await get(bench, headers=[HTML])))
    await client.contains(b"event: progress")
    open_before = bench.proxy.descriptors()
    client.close()
    await client.gone()
    await eventually(reactor, lambda: bench.proxy.descriptors() < open_before)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[list[str]]:
    """The command that opens a page: its address is to be added. What was started with it is ended by its own id."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium")
    yield [program, *OPTIONS, f"--user-data-dir={tmp_path}/profile"]


async def test_a_real_browser_shows_the_answer_by_itself(bench: Bench, browser: list[str]) -> None:
    await down(bench)
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(
        [*browser, f"http://127.0.0.1:{bench.proxy.port}/browser?a=b"], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        while await bench.metric("txsse_requests_total", code="503", route="browser") < 1:
            await sleep(reactor, 0.1)
        await sleep(reactor, 0.5)
        real = b"<!doctype html><title>real</title><script>fetch('/seen-' + document.title + location.search)</script>"
        await bench.play(steps(REQUEST, answer(real, headers=["Content-Type: text/html"]), repeat=True))
        # Sooner than it would try by itself if it heard nothing.
        await eventually(reactor, lambda: any(each.start.startswith(b"GET /seen-real?a=b ") for each in bench.upstream.requests), 5)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(10)
    asked = [each.start for each in bench.upstream.requests if each.start.startswith(b"GET /browser")]
    assert asked == [b"GET /browser?a=b HTTP/1.1"], "once, and only when it was ready"


def test_a_file_that_is_missing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"route\.hold\.placeholder\.file \(route 1\): '/nowhere/loading\.html' cannot be read"):
        Proxy(server() + upstream() + route(more='hold = { placeholder = { file = "/nowhere/loading.html" } }'), tmp_path)
