from __future__ import annotations

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactorClock

from txsse.config.endpoints import check_endpoint, files_of, is_loopback, needs_tls
from txsse.config.errors import Refused

TWISTED_TAKES_THEM = [
    "tcp:8787",
    "tcp:8787:interface=127.0.0.1",
    "tcp:port=8787:backlog=100",
    "tcp6:8787:interface=\\:\\:1",
    "unix:/run/txsse.sock:mode=660",
    "haproxy:tcp:8787",
]


@pytest.mark.parametrize("text", TWISTED_TAKES_THEM)
def test_what_twisted_takes_passes(text: str) -> None:
    assert serverFromString(MemoryReactorClock(), text) is not None
    check_endpoint(text)


@pytest.mark.parametrize(
    "text", ["ssl:443:privateKey=key.pem:certKey=cert.pem", "systemd:domain=INET:name=web", "systemd:domain=INET:index=0", "tls:x"]
)
def test_what_needs_files_or_a_manager_passes_by_its_spelling(text: str) -> None:
    check_endpoint(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("8787", "write 'tcp:8787:interface=127.0.0.1'"),
        ("tpc:8787", "did you mean 'tcp'"),
        ("", "unknown prefix"),
        ("127.0.0.1:8787", "write it as in 'tcp:8787:interface=127.0.0.1'"),
        ("http://127.0.0.1:8787", "write it as in"),
        ("tcp:127.0.0.1:8787", "interface=127.0.0.1"),
        ("tcp:", "lacks its port"),
        ("tcp:http", "0 to 65535"),
        ("tcp:70000", "0 to 65535"),
        ("tcp:8787:interfaces=127.0.0.1", "did you mean 'interface'"),
        ("unix:", "lacks its address"),
        ("systemd:domain=INET", "lacks its domain or name"),
        ("haproxy:tpc:8787", "did you mean 'tcp'"),
    ],
)
def test_a_slip_is_refused_with_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(Refused, match=remedy):
        check_endpoint(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("tcp:9180:interface=127.0.0.1", True),
        ("tcp:9180:interface=127.8.9.1", True),
        ("tcp:9180:interface=localhost", True),
        ("tcp6:9180:interface=\\:\\:1", True),
        ("ssl:9180:interface=127.0.0.1", True),
        ("unix:/run/admin.sock", True),
        ("systemd:domain=UNIX:name=admin", True),
        ("tcp:9180", False),
        ("tcp:9180:interface=0.0.0.0", False),
        ("tcp:9180:interface=10.0.0.1", False),
        ("tcp:9180:interface=host.example", False),
        ("tcp6:9180:interface=\\:\\:", False),
        ("systemd:domain=INET:name=admin", False),
        ("haproxy:tcp:9180:interface=127.0.0.1", False),
        ("tls:x:interface=127.0.0.1", False),
    ],
)
def test_only_what_is_surely_local_counts_as_loopback(text: str, loopback: bool) -> None:
    assert is_loopback(text) is loopback


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("tcp:8787", ()),
        ("ssl:443", ("server.pem",)),
        ("ssl:443:privateKey=/run/key.pem", ("/run/key.pem",)),
        ("ssl:443:certKey=c\\:1.pem:privateKey=k.pem:extraCertChain=x.pem", ("k.pem", "c:1.pem", "x.pem")),
        ("haproxy:ssl:443:privateKey=k.pem", ("k.pem",)),
    ],
)
def test_the_files_of_a_listener_are_known_before_it_listens(text: str, files: tuple[str, ...]) -> None:
    assert files_of(text) == files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:8787", False),
        ("tcp6:8787", False),
        ("unix:/run/ssl:tls", False),
        ("systemd:domain=INET:name=web", False),
        ("haproxy:tcp:8787", False),
        ("ssl:443", True),
        ("haproxy:ssl:443", True),
        ("tls:certificates:tcp:443", True),
    ],
)
def test_tls_is_needed_where_the_string_does_not_deny_it(text: str, expected: bool) -> None:
    assert needs_tls(text) is expected
