"""What the proxy answers itself in place of an upstream that is not ready; with real backends on a reactor in memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.fakes import RecordingDownstream
from tests.proxy.test_handler import CHAT, COLD, READY, Bench
from txsse.config import loads
from txsse.pages.waiting import PROGRESS
from txsse.proxy.admission import NOBODY
from txsse.proxy.answers import send_answer
from txsse.proxy.fixed import Answer
from txsse.proxy.models import LARGEST
from txsse.proxy.vigil import LINGER
from txsse.upstream.state import Event
from txsse.wire.headers import Headers

BROWSER: Headers = [(b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")]
MODELS = b"/v1/models"
JSON = {b"Content-Type": b"application/json"}


def route(more: str, upstream: str = COLD) -> str:
    return f'{upstream}[[route]]\nupstream = "llama"\n{more}\n'


class Room(Bench):
    """A proxy whose upstream is down and known to be: somebody asked before, and was refused."""

    def get(self, path: bytes = b"/", headers: Headers | None = None, method: bytes = b"GET") -> RecordingDownstream:
        return self.open(method, path, headers)[1]

    @property
    def probes(self) -> int:
        return len(self.reactor.tcpClients)

    @property
    def waiting(self) -> int:
        return self.proxy.backends["llama"].waiting

    def wait(self, seconds: float) -> None:
        """Time passes; who connects to the upstream meanwhile is refused."""
        for _ in range(round(seconds / 0.05)):
            before = self.probes
            self.reactor.advance(0.05)
            if self.probes > before:
                self.refuse_connection()

    def come_up(self) -> None:
        """The upstream is ready: a probe passes."""
        gate = self.proxy.backends["llama"].gate
        gate.standing.hear(Event.PROBE_PASSED, "")
        assert gate.ready

    def answer(self, body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK", more: bytes = b"") -> bytes:
        """What an upstream that was asked says; returns what it was asked."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, kind, len(body), more, body))
        asked: bytes = transport.value()
        return asked


# -- static answers


@pytest.mark.parametrize(("when", "ready", "ours"), [("unavailable", False, True), ("unavailable", True, False), ("always", True, True)])
def test_static_answers_while_the_upstream_is_away_or_always(when: str, ready: bool, ours: bool) -> None:
    bench = Room(route(f'static = {{ body = "healthy", when = "{when}" }}', READY if ready else COLD))
    exchange, client = bench.open(b"GET", b"/healthz")
    assert (exchange is NOBODY, bench.probes) == (ours, 0 if ours else 1)
    if ours:
        assert (client.status, client.body, client.end) == (200, b"healthy", "finish")
        fields = dict(client.headers)
        assert {name: fields[name] for name in (b"Content-Type", b"X-Static", b"Content-Length")} == {
            b"Content-Type": b"text/plain; charset=utf-8",
            b"X-Static": b"true",
            b"Content-Length": b"7",
        }
        assert client.header(b"x-request-id")
        assert bench.proxy.metrics.requests == {("llama", 200, "ok"): 1}
        assert not bench.proxy.metrics.rejections


def test_static_wakes_nobody_however_long_it_is_asked() -> None:
    bench = Room(route('static = { status = 200, body = "ok" }'))
    for _ in range(20):
        bench.get(b"/healthz")
        bench.wait(0.5)
    assert (bench.probes, bench.waiting) == (0, 0)


def test_the_first_route_that_matches_answers() -> None:
    bench = Room(route('match = { path = "/healthz" }\nstatic = { status = 204 }') + route('static = { body = "second" }', ""))
    first, second = bench.get(b"/healthz"), bench.get(b"/other")
    assert (first.status, first.has_body, first.header(b"content-length"), first.end) == (204, False, None, "finish")
    assert (second.status, second.body) == (200, b"second")


def test_head_of_a_static_answer_has_no_body_but_its_length() -> None:
    client = Room(route('static = { body = "healthy" }')).get(b"/", method=b"HEAD")
    assert (client.body, client.has_body, client.header(b"content-length")) == (b"", False, b"7")


def test_own_fields_and_cors_of_a_static_answer() -> None:
    more = 'cors_origins = ["https://chat.example"]\nstatic = { status = 503, headers = { Retry-After = "9", X-A = "b" } }'
    client = Room(route(more)).get(headers=[(b"Origin", b"https://chat.example")])
    assert client.header(b"x-a") == b"b"
    assert [value for name, value in client.headers if name == b"Retry-After"] == [b"9"]
    assert client.header(b"access-control-allow-origin") == b"https://chat.example"


