"""A real Redis for each test, and lines to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types

from tests.redis.server import PROGRAM, RedisServer
from txsse.redis.journal import Journal
from txsse.redis.link import RedisLink

StartServer = Callable[..., RedisServer]

LEASE = 1.0
"""Seconds: of the journals of these tests."""


@pytest.fixture
def start_redis(tmp_path: Path) -> Generator[StartServer]:
    """Starts a Redis with more options than usual."""
    if PROGRAM is None:
        assert not os.environ.get("CI"), "redis-server is not installed: apt-get install redis-server"
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def redis(start_redis: StartServer) -> RedisServer:
    return start_redis()


class OpenLink(Protocol):
    def __call__(self, url: str, *, ca_file: str = "", changed: Callable[[str], None] = ...) -> RedisLink: ...


@pytest.fixture
def open_link() -> Generator[OpenLink]:
    """Makes lines that are started, and closed after the test; they may not be up yet."""
    from twisted.internet import reactor

    links: list[RedisLink] = []

    def open_link(url: str, *, ca_file: str = "", changed: Callable[[str], None] = lambda why: None) -> RedisLink:
        link = RedisLink(url, reactor, ca_file=ca_file, changed=changed)
        links.append(link)
        link.start()
        return link

    yield open_link
    for each in links:
        pytest_twisted.blockon(each.close())


@pytest.fixture
def open_journal(open_link: OpenLink) -> Generator[Callable[..., Journal]]:
    """Makes journals that are started, each with a line of its own as if it were on another machine."""
    from twisted.internet import reactor

    journals: list[Journal] = []

    def open_journal(url: str, *, keep: int = 1024 * 1024, lease: float = LEASE) -> Journal:
        journal = Journal(open_link(url), reactor, f"node{len(journals)}", lease=lease, keep=keep)
        journals.append(journal)
        journal.start()
        return journal

    yield open_journal
    for each in journals:
        pytest_twisted.blockon(each.close())
