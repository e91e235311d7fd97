"""HTTP/1.x message heads: values, the strict parser of their fields, and that of request heads (RFC 9112)."""

from __future__ import annotations

import re
from typing import Final

import attrs

from txsse.wire.headers import Headers, get, get_all, tokens, without

CHUNKED: Final = -1
"""In place of a length: the body is in chunked coding."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

LENGTH: Final = re.compile(rb"[0-9]{1,15}")
"""A Content-Length: up to a petabyte, and far from any integer overflow behind us."""


@attrs.define
class RequestHead:
    """A request line and its fields, byte for byte as they came, and what follows from them.

    One object serves all requests that bring the same head (:mod:`txsse.wire.memo`), so nothing in it is ever changed.

    :param headers: without Content-Length, whose value is the request's own.
    :param sized: a Content-Length came with it.
    :ivar host: the authority; that of an absolute-form target replaces Host (RFC 9112 section 3.2.2). Empty where HTTP/1.0 names none.
    :ivar path: path and query in origin form, byte for byte; ``b"*"`` for ``OPTIONS *``, empty for CONNECT.
    :ivar decoded_path: as :func:`decoded_path` says.
    :ivar chunked: the body is in chunked coding.
    :ivar wants_close: the client will not use the connection after this request (RFC 9112 section 9.3).
    :ivar expects_continue: the client waits for a ``100 Continue`` before its body; in HTTP/1.0 it cannot (RFC 9110 section 10.1.1).
    :ivar expects_unknown: the client expects something nobody knows: answer 417.
    :ivar request_id: X-Request-Id, if it is one that can be kept.
    :ivar shape: one head for all that differ from it in nothing but such an X-Request-Id; it has none.
    :ivar plan: kept here for whoever serves such requests: what it has worked out from the head, so that it does so once.
    """

    method: bytes
    target: bytes
    version: bytes  # b"HTTP/1.1" or b"HTTP/1.0"
    headers: Headers
    sized: bool = False
    host: bytes = attrs.field(init=False, eq=False, repr=False)
    path: bytes = attrs.field(init=False, eq=False, repr=False)
    decoded_path: str = attrs.field(init=False, eq=False, repr=False)
    chunked: bool = attrs.field(init=False, eq=False, repr=False)
    wants_close: bool = attrs.field(init=False, eq=False, repr=False)
    expects_continue: bool = attrs.field(init=False, eq=False, repr=False)
    expects_unknown: bool = attrs.field(init=False, eq=False, repr=False)
    request_id: bytes | None = attrs.field(init=False, eq=False, repr=False)
    plan: object | None = attrs.field(init=False, eq=False, repr=False, default=None)
    _shape: RequestHead | None = attrs.field(init=False, eq=False, repr=False, default=None)  # None is itself, without a cycle

    def __attrs_post_init__(self) -> None:
        headers, modern = self.headers, self.version == b"HTTP/1.1"
        self.host, self.path = _place(self.target, headers)
        self.decoded_path = decoded_path(self.path)
        self.sized = self.sized or get(headers, b"content-length") is not None
        self.chunked = get(headers, b"transfer-encoding") is not None
        options = tokens(headers, b"connection")
        self.wants_close = b"close" in options or not (modern or b"keep-alive" in options)
        self.expects_continue = modern and b"100-continue" in tokens(headers, b"expect")
        self.expects_unknown = any(value.lower() != b"100-continue" for value in get_all(headers, b"expect"))
        given = get(headers, b"x-request-id")
        self.request_id = given if given is not None and _REQUEST_ID.fullmatch(given) else None

    @property
    def shape(self) -> RequestHead:
        return self if self._shape is None else self._shape

    def identified(self, at: int, name: bytes, request_id: bytes) -> RequestHead:
        """The head that has an X-Request-Id more than this one, as field number *at*, and this one for its shape.

        Made for each request of clients that number theirs, hence without a second look at what is known.
        """
        head = RequestHead.__new__(RequestHead)
        head.method, head.target, head.version, head.sized = self.method, self.target, self.version, self.sized
        head.headers = [*self.headers[:at], (name, request_id), *self.headers[at:]]
        head.host, head.path, head.decoded_path = self.host, self.path, self.decoded_path
        head.chunked, head.wants_close = self.chunked, self.wants_close
        head.expects_continue, head.expects_unknown = self.expects_continue, self.expects_unknown
        head.request_id, head._shape, head.plan = request_id, self, None
        return head


@attrs.define
class ResponseHead:
    """A final (not 1xx) response's status line and fields, byte for byte as they came. Shared by responses with the same head, so never
    changed.

    :ivar plan: as that of a request's head.
    """

    status: int
    reason: bytes
    version: bytes
    headers: Headers
    plan: object | None = attrs.field(init=False, eq=False, repr=False, default=None)


def asks_for_websocket(head: RequestHead) -> bool:
    """Does this head ask for a WebSocket (RFC 6455 section 4.1)? Not with a body, which a handshake does not have."""
    if head.method != b"GET" or head.version != b"HTTP/1.1" or head.sized or head.chunked:
        return False
    return names_websocket(head.headers) and b"upgrade" in tokens(head.headers, b"connection")


def names_websocket(headers: Headers) -> bool:
    """Is WebSocket among the protocols of Upgrade?"""
    return b"websocket" in tokens(headers, b"upgrade")


class BadHead(ValueError):
    """A head that is refused; the text is fit for the client and quotes nothing of it."""


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]++) (HTTP/1\.[01])\r\n" % _TOKEN)
# Possessive, so that no run of blanks is tried twice: linear on any input.
_FIELDS = re.compile(rb"(?m)^(%b):[ \t]*+([^\r\n]*[^\r\n \t]|)[ \t]*+\r\n" % _TOKEN)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# RFC 3986 section 3.2.2, less the comma: the value is copied into X-Forwarded-Host, which is a list.
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})*+)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")


def parse_request_head(block: bytes) -> tuple[RequestHead, int]:
    """Read a request's head: everything up to and including the blank line, and nothing after it.

    One empty line before the request line is let pass (RFC 9112 section 2.2). CONNECT and TRACE are parsed like any other
    method: whether to serve them is the caller's question.

    :return: the head, and how the body is delimited: its length in bytes (0 when nothing is said), or :data:`CHUNKED`.
    :raises BadHead: whatever two readers of this head could understand differently, and plain nonsense.
    """
    start = _REQUEST_LINE.match(block, 2 if block.startswith(b"\r\n") else 0)
    if start is None:
        raise BadHead(_blame_request_line(block))
    headers = parse_fields(block, start.end())
    method, target, version = start.groups()
    length = _check_fields(version, headers)
    if not target.startswith(b"/") or b"#" in target:
        _check_other_form(method, target)
    else:
        _check_path(target)
    if length is None:
        head = RequestHead(method, target, version, headers)
        return head, CHUNKED if head.chunked else 0
    return RequestHead(method, target, version, without(headers, (b"content-length",)), sized=True), int(length)


def parse_fields(block: bytes, begin: int) -> Headers:
    """The header fields of a head: from *begin* to the blank line, which must be its end (RFC 9112 section 5).

    :raises BadHead: bare CR or LF, control bytes (also before *begin*), folded lines, blanks before the colon.
    """
    lines = block.count(b"\r\n", begin)
    if block.count(b"\r", begin) != lines or block.count(b"\n", begin) != lines:
        raise BadHead("a line of the head ends with a bare CR or LF")
    if _CONTROL.search(block):
        raise BadHead("a header field holds a control character")
    headers: Headers = _FIELDS.findall(block, begin)
    if len(headers) != lines - 1 or not block.endswith(b"\r\n\r\n"):
        raise BadHead("a header field is malformed (folded line, blank before the colon, or no name)")
    return headers


def _blame_request_line(block: bytes) -> str:
    line = block.lstrip(b"\r\n").partition(b"\r\n")[0]
    if re.search(rb"[^\t -~]", line):
        return "the request line holds a control character or a byte that is not ASCII"
    if not re.search(rb" HTTP/1\.[01]$", line):
        return "the request line is not one of HTTP/1.0 or HTTP/1.1"
    return "the request line is malformed"


def _check_fields(version: bytes, headers: Headers) -> bytes | None:
    """Refuse what lets a request be read as two (RFC 9112 sections 3.2, 6.1, 6.3); what Content-Length says."""
    hosts = get_all(headers, b"host")
    if len(hosts) != 1 and (hosts or version == b"HTTP/1.1"):
        raise BadHead("the request needs exactly one Host field")
    if hosts and not _AUTHORITY.fullmatch(hosts[0]):
        raise BadHead("the Host field is not a host with an optional port")
    lengths = get_all(headers, b"content-length")
    if lengths and (len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
        raise BadHead("Content-Length is repeated or not a plain number")
    codings = get_all(headers, b"transfer-encoding")
    if codings:
        if lengths:
            raise BadHead("Content-Length and Transfer-Encoding exclude each other")
        if version != b"HTTP/1.1":
            raise BadHead("Transfer-Encoding needs HTTP/1.1")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead("the only Transfer-Encoding understood here is chunked")
    return lengths[0] if lengths else None


def _check_other_form(method: bytes, target: bytes) -> None:
    """A target that is not in origin form (RFC 9112 section 3.2)."""
    if b"#" in target:
        raise BadHead("the target has a fragment")
    if method == b"CONNECT":
        return
    if target == b"*":
        if method != b"OPTIONS":
            raise BadHead("the target * is for OPTIONS only")
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadHead("the target is neither a path nor an http URL")
    if not absolute[1] or absolute[1].startswith(b":") or not _AUTHORITY.fullmatch(absolute[1]):
        raise BadHead("the target's authority is not a host with an optional port")
    _check_path(absolute[2])


def _check_path(path: bytes) -> None:
    """Refuse a path that a backend may resolve to another one than the routes were matched with."""
    path = path.partition(b"?")[0]
    if b"%" in path:
        for escape in _ESCAPE.findall(path):
            if not escape:
                raise BadHead("the target holds a malformed percent-escape")
            if escape == b"00":
                raise BadHead("the target's path holds %00")
        path = _decode(path)
    if b"\\" in path:
        raise BadHead("the target's path holds a backslash")
    # Here %2f counts as a slash too, for a backend may decode it.
    if b"/." in path and not {b".", b".."}.isdisjoint(path.split(b"/")):
        raise BadHead("the target's path holds dot segments")


def _decode(path: bytes) -> bytes:
    return _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), path)


def _place(target: bytes, headers: Headers) -> tuple[bytes, bytes]:
    """Host and path of a :class:`RequestHead`."""
    if target.startswith(b"/") or target == b"*":
        return get(headers, b"host") or b"", target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target, b""
    authority, path = absolute.groups()
    return authority, path if path.startswith(b"/") else b"/" + path


def decoded_path(path: bytes) -> str:
    """The path as routes see it: without the query and percent-decoded, but ``%2F`` stays, as a character of its segment.

    Bytes that are no UTF-8 become U+FFFD.
    """
    path = path.partition(b"?")[0]
    if b"%" in path:
        path = b"%2F".join(map(_decode, re.split(rb"%2[fF]", path)))
    return path.decode("utf-8", "replace")