def test_a_static_answer_comes_before_a_placeholder() -> None:
    bench = Room(route('static = { body = "static" }\nhold = { placeholder = { body = "placeholder" } }'))
    assert bench.get().body == b"static"


# -- requests that wake nobody

NO_WAKE = 'no_wake = { paths = ["/v1/models", "*.ico"], user_agents = ["kube-probe/*"] }'


@pytest.mark.parametrize(("path", "headers"), [(b"/favicon.ico", []), (CHAT, [(b"User-Agent", b"kube-probe/1.32")])])
def test_a_request_that_wakes_nobody_is_refused_at_once(path: bytes, headers: Headers) -> None:
    lines: list[str] = []
    bench = Room(route(NO_WAKE), log=lines)
    exchange, client = bench.open(b"POST", path, headers, b"{}")
    assert exchange is NOBODY
    assert (client.status, client.header(b"retry-after"), bench.probes, bench.waiting) == (503, b"5", 0, 0)
    assert json.loads(client.body)["error"]["code"] == "readiness_timeout"
    assert bench.proxy.metrics.requests == {("llama", 503, "rejected"): 1}
    assert bench.proxy.metrics.rejections == {"readiness_timeout": 1}
    bench.proxy.close()
    assert "code=readiness_timeout" in "".join(lines)


def test_a_ready_upstream_answers_it() -> None:
    bench = Room(route(NO_WAKE, READY))
    client = bench.get(b"/favicon.ico")
    assert b"GET /favicon.ico HTTP/1.1\r\n" in bench.answer(b"icon", b"image/x-icon")
    assert client.body == b"icon"


def test_if_that_has_gone_meanwhile_it_does_not_wait_either() -> None:
    bench = Room(route(NO_WAKE))
    bench.come_up()
    client = bench.get(b"/favicon.ico")
    bench.refuse_connection()
    assert client.status == 503
    assert "does not wake it" in json.loads(client.body)["error"]["message"]
    assert (bench.waiting, bench.proxy.backends["llama"].state) == (0, "down")
    probes = bench.probes
    bench.wait(2)
    assert bench.probes == probes


def test_others_wait_as_ever() -> None:
    bench = Room(route(NO_WAKE))
    bench.open(b"POST", CHAT, [(b"User-Agent", b"openai")], b"{}")
    assert bench.waiting == 1


# -- the list of models


def models(client: RecordingDownstream) -> Any:
    assert (client.status, client.header(b"content-type"), client.end) == (200, b"application/json", "finish")
    return json.loads(client.body)


def test_models_that_the_configuration_knows() -> None:
    literal = "".join(f'[[route]]\nupstream = "llama"\nmatch = {{ model = "{name}" }}\n' for name in ("tiny", "qwen*", "tiny", "big"))
    bench = Room(COLD + literal + route(NO_WAKE, ""))
    client = bench.get(MODELS)
    found = models(client)
    assert found["object"] == "list"
    assert [each["id"] for each in found["data"]] == ["tiny", "big"]
    assert {each["object"] for each in found["data"]} == {"model"}
    assert {each["status"]["value"] for each in found["data"]} == {"unloaded"}
    assert client.header(b"x-txsse-models") == b"configured"
    assert (bench.probes, bench.waiting) == (0, 0)


def test_without_any_it_is_the_upstreams_name() -> None:
    assert [each["id"] for each in models(Room(route(NO_WAKE)).get(MODELS))["data"]] == ["llama"]


def test_the_state_of_a_model_is_that_of_its_upstream() -> None:
    other = '[[route]]\nupstream = "other"\nmatch = { model = "warm" }\n'
    bench = Room(COLD + READY.replace('"llama"', '"other"') + other + '[[route]]\nupstream = "llama"\n' + NO_WAKE)
    (warm,) = models(bench.get(MODELS))["data"]
    assert warm["status"] == {"value": "loaded"}


LIST = b'{"object":"list","data":[{"id":"qwen3"}]}'


def remembering(headers: Headers | None = None, path: bytes = MODELS) -> Room:
    """Its upstream was ready, was asked for its models, and is gone."""
    bench = Room(route(NO_WAKE))
    bench.come_up()
    client = bench.get(path, headers)
    bench.answer(LIST)
    assert models(client) == json.loads(LIST)
    bench.reactor.pump([1.0] * 5)  # longer than the connection is kept
    bench.proxy.backends["llama"].gate.standing.hear(Event.DISPATCH_REFUSED, "refused")
    return bench


