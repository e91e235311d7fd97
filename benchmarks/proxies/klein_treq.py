"""Our own baseline: the proxy that one writes in an hour with Klein and treq. usage: klein_treq.py PORT UPSTREAM_PORT"""

from __future__ import annotations

import sys
from typing import Any

import treq
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http import Request
from twisted.web.server import Site

HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host"}

app = Klein()
AGENT: Agent


@app.route("/<path:path>", methods=["GET", "POST"])
async def relay(request: Request, path: str) -> None:
    left: Deferred[None] = request.notifyFinish()
    url = f"http://127.0.0.1:{sys.argv[2]}{request.uri.decode()}"
    headers = {name: values for name, values in request.requestHeaders.getAllRawHeaders() if name.lower() not in HOP_BY_HOP}
    response: Any = await treq.request(
        request.method.decode(), url, headers=headers, data=request.content.read(), agent=AGENT, unbuffered=True
    )
    request.setResponseCode(response.code)
    for name, values in response.headers.getAllRawHeaders():
        if name.lower() not in HOP_BY_HOP:
            request.responseHeaders.setRawHeaders(name, values)
    left.addErrback(lambda reason: None)
    await treq.collect(response, request.write)


def main(reactor: Any) -> None:
    global AGENT
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = 1024
    AGENT = Agent(reactor, pool=pool)
    reactor.listenTCP(int(sys.argv[1]), Site(app.resource()), interface="127.0.0.1", backlog=4096)
    reactor.run()


if __name__ == "__main__":
    from twisted.internet import reactor

    main(reactor)
