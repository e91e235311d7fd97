"""The status page: what ``/status`` says, as HTML without anything from elsewhere.

It follows ``/events``; where scripts do not run it is loaded anew every 5 seconds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from twisted.internet.defer import Deferred
from twisted.web.template import Tag, flattenString, tags

from txsse.admin.view import CacheLevels, Status, StreamLevels

_UPSTREAM: Final = ("upstream", "state", "since", "starts for", "left", "waiting", "in flight", "slots", "connections", "last error")

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color-scheme: light dark }
table { border-collapse: collapse; margin: 1em 0; width: 100% }
th, td { text-align: left; padding: .3em 1em .3em 0; border-bottom: 1px solid #8884 }
"""


# Without < > and &, which the template machinery would escape.
_SCRIPT: Final = """
new EventSource("events").addEventListener("status", async function () {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
});
"""

#: Nothing but the page's own style and script may take effect, which may ask the page's own server, and no other page may frame it.
CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%b'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
) % b64encode(sha256(_SCRIPT.encode()).digest())


def render_page(status: Status, cache: CacheLevels | None = None, streams: StreamLevels | None = None) -> Deferred[bytes]:
    """The page; every value is escaped by the template machinery.

    :param cache: ``None`` leaves it out, as it does *streams*.
    """
    upstreams = [
        (
            name,
            upstream["state"],
            f"{upstream['since']:.0f} s",
            _seconds(upstream["elapsed"]),
            _seconds(upstream["eta"]),
            upstream["waiting"],
            upstream["in_flight"],
            f"{upstream['slots']['taken']} of {upstream['slots']['number']}" if upstream["slots"]["number"] else "",
            f"{upstream['pool']['open']} ({upstream['pool']['idle']} idle)",
            upstream["last_error"],
        )
        for name, upstream in status["upstreams"].items()
    ]
    servers = [
        (name, server["url"], server["state"], server["in_flight"], server["failed"])
        for name, upstream in status["upstreams"].items()
        for server in upstream["servers"]
    ]
    routes = [(name, route["in_flight"]) for name, route in status["routes"].items()]
    stored = [] if cache is None else [(f"{_mebibytes(cache['bytes'])} of {_mebibytes(cache['limit'])}", cache["count"], cache["flights"])]
    kept = [] if streams is None else [(streams["kept"], streams["live"], _mebibytes(streams["bytes"]))]
    state = "draining" if status["draining"] else "serving"
    page = tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.noscript(tags.meta(**{"http-equiv": "refresh"}, content="5")),
            tags.title("txsse"),
            tags.style(_STYLE),
        ),
        tags.body(
            tags.h1("txsse"),
            Tag("main")(
                tags.p(f"{state}, version {status['version']}, up {status['uptime']:.0f} s, {status['connections']} client connections"),
                _table(_UPSTREAM, upstreams),
                _table(("upstream", "server", "state", "in flight", "failed in a row"), servers),
                _table(("route", "in flight"), routes),
                _table(("cache", "entries", "streams to join"), stored) if stored else "",
                _table(("streams to come back to", "still running", "kept of them"), kept) if kept else "",
            ),
            tags.script(_SCRIPT),
        ),
        lang="en",
    )
    return flattenString(None, page).addCallback(lambda body: b"<!DOCTYPE html>\n" + body + b"\n")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> Tag:
    return tags.table(
        tags.thead(tags.tr([tags.th(name) for name in names])),
        tags.tbody([tags.tr([tags.td(str(cell)) for cell in row]) for row in rows]),
    )
