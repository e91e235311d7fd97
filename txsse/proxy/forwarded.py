"""What crosses the proxy in a message's head: request fields towards the upstream, response fields towards the client.

Everything stays bytes: a head rebuilt through text can be split by characters that text calls line ends (``\\x85``, ``\\x1c``).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from typing import Final

import attrs

from txsse.interfaces import Request
from txsse.wire.headers import HOP_BY_HOP, Headers, end_to_end, get, get_all, tokens, without
from txsse.wire.http1 import ResponseHead

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Fields the proxy owns: ``set_headers`` may not name them.
NOT_SETTABLE: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"via"}

# Never copied from the client: hop-by-hop, rebuilt below, or (Expect, X-Txsse-*) meant for us alone.
_DROPPED: Final = NOT_SETTABLE | {b"x-request-id", b"x-forwarded-for", b"forwarded"}
_DROPPED_PREFIX: Final = b"x-txsse-"
# From strangers neither: only whom we trust may say where a request came from.
_DROPPED_UNTRUSTED: Final = _DROPPED | {b"x-real-ip"}
_DROPPED_PREFIXES_UNTRUSTED: Final = (_DROPPED_PREFIX, b"x-forwarded-")


@attrs.frozen
class TrustedProxies:
    """The peers whose word about the original client is taken: addresses, networks, and the name ``unix:`` for UNIX sockets."""

    networks: tuple[_Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str]) -> TrustedProxies:
        """From ``server.trusted_proxies``; :exc:`ValueError` names what is neither an address nor a network.

        As the configuration does, it takes ``10.0.0.1/8`` for the network that this address is in.
        """
        words = list(texts)
        return cls(tuple(ipaddress.ip_network(word, strict=False) for word in words if word != "unix:"), "unix:" in words)

    def __contains__(self, peer: str) -> bool:
        """Whether *peer* (an IP address, or ``""`` for a UNIX socket) is trusted."""
        if not peer:
            return self.unix
        if not self.networks:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            # A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d.
            address = address.ipv4_mapped or address
        return any(address in network for network in self.networks)


@attrs.frozen
class Forwarding:
    """How requests to one upstream are addressed; made once, from its configuration.

    :param instance: this proxy's name within Via, distinct among proxies that may be chained.
    :param host: ``upstream`` (of its servers each gets its own), ``preserve``, or a literal Host.
    :param set_headers: fields that replace the client's of the same name; an empty value only removes it.
    :param understood: fields for proxies like this one, lower-case, that are passed on: it is one.
    """

    instance: str
    host: str = "upstream"
    set_headers: Headers = attrs.field(factory=list, repr=False)
    trusted: TrustedProxies = TrustedProxies()
    understood: tuple[bytes, ...] = ()

    @set_headers.validator
    def _check_set_headers(self, attribute: object, value: Headers) -> None:
        for name, text in value:
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"set_headers: {name!r} is not a header name")
            if name.lower() in NOT_SETTABLE:
                raise ValueError(f"set_headers may not set {name.decode('ascii')}: the proxy writes it itself")
            if _CONTROL.search(text):  # the value may be a secret: not shown
                raise ValueError(f"set_headers: the value of {name.decode('ascii')} holds control characters")


class RequestIds:
    """Makes ids of 32 hex digits: they read as a UUID, and llama-cpp-python answers 400 to any other id.

    Random bytes are fetched for many at a time: a system call each would take 4 us.
    """

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = ""

    def new(self) -> bytes:
        if not self._random:
            self._random = secrets.token_hex(16 * 128)
        made, self._random = self._random[:32], self._random[32:]
        return made.encode("ascii")


def seen_own_via(headers: Headers, instance: str) -> bool:
    """Whether a request has passed this very proxy before (RFC 9110 section 7.6.3): answering it would loop for ever."""
    own = b"txsse-" + instance.lower().encode("latin-1")
    for value in get_all(headers, b"via"):
        for member in value.lower().split(b","):
            words = member.split()
            if len(words) >= 2 and words[1] == own:
                return True
    return False


@attrs.frozen
class Outline:
    """The head the upstream receives, but for what belongs to one request alone.

    :param begin: the request line and the name of the Host field.
    :param host: its value; empty = the authority of the server that gets it.
    :param fields: the others. The last line is not ended, and if X-Request-Id is sent it is that one, without its value.
    :param identified: X-Request-Id is sent.
    :param sized: Content-Length is sent although the body is empty.
    """

    begin: bytes
    host: bytes
    fields: bytes
    identified: bool
    sized: bool

    def fill(self, authority: bytes, request_id: bytes, length: int) -> bytes:
        """The whole head. The body is buffered: however it came, it leaves with its *length*."""
        ident = request_id if self.identified else b""
        if length or self.sized:
            return b"%b%b%b%b\r\nContent-Length: %d\r\n\r\n" % (self.begin, self.host or authority, self.fields, ident, length)
        return b"%b%b%b%b\r\n\r\n" % (self.begin, self.host or authority, self.fields, ident)


def outline(request: Request, forwarding: Forwarding, *, writes_stream: bool, upgrades: bool = False) -> Outline:
    """How the head of *request* is sent: the client's target byte for byte, then the fields.

    :param writes_stream: the proxy may have to write into the response, so it must not come compressed.
    :param upgrades: it asks for a WebSocket. Other protocols that the client offered are not passed on.
    """
    head = request.head
    trusted = request.peer in forwarding.trusted
    kept = _kept(head.headers, trusted=trusted, identity=writes_stream)
    if forwarding.understood:
        kept += [field for field in head.headers if field[0].lower() in forwarding.understood]
    headers = [*kept]
    headers += _about_client(request, kept, trusted=trusted)
    if writes_stream:
        headers.append((b"Accept-Encoding", b"identity"))
    replaced = {_plain(name) for name, _ in forwarding.set_headers}
    if replaced:
        headers = [field for field in headers if _plain(field[0]) not in replaced]
        headers += [(name, value) for name, value in forwarding.set_headers if value]
    if upgrades:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    headers.append((b"Via", _via(request, forwarding.instance)))
    identified = b"x-request-id" not in replaced
    if identified:
        headers.append((b"X-Request-Id", b""))
    return Outline(
        begin=b"%b %b HTTP/1.1\r\nHost: " % (head.method, request.path),
        host=_host(request, forwarding),
        fields=b"".join(b"\r\n%b: %b" % field for field in headers),
        identified=identified,
        sized=head.sized or head.chunked,
    )


def response_headers(head: ResponseHead) -> Headers:
    """The upstream's fields that the client gets, byte for byte: hop-by-hop and Connection-named ones are dropped.

    Content-Length stays, unless the body came chunked, which overrules it (RFC 9112 section 6.3), or the status must not have one
    (RFC 9110 section 8.6): a client that trusted it would take the next answer for a body.
    """
    if head.status in (101, 204) or get(head.headers, b"transfer-encoding") is not None:
        return without(end_to_end(head.headers), (b"content-length",))
    kept = end_to_end(head.headers)
    if get(kept, b"content-length") is None and (length := get(head.headers, b"content-length")) is not None:
        # Connection may not name it; dropping it would turn a delimited body into a close-delimited one.
        kept.append((b"Content-Length", length))
    return kept


def _plain(name: bytes) -> bytes:
    """A name for comparison. CGI and WSGI know X_Forwarded_For and X-Forwarded-For as one, so neither passes where the other may not."""
    return name.lower().replace(b"_", b"-")


def _kept(client: Headers, *, trusted: bool, identity: bool) -> Headers:
    """The client's end-to-end fields that are not rebuilt, in one pass."""
    drop = (_DROPPED if trusted else _DROPPED_UNTRUSTED).union(map(_plain, tokens(client, b"connection")))
    prefixes = _DROPPED_PREFIX if trusted else _DROPPED_PREFIXES_UNTRUSTED
    if identity:
        drop |= {b"accept-encoding"}
    return [field for field in client if (plain := _plain(field[0])) not in drop and not plain.startswith(prefixes)]


