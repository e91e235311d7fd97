"""HTTP/1.x message heads: values, the strict parser of their fields, and that of request heads (RFC 9112)."""

from __future__ import annotations

import re
from typing import Final

import attrs

from txsse.wire.headers import Headers, get, get_all, tokens

CHUNKED: Final = -1
"""What :func:`framing` says of a body in chunked coding."""

LENGTH: Final = re.compile(rb"[0-9]{1,15}")
"""A Content-Length: up to a petabyte, and far from any integer overflow behind us."""


@attrs.frozen
class RequestHead:
    """A request line and its fields, byte for byte as they came."""

    method: bytes
    target: bytes
    version: bytes  # b"HTTP/1.1" or b"HTTP/1.0"
    headers: Headers


@attrs.frozen
class ResponseHead:
    """A final (not 1xx) response's status line and fields, byte for byte as they came."""

    status: int
    reason: bytes
    version: bytes
    headers: Headers


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


def parse_request_head(block: bytes) -> RequestHead:
    """Read a request's head: everything up to and including the blank line, and nothing after it.

    One empty line before the request line is let pass (RFC 9112 section 2.2). CONNECT and TRACE are parsed like any other
    method: whether to serve them is the caller's question.

    :raises BadHead: whatever two readers of this head could understand differently, and plain nonsense.
    """
    start = _REQUEST_LINE.match(block, 2 if block.startswith(b"\r\n") else 0)
    if start is None:
        raise BadHead(_blame_request_line(block))
    headers = parse_fields(block, start.end())
    method, target, version = start.groups()
    _check_fields(version, headers)
    if not target.startswith(b"/") or b"#" in target:
        _check_other_form(method, target)
    else:
        _check_path(target)
    return RequestHead(method, target, version, headers)


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


def _check_fields(version: bytes, headers: Headers) -> None:
    """Refuse what lets a request be read as two (RFC 9112 sections 3.2, 6.1, 6.3)."""
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        match name.lower():
            case b"host":
                hosts.append(value)
            case b"content-length":
                lengths.append(value)
            case b"transfer-encoding":
                codings.append(value)
    if len(hosts) != 1 and (hosts or version == b"HTTP/1.1"):
        raise BadHead("the request needs exactly one Host field")
    if hosts and not _AUTHORITY.fullmatch(hosts[0]):
        raise BadHead("the Host field is not a host with an optional port")
    if lengths and (len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
        raise BadHead("Content-Length is repeated or not a plain number")
    if codings:
        if lengths:
            raise BadHead("Content-Length and Transfer-Encoding exclude each other")
        if version != b"HTTP/1.1":
            raise BadHead("Transfer-Encoding needs HTTP/1.1")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead("the only Transfer-Encoding understood here is chunked")


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


def split_target(head: RequestHead) -> tuple[bytes, bytes]:
    """The authority a request is for, and its path with query in origin form, byte for byte.

    The authority of an absolute-form target replaces Host (RFC 9112 section 3.2.2). The authority is empty where an HTTP/1.0
    request names none; the path of ``OPTIONS *`` is ``b"*"``, that of CONNECT is empty.
    """
    if head.target.startswith(b"/") or head.target == b"*":
        return get(head.headers, b"host") or b"", head.target
    absolute = _ABSOLUTE.fullmatch(head.target)
    if absolute is None:
        return head.target, b""
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


def framing(head: RequestHead) -> int:
    """How the body is delimited: its length in bytes (0 when nothing is said), or :data:`CHUNKED`. For a parsed head."""
    length = get(head.headers, b"content-length")
    if length is not None:
        return int(length)
    return 0 if get(head.headers, b"transfer-encoding") is None else CHUNKED


def wants_close(head: RequestHead) -> bool:
    """The client will not use the connection after this request (RFC 9112 section 9.3)."""
    options = tokens(head.headers, b"connection")
    return b"close" in options or (head.version == b"HTTP/1.0" and b"keep-alive" not in options)


def expects_continue(head: RequestHead) -> bool:
    """The client waits for a ``100 Continue`` before its body; in HTTP/1.0 it cannot (RFC 9110 section 10.1.1)."""
    return head.version == b"HTTP/1.1" and b"100-continue" in tokens(head.headers, b"expect")


def expects_unknown(head: RequestHead) -> bool:
    """The client expects something nobody knows: answer 417."""
    return any(value.lower() != b"100-continue" for value in get_all(head.headers, b"expect"))
