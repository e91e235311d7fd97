"""The admin listener: who may ask it what, and what it says."""

from __future__ import annotations

import json

import pytest

from tests.integration.bench import DONE, PLAIN, Bench, ch
from tests.integration.process import TIMES, route, server, upstream
from txsse.testing import REQUEST, Gate, Response, answer, head, steps, stream

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server('admin_hosts = ["ops.example"]\nadmin_token = "s3cret-token"')
    + upstream(more='probe = { preset = "none" }\n')
    + upstream("down", port="nowhere")
    + route("down", "down", LONG)
    + route()
)
OPEN = ["/healthz", "/readyz", "/metrics", "/queue"]
TOKEN = "Authorization: Bearer s3cret-token"


async def ask(bench: Bench, target: str, fields: list[str], method: str = "GET") -> Response:
    client = await bench.client(bench.proxy.ports["admin"])
    client.send(head(f"{method} {target} HTTP/1.1", [*fields, "Connection: close"]))
    return await client.complete()


@pytest.mark.parametrize("target", OPEN)
@pytest.mark.parametrize("fields", [["Host: evil.example"], ["Host: 127.0.0.1", "Origin: http://evil.example"]])
async def test_four_paths_are_open_to_everybody(bench: Bench, target: str, fields: list[str]) -> None:
    assert (await ask(bench, target, fields)).status == 200


@pytest.mark.parametrize("target", ["/", "/status"])
async def test_all_else_is_for_those_who_know_the_token(bench: Bench, target: str) -> None:
    assert (await ask(bench, target, ["Host: 127.0.0.1"])).status == 401
    assert (await ask(bench, target, ["Host: 127.0.0.1", "Authorization: Bearer wrong"])).status == 401
    for host in ("127.0.0.1", "127.0.0.1:9180", "localhost:1", "[::1]:80", "ops.example"):
        assert (await ask(bench, target, [f"Host: {host}", TOKEN])).status == 200, host


@pytest.mark.parametrize(
    "fields",
    [
        ["Host: evil.example"],
        ["Host: 127.0.0.1.evil.example"],
        ["Host: 127.0.0.1", "Origin: http://evil.example"],
        ["Host: 127.0.0.1", "Origin: null"],
        ["Host: 127.0.0.1", "Sec-Fetch-Site: cross-site"],
    ],
)
async def test_pages_of_strangers_are_refused_even_with_the_token(bench: Bench, fields: list[str]) -> None:
    response = await ask(bench, "/status", [*fields, TOKEN])
    assert response.status in (403, 421)
    assert b"upstreams" not in response.body


async def test_the_same_origin_is_none_of_a_stranger(bench: Bench) -> None:
    port = bench.proxy.ports["admin"]
    fields = [f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: same-origin", TOKEN]
    assert (await ask(bench, "/status", fields)).status == 200


async def test_only_reading_is_allowed_on_what_only_shows(bench: Bench) -> None:
    assert (await ask(bench, "/status", ["Host: 127.0.0.1", TOKEN, "Content-Length: 0"], "POST")).status == 405


async def test_ready_when_no_upstream_is(bench: Bench) -> None:
    client = await bench.post(case="down")
    await client.head()
    assert (await ask(bench, "/readyz", ["Host: h"])).status == 200


async def test_the_queue_shows_demand_from_the_first_held_request(bench: Bench) -> None:
    async def queue(upstream: str) -> dict[str, int]:
        response = await ask(bench, "/queue", ["Host: h"])
        assert response.header("content-type") == b"application/json"
        found: dict[str, int] = json.loads(bytes(response.body))[upstream]
        return found

    assert await queue("main") == {"pending": 0, "active": 0, "demand": 0}
    held = await bench.post(PLAIN, case="down")
    await bench.until(lambda: queue("down"), {"pending": 1, "active": 0, "demand": 1})
    held.close()
    await held.gone()
    await bench.until_waiting(0, "down")
    assert await queue("down") == {"pending": 0, "active": 0, "demand": 1}, "it is still to become ready"


async def test_status_tells_states_and_no_secrets(bench: Bench) -> None:
    client = await bench.post(case="down")
    await client.head()
    status = json.loads(bytes((await ask(bench, "/status", ["Host: 127.0.0.1", TOKEN])).body))
    assert status["upstreams"]["down"]["waiting"] == 1
    assert status["upstreams"]["down"]["state"] != "ready"
    assert "refused" in status["upstreams"]["down"]["last_error"].lower()
    assert "s3cret" not in json.dumps(status)


async def test_metrics_count_what_happened(bench: Bench) -> None:
    names = ["txsse_keepalives_total", "txsse_relayed_bytes_total", "txsse_requests_total", "txsse_first_byte_seconds_count"]
    before = [await bench.metric(name) for name in names]
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(ch("a"), DONE)))
    client = await bench.post()
    await client.until(lambda: client.responses and len(client.comments) >= 2)
    gate.open()
    await client.complete()
    after = [await bench.metric(name) for name in names]
    keepalives, relayed, requests, first = (new - old for old, new in zip(before, after, strict=True))
    assert keepalives >= 2
    assert relayed >= len(ch("a") + DONE)
    assert requests == 1
    assert first == 1
    text = bytes((await ask(bench, "/metrics", ["Host: h"])).body).decode()
    for name in ("txsse_in_flight", "txsse_waiting", "txsse_hold_seconds_bucket", "txsse_upstream_state", "process_open_fds"):
        assert name in text, name
    assert 'le="1800.0"' in text
    assert str(bench.upstream.port) not in text, "labels are bounded: no hosts"


async def test_rejections_are_counted_by_their_code(bench: Bench) -> None:
    before = await bench.metric("txsse_rejections_total", reason="bad_request")
    client = await bench.send(b"GET / HTTP/1.1\r\n\r\n")
    await client.gone()
    assert await bench.metric("txsse_rejections_total", reason="bad_request") == before + 1


@pytest.mark.parametrize("target", ["/healthz", "/metrics", "/-/streams/x", "/status"])
async def test_the_main_listener_has_none_of_these(bench: Bench, target: str) -> None:
    await bench.play(steps(REQUEST, answer(b"the backend's own")))
    client = await bench.get(target, [])
    await client.complete()
    assert client.body == b"the backend's own"


async def test_the_wait_is_counted_while_it_lasts(bench: Bench) -> None:
    client = await bench.post(case="down")
    await client.head()
    assert await bench.metric("txsse_waiting", upstream="down") == 1
    assert await bench.metric("txsse_in_flight", route="down") == 1
    client.reset()
    await client.gone()
    await bench.until_waiting(0, "down")