def test_the_last_list_that_was_heard() -> None:
    client = remembering().get(MODELS)
    assert (client.body, client.header(b"x-txsse-models")) == (LIST, b"last")
    assert client.header(b"content-length") == b"%d" % len(LIST)


def test_is_not_for_those_who_ask_otherwise() -> None:
    bench = remembering([(b"Authorization", b"Bearer a")])
    assert bench.get(MODELS, [(b"authorization", b"Bearer a")]).body == LIST
    others: list[tuple[bytes, Headers]] = [
        (MODELS, [(b"Authorization", b"Bearer b")]),
        (MODELS, []),
        (MODELS, [(b"Authorization", b"Bearer a"), (b"Cookie", b"c")]),
        (MODELS + b"?all=1", [(b"Authorization", b"Bearer a")]),
    ]
    for path, headers in others:
        assert bench.get(path, headers).header(b"x-txsse-models") == b"configured"


def test_if_the_upstream_has_gone_meanwhile_it_is_the_last_list_too() -> None:
    bench = remembering()
    for source in (b"last", b"configured"):
        bench.come_up()
        client = bench.get(MODELS if source == b"last" else MODELS + b"?all=1")
        bench.refuse_connection()
        assert (client.status, client.header(b"x-txsse-models"), bench.waiting) == (200, source, 0)
    assert bench.get(MODELS + b"?all=1").header(b"x-txsse-models") == b"configured", "ours is not remembered"
    assert bench.get(MODELS).body == LIST


def test_head_of_it() -> None:
    client = remembering().get(MODELS, method=b"HEAD")
    assert (client.body, client.has_body, client.header(b"content-length")) == (b"", False, b"%d" % len(LIST))


@pytest.mark.parametrize(
    ("body", "kind", "status", "more"),
    [
        (b'{"data":[%b]}' % (b"1," * LARGEST), b"application/json", b"200 OK", b""),
        (LIST, b"text/html", b"200 OK", b""),
        (LIST, b"application/json", b"500 Oops", b""),
        (LIST, b"application/json", b"200 OK", b"Content-Encoding: gzip\r\n"),
    ],
)
def test_what_is_not_remembered(body: bytes, kind: bytes, status: bytes, more: bytes) -> None:
    bench = remembering()
    bench.come_up()
    client = bench.get(MODELS)
    bench.answer(body, kind, status, more)
    assert client.body == body
    bench.proxy.backends["llama"].gate.standing.hear(Event.DISPATCH_REFUSED, "refused")
    assert bench.get(MODELS).body == LIST


def test_nor_is_half_an_answer() -> None:
    bench = Room(route(NO_WAKE))
    bench.come_up()
    client = bench.get(MODELS)
    protocol, _ = bench.connect()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
    protocol.connectionLost(Failure(ConnectionLost()))
    assert client.end == "cut"
    bench.proxy.backends["llama"].gate.standing.hear(Event.DISPATCH_REFUSED, "refused")
    assert bench.get(MODELS).header(b"x-txsse-models") == b"configured"


def test_another_upstream_under_its_name_has_other_models() -> None:
    bench = remembering()
    bench.proxy.configure(loads(route(NO_WAKE).replace("8080", "8081")))
    assert bench.get(MODELS).header(b"x-txsse-models") == b"configured"


@pytest.mark.parametrize(
    ("method", "path", "dialect"), [(b"POST", MODELS, "auto"), (b"GET", MODELS, "anthropic"), (b"GET", b"/a.ico", "auto")]
)
def test_other_requests_that_wake_nobody_are_no_lists(method: bytes, path: bytes, dialect: str) -> None:
    assert Room(route(f'dialect = "{dialect}"\n{NO_WAKE}')).get(path, method=method).status == 503


def test_a_list_is_asked_for_as_ever_where_no_wake_does_not_name_it() -> None:
    bench = Room(route('no_wake = { paths = ["/x"] }'))
    bench.get(MODELS)
    assert bench.waiting == 1


# -- placeholders

LOADING = """hold = { placeholder = { body = '{"status":"loading"}' } }"""


def known_down(configuration: str) -> Room:
    """The upstream is down, and one vigil waits for it."""
    bench = Room(configuration)
    client = bench.get()
    assert client.status == 0
    bench.wait(1)
    assert client.end == "finish"
    return bench


