"""What the proxy adds, replaces and refuses in heads: CORS, request ids, trusted proxies, hosts, keys, loops; and what it logs of them."""

from __future__ import annotations

import hashlib
import json

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, PLAIN, Bench, error_of
from tests.integration.conftest import Start
from tests.integration.process import CALM, TIMES, route, server, upstream
from txsse.testing import LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, answer, chunk, head, sleep, steps, stream

READY = 'probe = { preset = "none" }\n'
ORIGIN = "Origin: https://app.example"
CONFIG = (
    server('trusted_proxies = ["127.0.0.0/8"]')
    + upstream(more=READY)
    + upstream("keep", READY + 'host = "preserve"\nset_headers = { Authorization = "Bearer backend-key", X-Team = "a" }')
    + upstream("literal", READY + 'host = "model.internal"')
    + upstream("down", port="nowhere")
    + upstream("itself", READY, port="listen")
    + route("keep", "keep", CALM)
    + route("literal", "literal", CALM)
    + route("itself", "itself", CALM)
    + route("cors", "main", 'cors_origins = ["https://app.example"]\n' + TIMES)
    + '[[route]]\nname = "down"\nupstream = "down"\nmatch = { path = "/cold/**" }\ncors_origins = ["https://app.example"]\n'
    + TIMES
    + route(more=CALM)
)
STRICT = (
    server('log_format = "json"\ncold_start_header = ""')
    + '[auth]\nkeys_file = "$keys"\ncookie = "key"\nquery = "k"\n'
    + upstream(more=READY)
    + route(more=CALM)
)


async def test_a_committed_head_carries_cors_fields_for_a_configured_origin(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(b"data: 1\n\n")))
    client = await bench.get(case="cors", headers=["Accept: text/event-stream", ORIGIN])
    response = await client.head()
    gate.open()
    await client.complete()
    assert response.header("access-control-allow-origin") == b"https://app.example"
    assert b"origin" in (response.header("vary") or b"").lower()
    client = await bench.get(case="cors", headers=["Accept: text/event-stream", "Origin: https://evil.example"])
    assert (await client.head()).header("access-control-allow-origin") is None


async def test_an_error_of_ours_carries_them_too_and_the_backends_own_answer_does_not(bench: Bench) -> None:
    client = await bench.post(PLAIN, "/cold/x", [ORIGIN])
    response = await client.complete()
    assert response.status == 503
    assert response.header("access-control-allow-origin") == b"https://app.example"
    await bench.play(steps(REQUEST, answer(b"{}", headers=["Access-Control-Allow-Origin: *"])))
    client = await bench.post(PLAIN, headers=[ORIGIN], case="cors")
    assert (await client.complete()).header_all("access-control-allow-origin") == [b"*"]


