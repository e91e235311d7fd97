"""Every dialect and every style through the real process: the bytes of a cold start, a silence, a failure, and what follows the end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from twisted.internet import reactor

from tests.exchange.spoken import SPOKEN, Spoken, responses_error
from tests.integration.bench import ASK, CHAT, DONE, PLAIN, Bench, ch, error_of, is_cut
from tests.integration.process import CALM, PATIENT, TIMES, route, server, upstream
from tests.timing import at_best
from txsse.testing import (
    LAST_CHUNK,
    REQUEST,
    RESET,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    head,
    sleep,
    steps,
    stream,
)

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
WAKING = "Model is waking up..."


def held(more: str = "", keepalive: str = "") -> str:
    """Fast times, with *more* in the table of the hold and *keepalive* in that of the keepalives."""
    return LONG.replace("[route.keepalive]", f"{more}\n[route.keepalive]\n{keepalive}")


def styled(name: str, hold: str = 'timeout = "60s"', interval: str = "100ms") -> str:
    return f'[route.hold]\nstyle = "{name}"\n{hold}\n[route.keepalive]\ninterval = "{interval}"\n'


CONFIG = (
    server('max_body = "64KiB"')
    + upstream()
    + upstream("warm", 'probe = { preset = "none" }\n')
    + route("text", more=held('message = "Waking {model}"\nchannel = "content"'))
    + route("thought", more=held('message = "Waking {model}"'))
    + route("quiet", more=held())
    + route("quick", more="hold = { timeout = '40ms', commit_after = '10ms' }")
    + route("short")
    + route("keda", more=styled("keda", f'timeout = "60s"\nmessage = "{WAKING}"'))
    + route("keda-short", more=styled("keda", f'timeout = "100ms"\nmessage = "{WAKING}"', "50ms"))
    + route("llama-swap", more=styled("llama-swap"))
    + route("llama-swap-short", more=styled("llama-swap", 'timeout = "150ms"', "50ms"))
    + route("hearth", more=styled("hearth"))
    + route("ds4", "warm", styled("ds4") + 'commit_after = "50ms"')
    + route("json", "warm", held(keepalive='json = "whitespace"'))
    + route("json-cold", more=held(keepalive='json = "whitespace"'))
    + route("midstream", "warm", held(keepalive="heartbeat_midstream = true").replace("heartbeat = 0", 'heartbeat = "700ms"'))
    + route("normalise", "warm", CALM + "normalise = true\n")
    + route("calm", "warm", CALM)
    + route("json-calm", "warm", CALM + 'json = "whitespace"\n')
    + route("early", "warm", PATIENT)
    + route("known", "warm", LONG).replace("match =", 'dialect = "sse"\nmatch =')
    + route("done", "warm", LONG + "[route.stream]\nrequire_done = true\n")
    + route(to="warm")
)
PATHS: Mapping[str, str] = {
    "openai-chat": CHAT,
    "openai-completions": "/v1/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "ollama": "/api/chat",
    "ollama generate": "/api/generate",
    "sse": "/events",
}
STATUS = rb': txsse \{"state":"[a-z]+","elapsed":[0-9]+\.[0-9]\}\n'


async def down(bench: Bench) -> None:
    """The proxy has found out that the backend is down: an earlier test may have left it for ready."""
    client = await bench.post(PLAIN, case="quick")
    assert (await client.complete()).status == 503


async def ask(bench: Bench, name: str, case: str = "", stream: bool = True) -> RecordingClient:
    """A request in a dialect; Ollama streams without being told to."""
    if name == "sse" and stream:
        return await bench.get(case=case)
    told = "" if name.startswith("ollama") and stream else f',"stream":{str(stream).lower()}'
    return await bench.post(b'{"model":"tiny"%b}' % told.encode(), PATHS[name], case=case)


async def said(client: RecordingClient, times: int) -> None:
    """Wait until it has been told something so many times."""
    await client.until(lambda: len(client.body_reads) >= times)


def spoken_at(target: bytes) -> Spoken:
    return next(SPOKEN[name] for name, path in PATHS.items() if path.encode() == target)


def settled(body: bytes) -> bytes:
    """Our frames with the token and the time of :data:`tests.exchange.playbook.SPEAKER` instead of those of this exchange."""
    body = re.sub(rb"(txsse[-_])[0-9a-f]{16}", rb"\g<1>0123456789abcdef", body)
    body = re.sub(rb'"(created|created_at)":[0-9]{10}\b', rb'"\1":1700000000', body)
    return re.sub(rb'"created_at":"[-0-9T:]+Z"', b'"created_at":"2023-11-14T22:13:20Z"', body)


def answers(body: bytes, spoken: Spoken) -> bytes:
    kind = spoken.head.headers[0][1].decode()
    return head("HTTP/1.1 200 OK", [f"Content-Type: {kind}", "Transfer-Encoding: chunked"]) + chunk(body) + LAST_CHUNK


async def speak(bench: Bench) -> None:
    """The backend answers each path in its own dialect."""

    async def play(connection: UpstreamConnection) -> None:
        while True:
            spoken = spoken_at((await connection.request()).target)
            connection.send(answers(spoken.opening + spoken.event + spoken.ending, spoken))

    await bench.play(play)


def pattern(*parts: bytes | tuple[bytes, str]) -> re.Pattern[bytes]:
    """Bytes as they are; with ``+`` or ``*`` as often."""
    said = [re.escape(part) if isinstance(part, bytes) else b"(?:%b)%b" % (part[0], part[1].encode()) for part in parts]
    return re.compile(b"".join(said))


# -- a cold start


@pytest.mark.parametrize(("case", "channel"), [("text", "content"), ("thought", "reasoning")])
async def test_a_message_in_every_dialect(bench: Bench, case: str, channel: str) -> None:
    await down(bench)
    clients = {name: await ask(bench, name, case) for name in PATHS}
    for client in clients.values():
        await said(client, 2)
    await speak(bench)
    for name, client in clients.items():
        spoken = SPOKEN[name]
        response = await client.complete()
        assert response.header("x-txsse-cold-start") == b"true"
        assert response.header("content-type") == spoken.dialect.content_type
        theirs = spoken.opening + spoken.event + spoken.ending
        sign = (re.escape(spoken.sign), "*")
        if spoken.texts is None:
            expected = pattern((STATUS, "+"), sign, theirs)
        else:
            first, more = (text(channel, said) for text, said in zip(spoken.texts, ("Waking tiny", "."), strict=True))
            passed = spoken.after_message + spoken.ending if spoken.after_message else theirs
            expected = pattern(first, (re.escape(more), "+"), sign, spoken.separator(channel), passed)
        assert expected.fullmatch(settled(client.body)), (name, client.body)


async def test_without_a_message_there_are_only_signs_of_life(bench: Bench) -> None:
    await down(bench)
    clients = {name: await ask(bench, name, "quiet") for name in PATHS}
    for client in clients.values():
        await said(client, 2)
    await speak(bench)
    for name, client in clients.items():
        spoken = SPOKEN[name]
        await client.complete()
        status = b" " if spoken.dialect.by_lines else STATUS
        theirs = spoken.opening + spoken.event + spoken.ending
        assert pattern((status, "+"), (re.escape(spoken.sign), "*"), theirs).fullmatch(client.body), (name, client.body)


# -- failures


async def test_before_the_commit_an_error_has_the_shape_of_the_dialect(bench: Bench) -> None:
    await down(bench)
    clients = {name: await ask(bench, name, "short", stream=False) for name in PATHS}
    for name, client in clients.items():
        response = await client.complete()
        assert response.status == 503
        assert 1 <= int(response.header("retry-after") or b"0") <= 60
        found = json.loads(client.body)
        message = found["error"] if name.startswith("ollama") else found["error"]["message"]
        assert message.startswith("The upstream main was not ready within 0.3 s")
        if name == "anthropic":
            assert found == {"type": "error", "error": {"type": "overloaded_error", "message": message, "code": "readiness_timeout"}}
        elif name.startswith("ollama"):
            assert found == {"error": message}
        else:
            error = {"message": message, "type": "server_error", "param": None, "code": "readiness_timeout"}
            assert found == {"error": error}


@pytest.mark.parametrize(
    ("head", "status", "kind"),
    [
        (b"POST /v1/messages?key=secret HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000, 431, "request_too_large"),
        (b"POST /v1/messages HTTP/1.1\r\nX: y\r\n\r\n", 400, "invalid_request_error"),
    ],
)
async def test_also_those_of_heads_that_cannot_be_read(head: bytes, status: int, kind: str, bench: Bench) -> None:
    client = await bench.send(head)
    assert (await client.complete()).status == status
    told = json.loads(client.body)
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert "key=secret" not in bench.proxy.log


async def test_refusals_of_the_front_have_it_too(bench: Bench) -> None:
    shapes = {}
    for name in ("openai-chat", "anthropic", "ollama"):
        client = await bench.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" % PATHS[name].encode())
        assert (await client.complete()).status == 413
        shapes[name] = json.loads(client.body)
    assert shapes["openai-chat"]["error"]["code"] == shapes["anthropic"]["error"]["code"] == "body_too_large"
    assert shapes["anthropic"]["type"] == "error"
    assert shapes["anthropic"]["error"]["type"] == "request_too_large"
    assert isinstance(shapes["ollama"]["error"], str)


async def test_e1_e2_e3_what_never_becomes_ready_is_told_in_every_dialect(bench: Bench) -> None:
    await down(bench)
    clients = {name: await ask(bench, name, "short") for name in PATHS}
    for name, client in clients.items():
        spoken = SPOKEN[name]
        await is_cut(client)
        text = "The upstream main was not ready within 0.3 s (it is down, connection refused). Try again later."
        status = b" " if spoken.dialect.by_lines else STATUS
        frame = spoken.error(text, "readiness_timeout", "server_error", "overloaded_error")
        assert pattern((status, "+"), frame).fullmatch(settled(client.body)), client.body
    assert bench.upstream.connections == []


async def test_a_death_inside_an_event_is_told_in_every_dialect(bench: Bench) -> None:
    """What came of it is dropped; then the frame, and no clean end."""
    gate = Gate()

    async def play(connection: UpstreamConnection) -> None:
        spoken = spoken_at((await connection.request()).target)
        await gate.wait()
        connection.send(answers(spoken.opening + spoken.event + b'data: {"half"', spoken).removesuffix(LAST_CHUNK))
        await sleep(reactor, 0.05)
        connection.reset()

    await bench.play(play)
    clients = {name: await ask(bench, name) for name in PATHS}
    for client in clients.values():
        await client.head()
    gate.open()
    for name, client in clients.items():
        spoken = SPOKEN[name]
        await is_cut(client)
        text = "The upstream disconnected before its answer was complete."
        frame = spoken.error(text, "upstream_disconnected", "server_error", "api_error")
        if name == "openai-responses":
            frame = responses_error(text, number=8, ident="resp_1")
        assert pattern((re.escape(spoken.sign), "+"), spoken.opening + spoken.event + frame).fullmatch(settled(client.body)), client.body


async def test_an_error_after_the_commit_is_told_in_every_dialect(bench: Bench) -> None:
    gate = Gate()
    body = b'{"error":{"message":"no such model","type":"not_found_error","code":"model_not_found"}}'
    await bench.play(steps(REQUEST, gate, answer(body, "404 Not Found")))
    clients = {name: await ask(bench, name) for name in PATHS}
    for client in clients.values():
        await client.head()
    gate.open()
    inner = b'"message":"no such model","type":"not_found_error","code":"model_not_found"'
    for name, client in clients.items():
        spoken = SPOKEN[name]
        await is_cut(client)
        frames = client.body.lstrip(b" ") if spoken.dialect.by_lines else client.body.replace(spoken.sign, b"")
        if name.startswith("ollama"):
            assert frames == b'{"error":"no such model","type":"not_found_error","code":"model_not_found","status":404}\n'
        elif name == "openai-responses":
            assert frames.startswith(b'event: error\ndata: {"type":"error","sequence_number":0,"code":"model_not_found",')
            assert frames.count(b"\n\n") == 2
            assert b"event: response.failed\n" in frames
        elif name in ("anthropic", "sse"):
            assert frames == b'event: error\ndata: {"type":"error","error":{%b,"status":404}}\n\n' % inner
        else:
            assert frames == b'data: {"error":{%b,"status":404}}\n\n' % inner


async def test_an_end_that_came_too_early_is_told_in_every_dialect(bench: Bench) -> None:
    async def play(connection: UpstreamConnection) -> None:
        while True:
            spoken = spoken_at((await connection.request()).target)
            connection.send(answers(spoken.opening + spoken.event, spoken))

    await bench.play(play)
    clients = {name: await ask(bench, name, "done") for name in PATHS}
    for name, client in clients.items():
        if SPOKEN[name].ending:
            await is_cut(client)
            assert b"The upstream ended its stream before it was complete." in client.body
        else:
            await client.complete()


async def test_a_model_that_ollama_only_had_to_load(bench: Bench) -> None:
    """`ollama run` asks for that first, without a prompt, and waits: the answer is JSON although it asked for a stream."""
    loaded = b'{"model":"tiny","created_at":"2026-11-20T10:00:00Z","response":"","done":true,"done_reason":"load"}'
    gate = Gate()
    await bench.play(steps(REQUEST, gate, answer(loaded, headers=["Content-Type: application/json; charset=utf-8"])))
    client = await ask(bench, "ollama generate")
    await said(client, 2)
    gate.open()
    await client.complete()
    assert pattern((b" ", "+"), loaded).fullmatch(client.body)
    assert client.response.header("content-type") == b"application/x-ndjson"


# -- the end


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses", "anthropic", "ollama"])
async def test_a_stream_that_ended_leaves_its_connection_to_the_next_request(bench: Bench, name: str) -> None:
    spoken = SPOKEN[name]
    await bench.play(steps(REQUEST, answers(spoken.event + spoken.ending, spoken), repeat=True))
    for _ in range(2):
        client = await ask(bench, name, "calm")
        await client.complete()
        assert client.body == spoken.event + spoken.ending
    assert len(bench.upstream.connections) == 1


async def test_one_that_goes_on_after_its_end_is_left_after_a_second(bench: Bench) -> None:
    clients = {}

    async def play(connection: UpstreamConnection) -> None:
        spoken = spoken_at((await connection.request()).target)
        connection.send(answers(spoken.event + spoken.ending, spoken).removesuffix(LAST_CHUNK))
        await connection.gone(timeout=None)

    await bench.play(play)
    names = [name for name in PATHS if SPOKEN[name].ending]
    for name in names:
        clients[name] = await ask(bench, name)
    for name, client in clients.items():
        await client.complete()
        assert client.body.endswith(SPOKEN[name].event + SPOKEN[name].ending), "no keepalive after the end"
    await eventually(reactor, lambda: not bench.upstream.open_connections)
    assert len(bench.upstream.connections) == len(names)


# -- KEDA

KEDA = rb'data: \{"id":"keda-cold-start","object":"chat.completion.chunk","created":[0-9]{10},"model":"system","choices":\[\{"index":0,'
SEPARATOR = KEDA + rb'"delta":\{"content":"\\n\\n---\\n' + "\u200b".encode() + rb'"\},"finish_reason":null\}\]\}' + b"\n\n"


def keda(text: str) -> bytes:
    return KEDA + rb'"delta":\{"content":"%b"\},"finish_reason":null\}\]\}' % re.escape(text).encode() + b"\n\n"


async def test_k1_k2_k3_a_cold_start_as_keda_has_it(bench: Bench) -> None:
    await down(bench)
    theirs = ch("hello") + DONE
    client = await bench.post(b'{"stream":true,"messages":[]}', case="keda")
    response = await client.head()
    assert re.fullmatch(keda(WAKING), client.reads[0].body), "the first frame leaves with the head"
    assert response.header("content-type") == b"text/event-stream"
    assert response.header("cache-control") == b"no-cache"
    assert response.header("x-accel-buffering") == b"no"
    assert response.header("x-txsse-cold-start") == b"true"
    await said(client, 3)
    await bench.play(steps(REQUEST, stream(theirs)))
    await client.complete()
    assert pattern((keda(WAKING), "{1}"), (keda(""), "+"), (SEPARATOR, "{1}"), theirs).fullmatch(client.body), client.body
    assert len(bench.upstream.requests) == 1


async def test_bar_kedas_first_frame_comes_within_20_ms(bench: Bench) -> None:
    await down(bench)

    async def measure() -> float:
        client = await bench.client()
        sent = client.post(CHAT, ASK, ["X-Case: keda"])
        await client.head()
        client.close()
        return client.reads[0].at - sent

    await at_best(measure, 0.02)


async def test_k4_what_does_not_stream_gets_504(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(b'{"stream":false}', case="keda-short")
    response = await client.complete()
    assert response.status == 504
    assert response.header("content-type") == b"application/json"
    assert error_of(client.body)["code"] == "readiness_timeout"
    assert bench.upstream.connections == []


async def test_k5_what_never_becomes_ready_ends_in_words(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(b'{"stream":true}', case="keda-short")
    assert (await client.complete()).status == 200
    assert client.body.endswith(b"\n\n" + DONE)
    assert re.match(keda(WAKING) + b"(?:%b)*" % keda(""), client.body)
    assert json.loads(client.events[-2].data)["choices"][0]["delta"]["content"].startswith("Backend did not become ready")
    assert bench.upstream.connections == []


async def test_k8_an_error_after_the_commit_is_a_frame_in_that_style_too(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(case="keda")
    await client.head()
    await bench.play(steps(REQUEST, answer(b'{"error":{"message":"boom","type":"server_error"}}', "500 Oops")))
    await client.complete()
    error = b'data: {"error":{"message":"boom","type":"server_error","code":"upstream_error","status":500}}\n\n'
    assert client.body.endswith(error + DONE)
    assert client.body.count(b"boom") == 1


async def test_k10_the_marker_says_whether_it_waited(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(PLAIN, case="keda")
    await bench.until_waiting(1)
    await sleep(reactor, 0.1)
    await bench.play(steps(REQUEST, answer(b"{}"), repeat=True))
    assert (await client.complete()).header("x-txsse-cold-start") == b"true"
    client = await bench.post(PLAIN, case="keda")
    assert (await client.complete()).header("x-txsse-cold-start") == b"false"


# -- llama-swap, Hearth, ds4


def thoughts(client: RecordingClient) -> list[str]:
    frames = re.findall(rb'data: (\{"choices":\[\{"delta":\{"reasoning_content":"[^\n]*"\}\}\]\})\n\n', client.body)
    return [json.loads(frame)["choices"][0]["delta"]["reasoning_content"] for frame in frames]


async def test_s4_llama_swap_thinks_aloud_while_it_loads(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(case="llama-swap")
    failing = await bench.post(case="llama-swap-short")
    await is_cut(failing)
    await client.until(lambda: len(thoughts(client)) >= 3)
    assert "Done" not in "".join(thoughts(failing))
    assert failing.body.endswith(b'"code":"readiness_timeout"}}\n\n')
    await bench.play(steps(REQUEST, stream(ch("a"), DONE)))
    response = await client.complete()
    assert (response.header("content-type") or b"").startswith(b"text/event-stream")
    assert (response.header("cache-control") or b"").startswith(b"no-cache")
    first, *more, last = thoughts(client)
    assert "m" in first.split()
    assert first.startswith("━━━━━\nllama-swap loading model: m")
    assert len(more) >= 2
    assert set(more) == {"."}
    assert "Done!" in last
    assert last.endswith("\n")
    assert client.body.endswith(ch("a") + DONE)
    assert "".join(thoughts(client)).count("Done") == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/health"])
async def test_s5_on_other_paths_it_says_nothing(bench: Bench, path: str) -> None:
    await down(bench)
    client = await bench.post(ASK, path, case="llama-swap")
    await bench.until_waiting(1)
    await sleep(reactor, 0.15)
    await bench.play(steps(REQUEST, stream(b"data: x\n\n")))
    await client.complete()
    assert re.sub(STATUS, b"", client.body).replace(b": txsse\n", b"") == b"data: x\n\n"


async def test_s3_hearth_beats_until_the_answer_comes(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(case="hearth")
    await said(client, 2)
    await bench.play(steps(REQUEST, stream(ch("a"), DONE)))
    response = await client.complete()
    assert (response.header("content-type") or b"").startswith(b"text/event-stream")
    assert re.fullmatch(rb"(?:: heartbeat\n\n){2,}" + re.escape(ch("a") + DONE), client.body), client.body


async def test_s6_ds4_fills_both_silences_of_a_prefill(bench: Bench) -> None:
    before, after = Gate(), Gate()
    await bench.play(steps(REQUEST, before, STREAM_HEAD, after, chunk(ch("a") + DONE) + LAST_CHUNK))
    client = await bench.post(case="ds4")
    await said(client, 2)
    before.open()
    await said(client, len(client.body_reads) + 2)
    after.open()
    await client.complete()
    assert re.fullmatch(rb"(?:: prefill\n\n){4,}" + re.escape(ch("a") + DONE), client.body), client.body


# -- a silence inside a stream


async def test_a_heartbeat_between_events_has_upstreams_id_and_comes_only_after_a_silence(bench: Bench) -> None:
    first = (
        b'data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":5,"model":"theirs","choices":[{"index":0,"delta":{}}]}\n\n'
    )
    beat = (
        b'data: {"id":"chatcmpl-9","object":"chat.completion.chunk","created":5,"model":"theirs",'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
    )
    often: list[bytes | float] = [0.2, chunk(ch("b"))] * 4
    gate = Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(first), *often, gate, chunk(DONE) + LAST_CHUNK))
    client = await bench.post(case="midstream")
    await client.contains(beat)
    gate.open()
    await client.complete()
    body = client.body.replace(b": txsse\n", b"")
    assert pattern(first + ch("b") * 4, (re.escape(beat), "+"), DONE).fullmatch(body), body


async def test_upstreams_keepalives_are_normalised_where_that_is_asked_for(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b": ping\n\n:\n\nevent: ping\n\n" + ch("a") + DONE) + LAST_CHUNK, repeat=True))
    client = await bench.post(case="normalise")
    await client.complete()
    assert client.body == b": txsse\n: txsse\n" + ch("a") + DONE
    client = await bench.post(case="calm")
    await client.complete()
    assert client.body == b": ping\n\n:\n\nevent: ping\n\n" + ch("a") + DONE


async def test_progress_of_a_prompt_is_told_in_the_gaps(bench: Bench) -> None:
    told = b'data: {"choices":[],"prompt_progress":{"total":1000,"cache":0,"processed":420,"time_ms":4200}}\n\n'
    gates = Gate(), Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(told), gates[0], chunk(ch("a")), gates[1], chunk(DONE) + LAST_CHUNK))
    client = await bench.post(b'{"model":"m","stream":true,"return_progress":true}', case="early")
    await client.contains(b": txsse {")
    gates[0].open()
    await client.contains(b": txsse\n")
    gates[1].open()
    await client.complete()
    status = re.compile(rb': txsse \{"state":"prefill","elapsed":[0-9]\.[0-9],"eta":[0-9]+,"progress":0\.42\}\n')
    assert pattern(told, (status.pattern, "+"), ch("a"), (b": txsse\n", "+"), DONE).fullmatch(client.body), client.body


async def test_an_event_stream_on_a_path_of_ollamas_is_spoken_to_as_one(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: 1\n\n"), gate, chunk(b"data: 2\n\n") + LAST_CHUNK))
    client = await ask(bench, "ollama", "early")
    await client.contains(b": txsse\n")
    gate.open()
    await client.complete()
    assert pattern(b"data: 1\n\n", (b": txsse\n", "+"), b"data: 2\n\n").fullmatch(client.body), client.body


# -- APIs that we do not know


async def test_before_the_head_of_an_unknown_api_nothing_is_said(bench: Bench) -> None:
    first, then = Gate(), Gate()
    await bench.play(steps(REQUEST, first, STREAM_HEAD, then, chunk(b"data: 1\n\n") + LAST_CHUNK))
    silent = await bench.post(ASK, "/my/own/api")
    known = await bench.post(ASK, "/my/own/api", case="known")
    await known.contains(b": txsse\n")
    await sleep(reactor, 0.1)
    assert silent.reads == []
    first.open()
    await silent.contains(b": txsse\n" * 2)
    then.open()
    await silent.complete()
    await known.complete()
    assert pattern((b": txsse\n", "+"), b"data: 1\n\n").fullmatch(silent.body), silent.body
    assert silent.response.header("content-type") == b"text/event-stream"


# -- JSON that does not stream


async def test_json_is_kept_alive_with_blanks(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, answer(b'{"a":1}')))
    client = await bench.post(PLAIN, case="json")
    await said(client, 2)
    gate.open()
    response = await client.complete()
    assert response.status == 200
    assert response.header("content-type") == b"application/json"
    assert response.header("content-length") is None
    assert re.fullmatch(rb' {2,}\{"a":1\}', client.body)
    assert client.reads[0].body == b" ", "the first blank leaves with the head"
    assert json.loads(client.body) == {"a": 1}


async def test_json_whose_head_comes_early_is_kept_alive_until_its_body_does(bench: Bench) -> None:
    typed = head("HTTP/1.1 200 OK", ["Content-Type: application/json", "Transfer-Encoding: chunked"])
    before, after = Gate(), Gate()
    await bench.play(steps(REQUEST, before, typed, after, chunk(b'{"a":'), 0.25, chunk(b"1}") + LAST_CHUNK))
    client = await bench.post(PLAIN, case="json")
    await said(client, 1)
    before.open()
    await said(client, 3)
    after.open()
    await client.complete()
    assert re.fullmatch(rb' {3,}\{"a":1\}', client.body)


async def test_json_within_the_grace_is_the_upstreams_own(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b'{"a":1}', "201 Created")))
    client = await bench.post(PLAIN, case="json-calm")
    response = await client.complete()
    assert (response.status, client.body) == (201, b'{"a":1}')
    assert response.header("content-length") == b"7"


@pytest.mark.parametrize(
    "script",
    [
        answer(b'{"error":"no"}', "500 Oops"),
        answer(b"<h1>hello</h1>", headers=["Content-Type: text/html"]),
        head("HTTP/1.1 204 No Content"),
        head("HTTP/1.1 200 OK", ["Content-Type: application/json", "Content-Length: 99"]) + b'{"a":',
    ],
)
async def test_json_that_fails_is_cut_and_nothing_is_made_up(bench: Bench, script: bytes) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, script, 0.05, RESET))
    client = await bench.post(PLAIN, case="json")
    await said(client, 1)
    gate.open()
    await is_cut(client)
    assert client.response.status == 200
    assert client.body.strip(b" ") in (b"", b'{"a":')


async def test_json_is_held_like_anything_else(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(PLAIN, case="json-cold")
    await said(client, 2)
    loading = answer(b'{"error":{"message":"Loading model"}}', "503 Service Unavailable")

    async def play(connection: UpstreamConnection) -> None:
        while True:
            await connection.request()
            connection.send(loading if len(bench.upstream.requests) == 1 else answer(b'{"a":1}'))

    await bench.play(play)
    await client.complete()
    assert client.body.lstrip(b" ") == b'{"a":1}'
    assert client.body.startswith(b"  ")
    assert len(bench.upstream.requests) == 2
