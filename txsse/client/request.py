"""What a client asks for: the first time, after a redirect, and to take a stream up again."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urljoin, urlsplit

import attrs
from twisted.web.http_headers import Headers

GivenHeaders: TypeAlias = Mapping[str, str | Sequence[str]] | Headers

# What is meant for one origin and must not reach another.
_CREDENTIALS: Final = ("Host", "Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key")
_PORTS: Final = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an absolute *url*.

    :raises ValueError: it is no URL that can be asked.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.port == 0:
        raise ValueError(f"not an http:// or https:// URL: {url!r}")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in a URL: send an Authorization header")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


@attrs.frozen
class Request:
    """One request. ``Last-Event-ID`` is not part of it."""

    method: str
    url: str
    headers: Headers
    body: bytes | None = None

    @classmethod
    def prepare(cls, url: str, method: str | None, headers: GivenHeaders | None, body: bytes | str | None, json: object) -> Request:
        """With the fields that every client of event streams sends, unless *headers* has others.

        :param method: ``None``: POST if there is a body, else GET.
        :raises ValueError: the URL cannot be asked, or there are two bodies.
        """
        origin(url)
        if body is not None and json is not None:
            raise ValueError("give either body or json")
        defaults = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if json is not None:
            body = json_module.dumps(json, separators=(",", ":"))
            defaults["Content-Type"] = "application/json"
        content = body.encode() if isinstance(body, str) else body
        method = (method or ("GET" if content is None else "POST")).upper()
        if method != "GET":
            defaults["X-Txsse-Resume"] = "1"  # without it the proxy gives ids only to GETs
        fields = _fields(headers)
        for name, value in defaults.items():
            if not fields.hasHeader(name):
                fields.setRawHeaders(name, [value])
        return cls(method, url, fields, content)

    def fields(self, last_event_id: str) -> Headers:
        """The header fields to send now."""
        fields = self.headers.copy()
        if last_event_id:
            fields.setRawHeaders(b"Last-Event-ID", [last_event_id.encode()])
        return fields

    def redirected(self, status: int, location: str | None) -> Request | None:
        """What to ask for after this answer; ``None`` where it is no redirect, or one that must not be followed (RFC 9110 section 15.4).

        A 301 or 302 is followed for GET only: what it means for a POST is not certain. Credentials are not taken to another origin.
        """
        if location is None:
            return None
        same_method = status in (307, 308) or (status in (301, 302) and self.method == "GET")
        if not same_method and status != 303:
            return None
        try:
            url = urljoin(self.url, location)
            elsewhere = origin(url) != origin(self.url)
        except ValueError:
            return None
        following = attrs.evolve(self, url=url) if same_method else self._get(url)
        return attrs.evolve(following, headers=_without(following.headers, _CREDENTIALS)) if elsewhere else following

    def resumed_at(self, location: str | None) -> Request | None:
        """A GET of the *location* that the answer to a POST has named; ``None`` if there is none, or at another origin."""
        if location is None:
            return None
        try:
            url = urljoin(self.url, location)
            return self._get(url) if origin(url) == origin(self.url) else None
        except ValueError:
            return None

    def _get(self, url: str) -> Request:
        return Request("GET", url, _without(self.headers, ("Content-Type",)))


def _fields(given: GivenHeaders | None) -> Headers:
    if isinstance(given, Headers):
        return given.copy()
    fields = Headers()
    for name, value in (given or {}).items():
        fields.setRawHeaders(name, [value] if isinstance(value, str) else [*value])
    return fields


def _without(headers: Headers, names: Sequence[str]) -> Headers:
    kept = headers.copy()
    for name in names:
        kept.removeHeader(name)
    return kept
