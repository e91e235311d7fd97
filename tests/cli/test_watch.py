from __future__ import annotations

from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from txsse.cli.errors import CommandError
from txsse.cli.terminal import Terminal
from txsse.cli.watch import Target, watch
from txsse.testing import (
    CLOSE,
    HANG,
    REQUEST,
    RESET,
    STREAM_HEAD,
    ScriptedUpstream,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    free_port,
    steps,
    stream,
)
from txsse.testing.http import head

NAMED = head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Location: /-/streams/S"])


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    fake = ScriptedUpstream(reactor)
    await fake.open()
    yield fake
    await fake.stop()


def shown(out: StringIO) -> list[str]:
    """The lines without their times, which are checked to be there."""
    lines = out.getvalue().splitlines()
    assert all(line[4] == "." and line[8:10] == "  " for line in lines)
    return [line[10:] for line in lines]


async def test_events_comments_and_the_end_are_shown_with_times(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(
        REQUEST,
        stream(
            b': txsse {"state":"waking"}\n', b": txsse\n", b": other\n", b"data: one\ndata: two\n\n", b"event: x\nid: 7\ndata: \x1b\n\n"
        ),
        CLOSE,
    )
    out = StringIO()
    assert await watch(reactor, Target(upstream.url + "/a?b"), Terminal(out)) == 0
    assert shown(out) == [
        "200 OK  text/event-stream",
        '. {"state":"waking"}',
        ".",
        ": other",
        "one",
        "two",
        "[x, id 7] \ufffd",
        "end",
    ]
    (request,) = upstream.requests
    assert (request.method, request.target, request.header("accept")) == (b"GET", b"/a?b", b"text/event-stream")


async def test_data_is_posted_with_the_given_headers(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, stream(b"data: 1\n\n"), CLOSE)
    target = Target.parse(f"{upstream.url}/v1", '{"stream": true}', ["Authorization: Bearer x", "accept: */*"])
    assert await watch(reactor, target, Terminal(StringIO())) == 0
    (request,) = upstream.requests
    assert (request.method, bytes(request.body)) == (b"POST", b'{"stream": true}')
    assert request.header("content-type") == b"application/json"
    assert request.header("authorization") == b"Bearer x"
    assert request.header_all("accept") == [b"*/*"]


async def test_a_cut_get_is_taken_up_again_after_the_retry_time_until_204(upstream: ScriptedUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        request = await connection.request()
        match request.header("last-event-id"):
            case None:
                connection.send(STREAM_HEAD + chunk(b"retry: 20\nid: 1\ndata: a\n\ndata: ha"))
                connection.close()
            case b"1":
                connection.send(STREAM_HEAD + chunk(b"id: 2\ndata: b\n\n"))
                await eventually(reactor, lambda: "[id 2] b" in out.getvalue())
                connection.reset()
            case _:
                connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
                connection.close()

    out = StringIO()
    upstream.script = script
    assert await watch(reactor, Target(upstream.url), Terminal(out)) == 0
    assert [line for line in shown(out) if line.startswith("[")] == ["[id 1] a", "[id 2] b"]
    assert sum("again in 0.02 s" in line for line in shown(out)) == 2
    first, second, _ = upstream.requests
    assert second.at - first.at >= 0.02


async def test_a_cut_post_is_an_error_and_is_not_sent_again(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\n"), CLOSE)
    with pytest.raises(CommandError, match="cut in the middle"):
        await watch(reactor, Target(upstream.url, b"{}"), Terminal(StringIO()))
    assert len(upstream.requests) == 1


async def test_a_cut_post_is_gone_on_with_at_the_location_its_answer_named(upstream: ScriptedUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        request = await connection.request()
        if request.method == b"POST":
            connection.send(NAMED + chunk(b"retry: 20\nid: S.1\ndata: a\n\n"))
            connection.close()
        else:
            assert (request.target, request.header("last-event-id")) == (b"/-/streams/S", b"S.1")
            connection.send(stream(b"id: S.2\ndata: b\n\n"))

    out = StringIO()
    upstream.script = script
    assert await watch(reactor, Target(upstream.url, b"{}"), Terminal(out)) == 0
    lines = shown(out)
    assert lines[0] == lines[3] == "200 OK  text/event-stream"
    assert "cut in the middle" in lines[2] and "again in 0.02 s" in lines[2]
    assert [lines[1], *lines[4:]] == ["[id S.1] a", "[id S.2] b", "end"]


async def test_comments_are_shown_where_they_stood(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, stream(b"data: 1\n\n: txsse\ndata: 2\n\n"), CLOSE)
    out = StringIO()
    assert await watch(reactor, Target(upstream.url), Terminal(out)) == 0
    assert shown(out)[1:] == ["1", ".", "2", "end"]


async def test_a_server_that_is_busy_is_asked_again_only_for_a_stream_that_has_begun(upstream: ScriptedUpstream) -> None:
    busy = answer(b"busy", "429 Too Many Requests", ["Retry-After: 0"])
    upstream.script = steps(REQUEST, busy, CLOSE)
    assert await watch(reactor, Target(upstream.url), Terminal(StringIO())) == 1
    upstream.script = steps(REQUEST, STREAM_HEAD + chunk(b"retry: 1\ndata: a\n\n"), CLOSE)
    out = StringIO()
    watching = Deferred.fromCoroutine(watch(reactor, Target(upstream.url), Terminal(out)))
    await upstream.until(lambda: len(upstream.requests) == 2)
    upstream.script = steps(REQUEST, busy, CLOSE)
    await eventually(reactor, lambda: "429 Too Many Requests; again in " in out.getvalue())
    upstream.script = steps(REQUEST, b"HTTP/1.1 204 No Content\r\n\r\n", CLOSE)
    assert await watching == 0
    assert shown(out)[-1] == "204 No Content  "


async def test_an_http_error_is_shown_as_text(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, answer(b'{"error":\n"busy"}', "429 Too Many Requests"), CLOSE)
    out = StringIO()
    assert await watch(reactor, Target(upstream.url), Terminal(out)) == 1
    assert shown(out) == ["429 Too Many Requests  application/json", '{"error":', '"busy"}']


async def test_a_redirect_that_a_post_must_not_follow_is_no_success(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, answer(b"", "302 Found", ["Location: /elsewhere"]), CLOSE)
    assert await watch(reactor, Target(upstream.url, b"{}"), Terminal(StringIO())) == 1


async def test_nobody_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="refused"):
        await watch(reactor, Target(f"http://127.0.0.1:{free_port()}"), Terminal(StringIO()))


async def test_a_server_that_hangs_up_before_the_head_is_an_error(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, RESET)
    with pytest.raises(CommandError, match="after 0"):
        await watch(reactor, Target(upstream.url), Terminal(StringIO()))


async def test_a_stream_without_line_ends_is_given_up(upstream: ScriptedUpstream) -> None:
    async def flood(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD)
        while not connection.closed:
            await connection.writable()
            connection.send(chunk(bytes(65536)))

    upstream.script = flood
    with pytest.raises(CommandError, match="no event stream"):
        await watch(reactor, Target(upstream.url), Terminal(StringIO()))


async def test_cancelled_it_ends_at_once(upstream: ScriptedUpstream) -> None:
    upstream.script = steps(REQUEST, HANG)
    watching = Deferred.fromCoroutine(watch(reactor, Target(upstream.url), Terminal(StringIO())))
    await upstream.until(lambda: upstream.requests)
    watching.cancel()
    with pytest.raises(CancelledError):
        await watching


@pytest.mark.parametrize(
    ("url", "data", "headers", "named"),
    [
        ("example.org", None, [], "example.org"),
        ("http://", None, [], "http://"),
        ("http://h:port/", None, [], "port"),
        ("http://h/ö", None, [], "ö"),
        ("http://h/", "{", [], "not JSON"),
        ("http://h/", "@/no/such/file", [], "/no/such/file"),
        ("http://h/", None, ["nonsense"], "nonsense"),
        ("http://h/", None, ["A: b\r\nC: d"], "A: b"),
        ("http://h/", None, ["A B: c"], "A B"),
    ],
)
def test_wrong_arguments_are_named(url: str, data: str | None, headers: list[str], named: str) -> None:
    with pytest.raises(CommandError, match=named) as caught:
        Target.parse(url, data, headers)
    assert caught.value.status == 2


def test_data_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(b'{"a": 1}\n')
    assert Target.parse("http://h/", f"@{tmp_path / 'body.json'}", []).body == b'{"a": 1}\n'
