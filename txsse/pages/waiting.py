"""The waiting page: who is shown it, and how it is made of its template."""

from __future__ import annotations

import hashlib
import html
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Final

from txsse.exchange.voice import HoldStatus
from txsse.wire.headers import Headers, get, tokens
from txsse.wire.http1 import RequestHead

PROGRESS: Final = "/-/hold/"
"""What a ticket's token stands behind, in the path of the progress that a page follows."""

_PAGES: Final = (b"text/html", b"application/xhtml+xml")
_WEIGHT: Final = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")  # RFC 9110 section 12.4.2
_INLINE: Final = re.compile(rb"<(script|style)(?:\s[^>]*)?>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_PLACE: Final = re.compile(r"(?<!\$)\{(\w+)\}")  # in scripts, ${name} is a script's own
_UNKNOWN: Final = "not known"


def wants_page(head: RequestHead) -> bool:
    """Does somebody sit before a browser and look at an empty tab? That is a GET which prefers HTML to anything else.

    Scripts ask for ``*/*`` or for what they can read. Where a browser tells more (Fetch Metadata), it must be a navigation.
    """
    if head.method != b"GET":
        return False
    mode = get(head.headers, b"sec-fetch-mode")
    if mode is not None and mode.strip().lower() != b"navigate":
        return False
    return _preferred(head.headers) in _PAGES


def _preferred(headers: Headers) -> bytes:
    """The media type that Accept gives the greatest weight; of several the first."""
    best, greatest = b"", 0.0
    for member in tokens(headers, b"accept"):
        kind, *parameters = [part.strip() for part in member.split(b";")]
        given = [float(found[1]) for each in parameters if (found := _WEIGHT.fullmatch(each))]
        weight = given[0] if given else 1.0
        if weight > greatest:
            best, greatest = kind, weight
    return best


class WaitingPage:
    """A template, filled in for each who is shown it.

    :param template: HTML in UTF-8, in which ``{progress}``, ``{token}``, ``{upstream}``, ``{state}``, ``{elapsed}``, ``{eta}``,
        ``{position}`` and ``{refresh}`` are replaced.
    :param own: it is not the built-in one: it may load what it needs from its own origin.
    :raises ValueError: it is no UTF-8.
    """

    def __init__(self, template: bytes, *, own: bool) -> None:
        try:
            text = template.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = template.count(b"\n", 0, error.start) + 1
            raise ValueError(f"not UTF-8 (at line {line}); save it as UTF-8") from None
        # As browsers read it: what they compare with the policy's hashes are their lines.
        self._template = text.replace("\r\n", "\n").replace("\r", "\n")
        self._own = own

    @classmethod
    @cache
    def built_in(cls) -> WaitingPage:
        return cls(Path(__file__).with_name("waiting.html").read_bytes(), own=False)

    def render(self, token: str, status: HoldStatus, refresh: int) -> tuple[bytes, Headers]:
        """The page and the fields that belong to it.

        :param refresh: seconds after which it is loaded anew where scripts are off.
        """
        body = self._filled(token, status, refresh).encode()
        return body, [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Cache-Control", b"no-store"),
            (b"Content-Security-Policy", _policy(body, own=self._own)),
            (b"Referrer-Policy", b"no-referrer"),
            (b"X-Content-Type-Options", b"nosniff"),
        ]

    def _filled(self, token: str, status: HoldStatus, refresh: int) -> str:
        eta = status.eta
        known = {
            "progress": PROGRESS + token,
            "token": token,
            "upstream": status.upstream,
            "state": status.state,
            "elapsed": str(round(status.elapsed)),
            "eta": _UNKNOWN if eta is None else f"about {round(eta)} s more" if round(eta) > 0 else "any moment",
            "position": _UNKNOWN if status.position is None else str(status.position),
            "refresh": str(refresh),
        }
        return _PLACE.sub(lambda place: html.escape(known[place[1]]) if place[1] in known else place[0], self._template)


def _policy(page: bytes, *, own: bool) -> bytes:
    """A Content-Security-Policy that lets the scripts and styles take effect that stand in the page, and nothing else.

    Framing is left to the upstream to forbid: here is nothing to be clicked at that matters, and a frame would stay empty.
    """
    hashes: dict[bytes, list[bytes]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        if content:
            hashes[kind.lower()].append(b"'sha256-%b'" % b64encode(hashlib.sha256(content).digest()))
    ours = [b"'self'"] if own else []
    rules = {
        b"default-src": [b"'none'"],
        b"script-src": [*ours, *hashes[b"script"]] or [b"'none'"],
        b"style-src": [*ours, *hashes[b"style"]] or [b"'none'"],
        b"img-src": [*ours, b"data:"],
        b"font-src": [*ours, b"data:"],
        b"connect-src": [b"'self'"],
        b"base-uri": [b"'none'"],
        b"form-action": [b"'none'"],
    }
    return b"; ".join(b"%b %b" % (name, b" ".join(sources)) for name, sources in rules.items())
