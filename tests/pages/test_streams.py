"""``/-/streams/<sid>`` but for its reading: raw requests into a real channel, raw answers out of it."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.pages.test_app import Bench as PagesBench
from txsse.errors import ProxyError
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead

SID = "S" * 22
PATH = f"/-/streams/{SID}"
ORIGIN = "Origin: https://chat.example"


@attrs.define(eq=False)
class FakeStream:
    origins: tuple[str, ...] = ("https://chat.example",)
    ended: int = 0

    @property
    def notes(self) -> Headers:
        return [(b"X-Txsse-Stream", SID.encode()), (b"X-Stream-State", b"error" if self.ended else b"live")]

    def state(self) -> dict[str, Any]:
        return {"id": SID, "state": "error" if self.ended else "live"}

    async def end(self) -> FakeStream:
        self.ended += 1
        return self


class FakePage:
    """Keeps one stream, for whoever has the cookie ``me=1``."""

    origins = ("https://chat.example", "https://other.example")

    def __init__(self) -> None:
        self.stream = FakeStream()

    def passes_on(self, head: RequestHead, sid: str) -> bool:
        return sid.startswith("peer~")

    async def find(self, sid: str, headers: Headers, path: bytes) -> FakeStream:
        if sid != SID or get(headers, b"cookie") != b"me=1":
            raise ProxyError("stream_gone" if sid == "gone" else "stream_not_found", "No.")
        return self.stream


class Bench(PagesBench):
    def __init__(self, *, locked: bool = False, keeps: bool = True) -> None:
        super().__init__(locked=locked)
        self.page = FakePage()
        self.stream_control: Any = self.page if keeps else None

    def ask(self, method: str = "GET", path: str = PATH, *fields: str, me: bool = True) -> Bench:
        self.get(path, *fields, *(["Cookie: me=1"] if me else []), method=method)
        self.leave()
        return self

    @property
    def status(self) -> int:
        return int(self.head[0].split()[1])

    def field(self, name: str) -> str | None:
        found = [line.partition(": ")[2] for line in self.head if line.startswith(f"{name}: ")]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["error"]["code"]
        return code


@pytest.mark.parametrize(
    ("method", "fields", "me", "accounted"),
    [
        ("GET", [], True, (b"GET", b"new", 200, "", "ok")),
        ("DELETE", ["X-Request-Id: mine"], False, (b"DELETE", b"mine", 404, "stream_not_found", "rejected")),
        ("PUT", [], True, (b"PUT", b"new", 405, "bad_request", "rejected")),
    ],
)
def test_each_request_has_an_id_and_is_accounted_for(method: str, fields: list[str], me: bool, accounted: tuple[Any, ...]) -> None:
    bench = Bench().ask(method, PATH, *fields, me=me)
    assert bench.field("X-Request-Id") == accounted[1].decode()
    assert bench.account == [accounted]


def test_its_state() -> None:
    bench = Bench().ask()
    assert (bench.status, json.loads(bench.body)) == (200, {"id": SID, "state": "live"})
    assert bench.field("Content-Type") == "application/json"
    assert bench.field("Cache-Control") == "no-store"
    assert bench.field("X-Txsse-Stream") == SID
    assert bench.field("X-Stream-State") == "live"
    assert bench.field("Server") is bench.field("Transfer-Encoding") is None


def test_head_is_a_head() -> None:
    whole, bench = Bench().ask(), Bench().ask("HEAD")
    assert (bench.status, bench.body) == (200, b"")
    assert bench.field("Content-Length") == whole.field("Content-Length") == str(len(whole.body))
    assert bench.field("X-Stream-State") == "live"


@pytest.mark.parametrize(("method", "path"), [("DELETE", PATH), ("POST", f"{PATH}/cancel")])
def test_its_end(method: str, path: str) -> None:
    bench = Bench().ask(method, path)
    assert (bench.status, json.loads(bench.body)["state"], bench.page.stream.ended) == (200, "error", 1)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", PATH, "DELETE, GET, HEAD"),
        ("POST", PATH, "DELETE, GET, HEAD"),
        ("OPTIONS", PATH, "DELETE, GET, HEAD"),
        ("GET", f"{PATH}/cancel", "POST"),
        ("DELETE", f"{PATH}/cancel", "POST"),
        ("OPTIONS", f"{PATH}/cancel", "POST"),
    ],
)
def test_other_methods_are_told_which_are_right(method: str, path: str, allowed: str) -> None:
    bench = Bench().ask(method, path)
    assert (bench.status, bench.field("Allow"), bench.code, bench.page.stream.ended) == (405, allowed, "bad_request", 0)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/-/streams/" + "U" * 22, 404, "stream_not_found"),
        ("/-/streams/gone", 410, "stream_gone"),
        ("/-/streams/%E2%80%A8", 404, "stream_not_found"),
        ("/-/streams/", 404, "no_route"),
        (f"{PATH}/x", 404, "no_route"),
        (f"{PATH}/cancel/x", 404, "no_route"),
    ],
)
def test_what_is_not_there(path: str, status: int, code: str) -> None:
    for method in ("GET", "DELETE"):
        bench = Bench().ask(method, path)
        assert (bench.status, bench.code) == (status, code)


def test_another_one_is_told_that_there_is_none() -> None:
    for method, path in (("GET", PATH), ("DELETE", PATH), ("POST", f"{PATH}/cancel")):
        bench = Bench().ask(method, path, me=False)
        assert (bench.status, bench.code, bench.page.stream.ended) == (404, "stream_not_found", 0)


def test_keys_apply_here_too() -> None:
    for method, path in (("GET", PATH), ("DELETE", PATH), ("POST", f"{PATH}/cancel")):
        bench = Bench(locked=True).ask(method, path)
        assert (bench.status, bench.code, bench.page.stream.ended) == (401, "invalid_api_key", 0)
        assert bench.field("WWW-Authenticate") == "Bearer"
    assert Bench(locked=True).ask("GET", f"{PATH}?key=1").status == 200


def test_where_no_streams_are_kept_there_are_none() -> None:
    for method in ("GET", "DELETE", "OPTIONS"):
        assert Bench(keeps=False).ask(method).status in (404, 405)


# -- browsers


def test_scripts_of_the_streams_origins_may_read_it_and_no_others() -> None:
    assert Bench().ask("GET", PATH, ORIGIN).field("Access-Control-Allow-Origin") == "https://chat.example"
    for origin in ("https://other.example", "https://evil.example"):
        bench = Bench().ask("GET", PATH, f"Origin: {origin}")
        assert (bench.status, bench.field("Access-Control-Allow-Origin"), bench.field("Vary")) == (200, None, "Origin")


def test_scripts_of_any_origin_that_may_read_streams_may_hear_that_there_is_none() -> None:
    for fields, status in (((ORIGIN,), 404), (("Origin: https://other.example",), 404), (("Origin: https://evil.example",), 404)):
        bench = Bench().ask("DELETE", "/-/streams/unknown", *fields)
        expected = fields[0].removeprefix("Origin: ") if "evil" not in fields[0] else None
        assert (bench.status, bench.field("Access-Control-Allow-Origin")) == (status, expected)
    assert Bench(locked=True).ask("GET", PATH, ORIGIN).field("Access-Control-Allow-Origin") == "https://chat.example"
    assert Bench().ask("PUT", PATH, ORIGIN).field("Access-Control-Allow-Origin") == "https://chat.example"


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("DELETE", PATH), ("POST", f"{PATH}/cancel"), ("GET", "/-/streams/unknown")])
def test_a_preflight_is_answered_without_a_credential_or_a_word_about_the_stream(method: str, path: str) -> None:
    fields = (ORIGIN, f"Access-Control-Request-Method: {method}", "Access-Control-Request-Headers: authorization")
    bench = Bench(locked=True).ask("OPTIONS", path, *fields, me=False)
    assert (bench.status, bench.body) == (204, b"")
    assert bench.field("Access-Control-Allow-Origin") == "https://chat.example"
    assert bench.field("Access-Control-Allow-Methods") == method
    assert bench.field("Access-Control-Allow-Headers") == "authorization"


def test_a_preflight_of_another_origin_is_not() -> None:
    bench = Bench().ask("OPTIONS", PATH, "Origin: https://evil.example", "Access-Control-Request-Method: GET")
    assert (bench.status, bench.field("Access-Control-Allow-Origin")) == (405, None)


# -- whose requests they are

JSON: Headers = [(b"Accept", b"application/json")]
EVENTS: Headers = [(b"Accept", b"text/event-stream")]
PREFLIGHT: Headers = [(b"Origin", b"https://chat.example"), (b"Access-Control-Request-Method", b"GET")]


@pytest.mark.parametrize(
    ("method", "path", "headers", "ours"),
    [
        (b"GET", PATH, [], False),
        (b"GET", PATH, EVENTS, False),
        (b"GET", PATH, [(b"Accept", b"*/*")], False),
        (b"GET", PATH, [*JSON, *EVENTS], False),
        (b"GET", PATH, [(b"Accept", b"text/event-stream;q=0.5, application/json")], False),
        (b"GET", PATH, JSON, True),
        (b"GET", f"{PATH}?x", [(b"Accept", b"Application/JSON; q=0.9, text/plain, */*")], True),
        (b"HEAD", PATH, EVENTS, True),
        (b"DELETE", PATH, [], True),
        (b"POST", f"{PATH}/cancel", EVENTS, True),
        (b"PUT", PATH, [], True),
        (b"OPTIONS", PATH, [], True),
        (b"DELETE", f"/-/streams/peer~{SID}", [], False),
        (b"GET", f"/-/streams/peer~{SID}?x", JSON, False),
        (b"POST", f"/-/streams/peer~{SID}/cancel", [], False),
        (b"OPTIONS", f"/-/streams/peer~{SID}", PREFLIGHT, True),
        (b"DELETE", "/-/streams", [], False),
        (b"DELETE", f"/a{PATH}", [], False),
    ],
)
def test_whose_request_it_is(method: bytes, path: str, headers: Headers, ours: bool) -> None:
    head = RequestHead(method, path.encode(), b"HTTP/1.1", [(b"Host", b"h"), *headers])
    assert bool(Bench().is_ours(head)) is ours
    assert not Bench(keeps=False).is_ours(head)
