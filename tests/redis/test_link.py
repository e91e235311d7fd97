"""The line to Redis, against a real one: deadlines, what breaks it and how it comes back, who is let in, channels."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.redis.conftest import OpenLink, StartServer
from tests.redis.server import RedisServer
from tests.timing import BUSY
from tests.upstream.certificates import Authority, names
from txsse.config.errors import Refused
from txsse.redis.errors import CommandRefused, RedisError, Unavailable, code_of
from txsse.redis.link import MISSING, MOST_MISSED, RedisLink, Script
from txsse.testing import HANG, ScriptedUpstream, eventually, free_port, steps

CLOCK: Any = reactor


class Ear:
    def __init__(self) -> None:
        self.confirmed = 0
        self.messages: list[bytes] = []

    def subscribed(self) -> None:
        self.confirmed += 1

    def heard(self, message: bytes) -> None:
        self.messages.append(message)


async def up(*links: RedisLink) -> None:
    await eventually(CLOCK, lambda: all(link.available for link in links), what="the line to Redis")


async def test_values_come_back_as_they_are(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    awkward = bytes(range(256)) + b"\r\n"
    for value in (b"123", b"1.5", b"QUEUED", b"", awkward):
        await link.command("SET", "key", value)
        assert await link.command("GET", "key") == value
    assert await link.command("GET", "nothing") is None
    assert await link.command("INCR", "number") == 1
    assert await link.command("XRANGE", "stream", "-", "+") == []


async def test_there_is_a_socket_form(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(f"unix://{redis.socket}?db=3")
    await up(link)
    await link.command("SET", "key", "in the third")
    other = open_link(f"redis://127.0.0.1:{redis.port}/3")
    await up(other)
    assert await other.command("GET", "key") == b"in the third"


async def test_what_redis_refuses_is_said(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    with pytest.raises(CommandRefused, match="wrong number of arguments"):
        await link.command("GET")
    assert link.available


async def test_nothing_is_sent_before_the_line_is_up(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    with pytest.raises(Unavailable):
        await link.command("PING")


async def test_a_command_that_takes_too_long_fails_and_the_next_reply_is_its_own(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await link.command("BLPOP", "nothing", "0.5", deadline=0.05)
    assert await link.command("ECHO", "after it", deadline=BUSY) == b"after it"
    assert link.timeouts == 1


async def test_a_reply_that_came_while_we_stood_still_is_in_time(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    await link.command("PING")  # from here on it is the reactor's turn to read; its timers are next
    asked = [link.command("ECHO", "hello", deadline=0.05) for _ in range(MOST_MISSED)]
    time.sleep(0.2)  # as a process that was frozen
    assert [await each for each in asked] == [b"hello"] * MOST_MISSED
    assert link.timeouts == 0


async def test_a_cancelled_command_takes_nobody_elses_reply(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    first = link.command("ECHO", "first")
    second = link.command("ECHO", "second")
    first.addErrback(lambda failure: None)
    first.cancel()
    assert await second == b"second"


async def test_a_frozen_redis_opens_the_breaker_and_a_thawed_one_closes_it(redis: RedisServer, open_link: OpenLink) -> None:
    told: list[str] = []
    link = open_link(redis.url, changed=told.append)
    await up(link)
    redis.freeze()
    outcomes = await gatherResults([_outcome(link.command("PING")) for _ in range(MOST_MISSED)])
    assert all("within 1 s" in each for each in outcomes)
    await eventually(CLOCK, lambda: not link.available)
    at_once = link.command("PING")
    assert at_once.called
    with pytest.raises(Unavailable, match="no connection"):
        await at_once
    await eventually(CLOCK, lambda: len(told) == 2)
    redis.thaw()
    await up(link)
    assert await link.command("PING") == b"PONG"
    assert told[0] == "" and told[1] == "connection lost" and told[-1] == ""


async def test_a_redis_that_hesitates_again_and_again_is_slow_and_not_gone(redis: RedisServer, open_link: OpenLink) -> None:
    told: list[str] = []
    link = open_link(redis.url, changed=told.append)
    await up(link)
    for _ in range(3):
        redis.freeze()
        outcomes = await gatherResults([_outcome(link.command("PING", deadline=0.05)) for _ in range(2 * MOST_MISSED)])
        assert all("within 0.05 s" in each for each in outcomes)
        redis.thaw()
        assert await link.command("PING", deadline=5) == b"PONG"
    assert told == [""] and link.timeouts == 6 * MOST_MISSED


async def test_one_that_cannot_be_written_to_is_left(redis: RedisServer, open_link: OpenLink) -> None:
    told: list[str] = []
    link = open_link(redis.url, changed=told.append)
    await up(link)
    redis.do("REPLICAOF", "127.0.0.1", str(free_port()))  # as after a failover, on a connection from before
    with pytest.raises(CommandRefused):
        await link.run(Script("return redis.call('SET', KEYS[1], '1')"), ["key"], [])
    await eventually(CLOCK, lambda: told[1:])
    assert told[1] == "it refused us: READONLY You can't write against a read only replica."
    assert (link.available, link.trouble, link.refusals["READONLY"]) == (False, told[1], 1)
    redis.do("REPLICAOF", "NO", "ONE")
    await up(link)
    assert len(told) == 3, "one line when it begins, and one when it is over"
    assert link.trouble == ""


async def test_what_is_refused_again_and_again_is_said_once_a_minute_and_counted(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    await link.command("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
    with capturedLogs() as logged:
        for _ in range(3):
            with pytest.raises(CommandRefused, match="OOM"):
                await link.run(Script("return redis.call('SET', KEYS[1], ARGV[1])"), ["key"], ["secret"])
        with pytest.raises(CommandRefused, match="unknown command"):
            await link.command("NOSUCH", "secret")
    assert link.refusals == {"OOM": 3, "other": 1} and link.available
    said = [line for line in map(formatEvent, logged) if "refuses" in line]
    assert len(said) == 1 and "OOM command not allowed" in said[0] and "secret" not in said[0]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("ERR Error running script (call to f_1a): @user_script:1: @user_script: 1: -OOM command not allowed when", "OOM"),
        ("WRONGTYPE Operation against a key", "other"),
        ("", "other"),
    ],
)
def test_refusals_are_told_apart_whatever_version_says_them(words: str, code: str) -> None:
    assert code_of(words) == code


async def test_a_server_that_repeats_what_it_does_not_know_does_not_give_the_password_away(
    start_redis: StartServer, open_link: OpenLink
) -> None:
    redis = start_redis("--rename-command", "AUTH", "")
    told: list[str] = []
    open_link(f"redis://:s3cret@127.0.0.1:{redis.port}", changed=told.append)
    await eventually(CLOCK, lambda: told)
    assert "unknown command" in told[0] and "s3cret" not in told[0]


async def test_a_redis_that_was_killed_is_found_again(redis: RedisServer, open_link: OpenLink) -> None:
    told: list[str] = []
    link = open_link(redis.url, changed=told.append)
    await up(link)
    under_way = _outcome(link.command("BLPOP", "nothing", "0", deadline=5))
    redis.stop()
    assert await under_way == "the connection to Redis was lost"
    redis.start()
    await up(link)
    assert told == ["", "connection lost", ""]


async def test_without_a_redis_that_is_said_once(redis: RedisServer, open_link: OpenLink) -> None:
    redis.stop()
    told: list[str] = []
    open_link(redis.url, changed=told.append)
    await eventually(CLOCK, lambda: told)
    redis.start()
    await eventually(CLOCK, lambda: told[-1] == "")
    assert told == ["connection refused", ""]


async def test_something_else_on_the_port_is_no_redis(open_link: OpenLink) -> None:
    upstream = ScriptedUpstream(CLOCK, steps(b"HTTP/1.1 400 Bad Request\r\n\r\n", HANG))
    await upstream.open()
    told: list[str] = []
    link = open_link(f"redis://127.0.0.1:{upstream.port}", changed=told.append)
    await eventually(CLOCK, lambda: told)
    assert told[0] and not link.available
    await link.close()
    await upstream.stop()


@pytest.mark.parametrize(("user", "fine"), [("proxy:s%40cret@", True), ("proxy:wrong@", False), ("", False)])
async def test_who_is_let_in(user: str, fine: bool, start_redis: StartServer, open_link: OpenLink) -> None:
    redis = start_redis("--user", "default", "off", "--user", "proxy", "on", ">s@cret", "~*", "&*", "+@all")
    told: list[str] = []
    link = open_link(f"redis://{user}127.0.0.1:{redis.port}", changed=told.append)
    await eventually(CLOCK, lambda: told)
    assert link.available is fine
    assert told[0] == "" if fine else ("WRONGPASS" in told[0] or "NOAUTH" in told[0])
    assert "cret" not in told[0] and "wrong" not in told[0]


async def test_the_certificate_must_be_for_the_host(tmp_path: Path, start_redis: StartServer, open_link: OpenLink) -> None:
    authority = Authority(tmp_path)
    _, file = authority.issue("redis", names("localhost"))
    port = free_port()
    start_redis(
        "--tls-port",
        str(port),
        "--tls-cert-file",
        file,
        "--tls-key-file",
        file,
        "--tls-auth-clients",
        "no",
        "--tls-ca-cert-file",
        authority.ca_file,
    )
    told: list[str] = []
    for host, ca_file, reason in (
        ("localhost", authority.ca_file, ""),
        ("127.0.0.1", authority.ca_file, "certificate is for another host"),
        ("localhost", "", "certificate not trusted"),
    ):
        told.clear()
        open_link(f"rediss://{host}:{port}", ca_file=ca_file, changed=told.append)
        await eventually(CLOCK, lambda: told)
        assert told[0] == reason or (reason and reason in told[0])


async def test_a_script_is_sent_once(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    script = Script("return {KEYS[1], ARGV[1]}")
    for number in (b"1", b"2"):
        assert await link.run(script, ["key"], [number]) == [b"key", number]
    await link.command("SCRIPT", "FLUSH")
    assert await link.run(script, ["key"], [b"3"]) == [b"key", b"3"]
    stats = await link.command("INFO", "commandstats")
    assert isinstance(stats, bytes) and b"cmdstat_eval:calls=2" in stats


async def test_a_channel_is_heard_again_after_a_loss(redis: RedisServer, open_link: OpenLink) -> None:
    link, other = open_link(redis.url), open_link(redis.url)
    ear, second = Ear(), Ear()
    link.subscribe(b"channel", ear)
    await up(link, other)
    link.subscribe(b"second", second)
    await eventually(CLOCK, lambda: ear.confirmed and second.confirmed)
    assert await other.command("PUBLISH", "channel", b"one") == 1
    await other.command("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(CLOCK, lambda: ear.confirmed == 2)
    await other.command("PUBLISH", "channel", b"two")
    await eventually(CLOCK, lambda: ear.messages == [b"one", b"two"])
    assert link.available
    link.unsubscribe(b"channel")
    link.unsubscribe(b"channel")
    await other.command("PUBLISH", "channel", b"three")
    await other.command("PUBLISH", "second", b"four")
    await eventually(CLOCK, lambda: second.messages == [b"four"])
    assert ear.messages == [b"one", b"two"]


async def test_what_is_under_way_fails_when_the_line_is_closed(redis: RedisServer, open_link: OpenLink) -> None:
    link = open_link(redis.url)
    await up(link)
    waiting = _outcome(link.command("BLPOP", "nothing", "0", deadline=9))
    await link.close()
    assert await waiting == "the connection to Redis was lost"
    await link.close()


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "txsse.redis.protocol", raising=False)
    monkeypatch.setattr("txsse.redis.protocol", None, raising=False)
    monkeypatch.delattr("txsse.redis.protocol")
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(Refused) as refused:
        RedisLink("redis://localhost", CLOCK)
    assert str(refused.value) == MISSING


def _outcome(waiting: Deferred[Any]) -> Deferred[str]:
    def failed(failure: Failure) -> str:
        failure.trap(RedisError)
        return failure.getErrorMessage()

    return waiting.addCallbacks(str, failed)


def test_a_process_that_hides_tls_can_have_a_link() -> None:
    program = "\n".join(
        [
            "import sys",
            "from txsse._without_tls import hide_tls",
            "hide_tls()",
            "import txsse.redis.link, txsse.redis.journal, txsse.redis.cache",
            "assert not {'txredisapi', 'hiredis'} & set(sys.modules)",
            "from twisted.internet import reactor",
            "txsse.redis.link.RedisLink('redis://localhost', reactor)",
            "assert {'txredisapi', 'hiredis'} <= set(sys.modules)",
        ]
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
