"""A test with the fakes of ``txsse.testing``: a scripted backend, the proxy before it, a client that notes when each piece came.

Copy it into a test suite that uses pytest-twisted, which runs ``async def`` tests as they are.
"""

from __future__ import annotations

from typing import Any

from txsse import ProxyService
from txsse.config import loads
from txsse.testing import LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, RecordingClient, ScriptedUpstream, chunk, steps

CONFIGURATION = """
[server]
listen = ["tcp:0:interface=127.0.0.1"]
admin = "none"
access_log = false

[[upstream]]
name = "fake"
url = "{url}"
probe.preset = "none"

[[route]]
keepalive.interval = "100ms"
"""


async def test_a_gap_is_filled_and_the_events_are_unchanged() -> None:
    from twisted.internet import reactor

    gate = Gate()
    script = steps(REQUEST, STREAM_HEAD, chunk(b"data: one\n\n"), gate, chunk(b"data: two\n\n"), LAST_CHUNK)
    upstream = ScriptedUpstream(reactor, script)
    await upstream.open()
    proxy = ProxyService(loads(CONFIGURATION.format(url=upstream.url)), reactor=reactor)
    proxy.startService()
    address: Any = proxy.ports[0].getHost()  # its interface has no port
    client = await RecordingClient.connect(reactor, address.port)
    try:
        client.request("GET", "/events", headers=["Accept: text/event-stream"])
        await client.contains(b": txsse\n: txsse\n")
        gate.open()
        await client.complete()
        assert [event.data for event in client.events] == ["one", "two"]
        assert set(client.comments) == {"txsse"}
    finally:
        client.close()
        await proxy.stopService()
        await upstream.stop()