async def test_a_preflight_is_answered_here_while_the_backend_is_not_ready(bench: Bench) -> None:
    fields = ["Host: h", ORIGIN, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type, x-y"]
    client = await bench.send(head("OPTIONS /cold/x HTTP/1.1", fields))
    response = await client.complete()
    assert response.status in (200, 204)
    assert response.header("access-control-allow-origin") == b"https://app.example"
    assert b"POST" in (response.header("access-control-allow-methods") or b"")
    assert b"x-y" in (response.header("access-control-allow-headers") or b"").lower()


@pytest.mark.parametrize(("sent", "kept"), [("req:A-1_.", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a/b", False)])
async def test_a_good_request_id_is_kept_and_any_other_made_anew(bench: Bench, sent: str, kept: bool) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await bench.post(PLAIN, headers=[f"X-Request-Id: {sent}"])
    (came,) = (await client.complete()).header_all("x-request-id")
    assert (came == sent.encode()) == kept
    assert bench.upstream.requests[0].header_all("x-request-id") == [came]


async def test_a_trusted_proxys_fields_are_extended(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer()))
    fields = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.example"]
    client = await bench.post(PLAIN, headers=fields)
    await client.complete()
    seen = bench.upstream.requests[0]
    assert b", ".join(seen.header_all("x-forwarded-for")).replace(b" ", b"") == b"203.0.113.9,127.0.0.1"
    assert seen.header("x-forwarded-proto") == b"https"
    assert seen.header("x-forwarded-host") == b"public.example"


async def test_the_host_can_be_kept_or_set_and_fields_added(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(), repeat=True))
    for case in ("keep", "literal"):
        client = await bench.post(PLAIN, headers=["Authorization: Bearer client-key"], case=case)
        await client.complete()
    keep, literal = bench.upstream.requests
    assert keep.header_all("host") == [b"test.example"]
    assert keep.header_all("authorization") == [b"Bearer backend-key"]
    assert keep.header_all("x-team") == [b"a"]
    assert literal.header_all("host") == [b"model.internal"]
    assert literal.header_all("authorization") == [b"Bearer client-key"]


async def test_a_proxy_before_itself_is_noticed(bench: Bench) -> None:
    client = await bench.post(PLAIN, case="itself")
    response = await client.complete()
    assert response.status == 508
    assert error_of(client.body)["code"] == "loop_detected"
    assert error_of(client.body)["type"] == "invalid_request_error"


async def test_another_proxys_via_is_no_loop(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await bench.post(PLAIN, headers=["Via: 1.1 txsse-00000000, 1.0 fred"])
    assert (await client.complete()).status == 200
    via = b", ".join(bench.upstream.requests[0].header_all("via"))
    assert via.startswith(b"1.1 txsse-00000000, 1.0 fred, 1.1 txsse-")


async def test_the_text_line_tells_phases_and_no_secrets(bench: Bench) -> None:
    await bench.play(steps(REQUEST, 0.05, STREAM_HEAD + chunk(b"data: 1\n\n") + LAST_CHUNK))
    target = CHAT + "?api_key=s3cret-query&x=1"
    client = await bench.post(ASK, target, ["X-Request-Id: text-1", "Authorization: Bearer s3cret-header", "Cookie: a=s3cret-cookie"])
    await client.complete()
    line = await bench.logged("request_id=text-1")
    pairs = dict(pair.split("=", 1) for pair in line.split(" "))
    assert pairs["method"] == "POST"
    assert pairs["path"].startswith(CHAT)
    assert (pairs["status"], pairs["route"], pairs["upstream"], pairs["outcome"]) == ("200", "main", "main", "ok")
    assert 0.04 <= float(pairs["first_byte"]) <= float(pairs["total"])
    assert int(pairs["bytes_out"]) == len(b"data: 1\n\n")
    assert int(pairs["bytes_in"]) == len(ASK)
    assert bench.proxy.log.count("text-1") == 1, "one line a request"
    assert "s3cret" not in bench.proxy.log


async def test_a_hostile_target_cannot_write_a_line_of_its_own(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await bench.get("/a%0aforged%20status=200%1b[31m", ["X-Request-Id: hostile-1"])
    await client.complete()
    line = await bench.logged("hostile-1")
    assert line.startswith("time=")
    assert "\x1b" not in bench.proxy.log


# Keys, and the log as JSON.


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> str:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"alice:{hashlib.sha256(b'sk-alice').hexdigest()}\n")
    return STRICT.replace("$keys", str(keys))


async def test_keys_are_asked_for_and_not_passed_on(request: pytest.FixtureRequest, running_proxies: Start, strict: str) -> None:
    proxy = running_proxies(strict)
    request.node.proxies = [proxy]
    bench = Bench(reactor, proxy)
    await bench.play(steps(REQUEST, answer(), repeat=True))
    for fields in ([], ["Authorization: Bearer sk-bob"], ["x-api-key: "]):
        client = await bench.post(PLAIN, headers=fields)
        response = await client.complete()
        assert response.status == 401
        assert error_of(client.body)["code"] == "invalid_api_key"
        assert error_of(client.body)["type"] == "invalid_request_error"
    assert bench.upstream.requests == []
    for number, fields in enumerate(
        (["Authorization: Bearer sk-alice"], ["x-api-key: sk-alice"], ["api-key: sk-alice"], ["Cookie: a=b; key=sk-alice"])
    ):
        client = await bench.post(PLAIN, headers=[*fields, f"X-Request-Id: json-{number}"])
        response = await client.complete()
        assert response.status == 200, fields
        assert response.header("x-txsse-cold-start") is None, "switched off"
    client = await bench.post(PLAIN, CHAT + "?k=sk-alice&v=1")
    assert (await client.complete()).status == 200
    assert b"sk-alice" not in b"".join(bytes(each.received) for each in bench.upstream.connections)
    assert bench.upstream.requests[-1].target.endswith(b"?v=1")
    line = json.loads(await bench.logged('"json-0"'))
    assert (line["status"], line["route"], line["outcome"], line["method"]) == (200, "main", "ok", "POST")
    await sleep(reactor, 0.6)
    assert "sk-" not in proxy.log
    for each in proxy.log.rpartition("\n")[0].splitlines():
        json.loads(each)
    assert proxy.complaints == []
    await bench.close()


async def test_fields_of_strangers_are_replaced(request: pytest.FixtureRequest, running_proxies: Start, strict: str) -> None:
    proxy = running_proxies(strict)
    request.node.proxies = [proxy]
    bench = Bench(reactor, proxy)
    await bench.play(steps(REQUEST, answer(), repeat=True))
    fields = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "Forwarded: for=203.0.113.9"]
    client = await bench.post(PLAIN, headers=["x-api-key: sk-alice", *fields])
    await client.complete()
    seen = bench.upstream.requests[0]
    assert seen.header_all("x-forwarded-for") == [b"127.0.0.1"]
    assert seen.header_all("x-forwarded-proto") == [b"http"]
    assert seen.header_all("x-forwarded-host") == [b"test.example"]
    assert b"203.0.113.9" not in b"".join(seen.header_all("forwarded"))
    await bench.close()
