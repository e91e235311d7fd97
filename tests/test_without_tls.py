"""In interpreters of their own: in this one pyOpenSSL is imported long since."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_hidden_means_not_installed_and_shown_means_as_before() -> None:
    run(
        """
from txsse._without_tls import hide_tls, show_tls
hide_tls()
try:
    from OpenSSL import SSL
except ImportError:
    pass
else:
    sys.exit("imported")
show_tls()
from OpenSSL import SSL
show_tls()
assert "OpenSSL" in sys.modules
"""
    )


def test_what_is_imported_already_stays() -> None:
    run(
        """
import OpenSSL
from txsse._without_tls import hide_tls
hide_tls()
assert sys.modules["OpenSSL"] is OpenSSL
"""
    )


@pytest.mark.parametrize("name", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
def test_reactors_work_without_it(name: str) -> None:
    run(
        f"""
from txsse._without_tls import hide_tls
hide_tls()
from twisted.internet import {name}
{name}.install()
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Protocol)).addCallback(
    lambda port: clientFromString(reactor, f"tcp:127.0.0.1:{{port.getHost().port}}").connect(Factory.forProtocol(Protocol))
).addCallback(lambda _: reactor.stop())
reactor.callLater(20, sys.exit, "no connection")
reactor.run()
assert sys.modules["OpenSSL"] is None
"""
    )
