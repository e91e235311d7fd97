"""The proxy inside a Twisted program of your own, beside its other services.

Run it as::

    python examples/embed_service.py examples/minimal.toml

The proxy opens its own listeners, as the file says. Stopping the parent service drains it: streams in flight may finish.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService

from txsse import Configuration, ProxyService, load


def make_service(configuration: Configuration, reactor: Any) -> MultiService:
    """The program: the proxy, and a service that tells once a minute how busy it is."""
    parent = MultiService()
    proxy = ProxyService(configuration, reactor=reactor)
    proxy.setServiceParent(parent)

    def report() -> None:
        print(f"{proxy.open_streams} streams are open; waiting and active by route: {proxy.queue()}")

    report_service = TimerService(60, report)
    report_service.clock = reactor
    report_service.setServiceParent(parent)
    return parent


def main(path: str) -> None:
    from twisted.internet import reactor

    service = make_service(load(path), reactor)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1])