def test_a_placeholder_is_sent_at_once_and_wakes_all_the_same() -> None:
    bench = known_down(route(LOADING))
    client = bench.open(b"POST", CHAT, body=b'{"stream":true}')[1]
    assert (client.status, client.body, client.end) == (503, b'{"status":"loading"}', "finish")
    assert JSON.items() <= dict(client.headers).items()
    assert client.header(b"retry-after") == b"5"
    assert bench.waiting == 1, "the vigil"
    assert bench.proxy.metrics.requests == {("llama", 503, "rejected"): 2}
    assert not bench.proxy.metrics.rejections and not bench.proxy.metrics.stream_errors
    probes = bench.probes
    bench.wait(1)
    assert bench.probes > probes


def test_nobody_asks_the_upstream_for_ever() -> None:
    bench = known_down(route(LOADING))
    bench.wait(LINGER + 5)
    probes = bench.probes
    assert bench.waiting == 0
    bench.wait(5)
    assert bench.probes == probes


def test_then_the_upstream_answers() -> None:
    bench = known_down(route(LOADING))
    bench.wait(0.2)
    bench.reactor.advance(0.3)
    bench.connect()
    bench.reactor.advance(0)
    assert bench.proxy.backends["llama"].ready
    client = bench.get()
    bench.answer(b"real")
    assert client.body == b"real"
    assert bench.waiting == 0


@pytest.mark.parametrize(("eta", "sent"), [(None, b"5"), (31.4, b"31"), (0.0, b"1"), (900.0, b"60")])
def test_retry_after_is_the_time_that_is_left(eta: float | None, sent: bytes) -> None:
    bench = Room(route(""))
    (bound,) = bench.proxy.table.routes
    client = RecordingDownstream(bench.reactor)
    head = bench.request(b"GET").head
    assert send_answer(Answer(503, [], b"soon"), head, bound, [(b"X-A", b"b")], client, retry_after=eta) == 4
    assert client.headers == [(b"Content-Length", b"4"), (b"Retry-After", sent), (b"X-A", b"b")]


def test_a_held_stream_of_which_nothing_was_sent_gets_it_too() -> None:
    bench = Room(route(LOADING))
    client = bench.open(b"POST", CHAT, body=b'{"stream":true}')[1]
    bench.wait(1)
    assert (client.status, client.body) == (503, b'{"status":"loading"}')


def test_a_stream_that_has_begun_is_held_on() -> None:
    bench = Room(route(LOADING + "\nkeepalive = { commit_after = 1 }"))
    bench.come_up()
    client = bench.open(b"POST", CHAT, body=b'{"stream":true}')[1]
    bench.reactor.pump([0.1] * 15)
    assert client.status == 200
    bench.refuse_connection()
    bench.wait(2)
    assert client.alive and b"loading" not in client.body


def test_it_comes_before_a_fallback() -> None:
    other = READY.replace('"llama"', '"other"')
    bench = known_down(COLD.replace("probe", 'fallback = "other"\nprobe') + other + f'[[route]]\nupstream = "llama"\n{LOADING}\n')
    assert bench.get().body == b'{"status":"loading"}'


def test_overflow() -> None:
    hold = """[route.hold]\nmax_waiting = 1\noverflow = "placeholder"\nplaceholder = { body = "full", status = 429 }"""
    bench = Room(route(hold))
    held, over = bench.get(), bench.get(headers=BROWSER)
    bench.wait(5)
    assert held.status == 0, "those below the limit are held"
    assert (over.status, over.body, over.header(b"retry-after")) == (429, b"full", b"5")
    assert bench.proxy.metrics.requests == {("llama", 429, "rejected"): 1}
    assert bench.proxy.metrics.rejections == {"too_many_waiting": 1}


def test_a_reload_ends_the_vigils_of_before() -> None:
    bench = known_down(route(LOADING))
    bench.proxy.configure(loads(route("")))
    assert bench.waiting == 0


def test_closing_ends_them() -> None:
    bench = known_down(route(LOADING))
    bench.proxy.close()
    bench.reactor.pump([1.0] * 5)
    assert bench.reactor.getDelayedCalls() == []


# -- the waiting page


