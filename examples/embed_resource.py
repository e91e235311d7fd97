"""The proxy as a resource of somebody else's web server: under ``/v1`` of a ``twisted.web`` site, and of a Klein application.

Run it as::

    python examples/embed_resource.py examples/minimal.toml          # twisted.web on port 8888
    python examples/embed_resource.py examples/minimal.toml klein    # the same with Klein

The proxy listens nowhere by itself here. What only its own listener can promise (early refusal of large bodies, deadlines for slow
clients, stuck readers) the site it is mounted in has to provide: the list is in the documentation, "What is supported".
"""

from __future__ import annotations

import sys
from typing import Any

import attrs
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site

from txsse import Configuration, ProxyResource, ProxyService, load


def without_listeners(configuration: Configuration) -> Configuration:
    """The same upstreams and routes, served by somebody else's listener."""
    return attrs.evolve(configuration, server=attrs.evolve(configuration.server, listen=(), admin="none"))


class Home(Resource):
    """A page of the site's own."""

    def render_GET(self, request: IRequest) -> bytes:
        return b"The models are under /v1.\n"


def plain_site(proxy: ProxyService) -> Site:
    """A ``twisted.web`` site with a page of its own, and the proxy under ``/v1``."""
    root = Resource()
    root.putChild(b"", Home())
    root.putChild(b"v1", ProxyResource(proxy))
    return Site(root)


def klein_site(proxy: ProxyService) -> Site:
    """The same as a Klein application; ``branch=True`` hands everything below the path over."""
    from klein import Klein  # it imports the reactor

    app = Klein()
    models = ProxyResource(proxy)

    @app.route("/")
    def home(request: IRequest) -> str:
        return "The models are under /v1.\n"

    @app.route("/v1/", branch=True)
    def v1(request: IRequest) -> IResource:
        return models

    return Site(app.resource())


def main(path: str, kind: str = "plain") -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor  # no interface has both listenTCP and run
    proxy = ProxyService(without_listeners(load(path)), reactor=reactor)
    proxy.startService()
    site = klein_site(proxy) if kind == "klein" else plain_site(proxy)
    any_reactor.listenTCP(8888, site, interface="127.0.0.1")
    any_reactor.addSystemEventTrigger("before", "shutdown", proxy.stopService)
    any_reactor.run()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