def _about_client(request: Request, kept: Headers, *, trusted: bool) -> Headers:
    """X-Forwarded-* and Forwarded: what a trusted peer said is extended, anybody else's words were dropped and ours stand alone."""
    client = request.head.headers
    peer = request.peer.encode("latin-1")
    scheme = b"https" if request.secure else b"http"
    headers: Headers = []
    if chain := b", ".join([*(get_all(client, b"x-forwarded-for") if trusted else ()), *([peer] if peer else ())]):
        headers.append((b"X-Forwarded-For", chain))
    if get(kept, b"x-forwarded-proto") is None:
        headers.append((b"X-Forwarded-Proto", scheme))
    if request.host and get(kept, b"x-forwarded-host") is None:
        headers.append((b"X-Forwarded-Host", request.host))
    if trusted and (told := get_all(client, b"forwarded")):
        headers.append((b"Forwarded", b", ".join([*told, b"for=%b;proto=%b" % (_node(peer), scheme)])))
    return headers


def _node(peer: bytes) -> bytes:
    """A peer as RFC 7239 section 6 spells it."""
    if not peer:
        return b"unknown"
    return b'"[%b]"' % peer if b":" in peer else peer


def _via(request: Request, instance: str) -> bytes:
    version = request.head.version.rpartition(b"/")[2]
    return b", ".join([*get_all(request.head.headers, b"via"), b"%b txsse-%b" % (version, instance.encode("latin-1"))])


def _host(request: Request, forwarding: Forwarding) -> bytes:
    if forwarding.host == "upstream":
        return b""
    if forwarding.host == "preserve":
        return request.host
    return forwarding.host.encode("latin-1")