def test_a_browser_is_shown_a_page_and_nobody_else() -> None:
    bench = known_down(route(LOADING))
    page = bench.get(b"/chat?a=b", BROWSER)
    assert (page.status, page.header(b"content-type")) == (503, b"text/html; charset=utf-8")
    assert page.body.startswith(b"<!DOCTYPE html>") and PROGRESS.encode() in page.body
    assert page.header(b"vary") == b"Accept"
    others: list[tuple[bytes, Headers]] = [
        (b"POST", BROWSER),
        (b"GET", [(b"Accept", b"*/*")]),
        (b"GET", [(b"Accept", b"application/json, text/html;q=0.9")]),
        (b"GET", []),
        (b"GET", [*BROWSER, (b"Sec-Fetch-Mode", b"cors")]),
    ]
    for method, headers in others:
        assert bench.get(b"/", headers, method).body == b'{"status":"loading"}'


def test_by_default_browsers_get_it_and_all_others_are_held() -> None:
    bench = Room(route(""))
    page, api = bench.get(headers=BROWSER), bench.get()
    assert (page.status, api.status) == (0, 0), "the upstream may be there: it is asked first"
    bench.wait(1)
    assert (page.status, api.status, bench.waiting) == (503, 0, 2)
    assert bench.get(headers=[(b"Accept", b"text/event-stream, text/html")]).status == 0


@pytest.mark.parametrize(
    ("placeholder", "shown"),
    [
        ('page = "never"', None),
        ('page = "always", body = "<p>own"', b"<!DOCTYPE html>"),
        ('body = "<p>own"', b"<p>own"),
        ('status = 425, page = "always"', b"<!DOCTYPE html>"),
    ],
)
def test_whether_it_is_shown(placeholder: str, shown: bytes | None) -> None:
    bench = Room(route(f"hold = {{ placeholder = {{ {placeholder} }} }}"))
    client = bench.get(headers=BROWSER)
    bench.wait(1)
    if shown is None:
        assert client.status == 0 and not bench.proxy.shows_pages
    else:
        assert client.body.startswith(shown) and client.status == (425 if "425" in placeholder else 503)


def token_of(page: RecordingDownstream) -> str:
    found = re.search(rb"/-/hold/([\w-]{22})", page.body)
    assert found is not None
    return found[1].decode()


def test_its_token_leads_to_the_wait() -> None:
    bench = known_down(route(LOADING))
    first, second = (token_of(bench.get(headers=BROWSER)) for _ in range(2))
    assert first != second
    wait = bench.proxy.followed(first)
    assert wait is not None and wait is bench.proxy.followed(second)
    assert (wait.ready, wait.failure, wait.status().upstream) == (False, "", "llama")
    assert bench.proxy.followed("A" * 22) is None
    bench.proxy.draining = True
    assert bench.proxy.followed(first) is None


@pytest.mark.parametrize(("change", "kept"), [("", True), ('name = "other"', False)])
def test_a_reload_may_take_it_away(change: str, kept: bool) -> None:
    bench = known_down(route(LOADING))
    token = token_of(bench.get(headers=BROWSER))
    bench.proxy.configure(loads(route(f"{change}\n{LOADING}")))
    assert (bench.proxy.followed(token) is not None) is kept


def test_an_own_template(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<link rel=stylesheet href=/x.css><p>{upstream}: {state}, {elapsed} s, {token}")
    bench = known_down(route(f'hold = {{ placeholder = {{ body = "{{}}", page_file = "{file}" }} }}'))
    page = bench.get(headers=BROWSER)
    assert re.fullmatch(rb"<link rel=stylesheet href=/x.css><p>llama: down, \d s, [\w-]{22}", page.body)
    assert b"style-src 'self'" in (page.header(b"content-security-policy") or b"")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"\xff", r"route llama: '.*page.html': not UTF-8 \(at line 1\)"), (b"x" * (1024 * 1024 + 1), "route llama: .*larger")],
)
def test_a_template_that_cannot_be_used_changes_nothing(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(content)
    bench = known_down(route(LOADING))
    with pytest.raises(ValueError, match=problem):
        bench.proxy.configure(loads(route(f'hold = {{ placeholder = {{ page_file = "{file}" }} }}')))
    assert bench.get().body == b'{"status":"loading"}'


def test_who_may_follow(tmp_path: Path) -> None:
    import hashlib

    keys = tmp_path / "keys"
    keys.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    bench = Room(f'auth = {{ keys_file = "{keys}", cookie = "key" }}\n' + COLD)
    path = f"{PROGRESS}x".encode()
    assert not bench.proxy.lets_in([], path)
    assert bench.proxy.lets_in([(b"Cookie", b"key=secret")], path)
    assert Bench().proxy.lets_in([], path)
