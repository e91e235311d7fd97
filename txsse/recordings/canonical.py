"""A request body's JSON members in a canonical form: equal for bodies that every backend reads alike, for no others.

One pass of compiled patterns over the bytes, without recursion and in steps between which the reactor has its turn. The canonical text of a
number or a word is its literal text (``1`` is not ``1.0``, and no digit is lost), that of a string its value with as few escapes as JSON
allows, and that of a container, or of a long string, a digest, so that nothing is copied once per level. Each text tells by its first byte
what it is and by itself where it ends, so that texts joined by commas stand for one value only.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Generator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, get_args

from txsse.wire.peek import STEP, TURNS

MAX_DEPTH: Final = 512
"""Containers inside each other; backends that recurse take about a thousand."""

MAX_TOKENS: Final = 64 * TURNS
"""Members and elements in all, but that numbers next to each other in an array are one: bounds the time (0.1 s) and the memory."""

MAX_MEMBERS: Final = 16 * 1024
"""Members of one object: they are sorted in one go."""

LONG: Final = 256
"""Bytes of a canonical string above which its digest stands for it."""

_FEW: Final = 16  # names of an object whose order is remembered, for most objects have the same ones

Reason = Literal[
    "duplicate_member", "encoded", "method", "no_credential", "no_scope_header", "not_deterministic", "not_json", "too_complex", "too_deep"
]
REASONS: Final[frozenset[str]] = frozenset(get_args(Reason))
"""All there are, for a metric's label."""


class Uncacheable(Exception):
    """No other request may be given the answer to this one.

    :ivar reason: one of :data:`REASONS`.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Final = reason


# Possessive throughout, and alternatives begin with different bytes: nothing is tried twice, so that every pattern is linear on any input.
_BLANK = rb"[ \t\n\r]*+"
_HEX = rb"[0-9a-fA-F]"
# A lone surrogate is no text (RFC 8259 section 8.2): some backends refuse it, some read every one as U+FFFD.
_FROM_D = rb"[dD](?:[0-7]%b{2}|[89abAB]%b{2}\\u[dD][c-fC-F]%b{2})" % (_HEX, _HEX, _HEX)
_ESCAPE = rb'\\(?:["\\/bfnrt]|u(?:[0-9abcefABCEF]%b{3}|%b))' % (_HEX, _FROM_D)
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_CONTENT = rb"%b(?:%b%b)*+" % (_PLAIN, _ESCAPE, _PLAIN)
_STRING = rb'"%b"' % _CONTENT
_WORD = rb"(?:-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+|true|false|null)"

_BLANKS: Final = b" \t\n\r"
_START = re.compile(rb"(?:\xef\xbb\xbf)?+%b\{" % _BLANK)
_SPACE = re.compile(_BLANK)
_PART = re.compile(_CONTENT)
_WHOLE_WORD = re.compile(_WORD)
# The groups of both: a member's name (before an element: words, each with its comma), the value if that is no container, and the mark that
# follows the value or opens it. A closing mark without a value: there is none. Blanks (and words) alone: what follows has not its end here.
_MEMBER = re.compile(
    rb"%b(?:(?:(%b)%b:%b(?:(%b|%b)%b(?=[,}])|(?=[\[{]))|(?=\}))([,\[{}]))?+" % (_BLANK, _STRING, _BLANK, _BLANK, _STRING, _WORD, _BLANK)
)
_ELEMENT = re.compile(
    rb"%b((?:%b%b,%b)++)?+(?:(?:(%b|%b)%b(?=[,\]])|(?=[\[{\]]))([,\[{\]]))?+" % (_BLANK, _WORD, _BLANK, _BLANK, _STRING, _WORD, _BLANK)
)

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


Members = dict[bytes, bytes]
"""What is in an object: canonical names and values, as they stand."""

_Elements = list[bytes]  # some may be several with their commas between them


def text_of(name: str) -> bytes:
    """The canonical text of a string."""
    return _short(_ENCODE(name).encode())


def inside_of(members: Members) -> bytes:
    """The canonical text of what is in an object: the names, then the values in the same order."""
    if len(members) > MAX_MEMBERS:
        raise Uncacheable("too_complex")
    names = tuple(members)
    heading, order = _order_seen(names) if len(names) <= _FEW else _order(names)
    return heading + b",".join([members[name] for name in order])


def digest_of(text: bytes) -> Generator[None, None, bytes]:
    """32 bytes that stand for a text."""
    hasher = blake2b(digest_size=32)
    for at in range(0, len(text), STEP):
        if at:
            yield
        hasher.update(text[at : at + STEP])
    return hasher.digest()


def scan(body: bytes, inner: bytes) -> Generator[None, None, tuple[Members, Members]]:
    """The members of the object that *body* is, and those of its member *inner* if that is an object.

    Gives way every :data:`STEP` bytes or :data:`TURNS` members and elements.

    :raises Uncacheable: for not being one JSON object in UTF-8, for a member given twice in whatever object, or for one of the bounds.
    """
    start = _START.match(body)
    if start is None:
        raise Uncacheable("not_json")
    if not body.isascii():
        yield from _check_utf8(body)
    root: Members = {}
    chosen: Members = {}
    here: Members | _Elements = root
    around: list[tuple[Members | _Elements, bytes | None]] = []
    escaped = len(body) > STEP or b"\\u" in body or b"\\/" in body  # the other escapes are in canonical texts as well
    at = start.end()
    rest_at = at + STEP
    tokens = 0
    while True:
        tokens += 1
        if at >= rest_at or tokens % TURNS == 0:
            if tokens >= MAX_TOKENS:
                raise Uncacheable("too_complex")
            rest_at = at + STEP
            yield
        named = type(here) is dict
        match = (_MEMBER if named else _ELEMENT).match(body, at, at + STEP)
        if match is None or match.end() == at:
            name, value, mark, at = yield from _in_parts(body, at, named)
        else:
            name, value, mark = match.groups()
            at = match.end()
            if name is not None and (escaped or len(name) > LONG):
                name = _short(name)
            if value is not None and (escaped or len(value) > LONG):
                value = _short(value)
        if value is None and (mark == b"{" or mark == b"["):
            if len(around) >= MAX_DEPTH - 1:
                raise Uncacheable("too_deep")
            around.append((here, name))
            here = {} if mark == b"{" else []
            continue
        if value is not None or name is not None:
            _add(here, name, value)
        if mark == b"," or mark is None:
            continue
        if value is None and here:
            raise Uncacheable("not_json")  # a comma before the end
        while mark == (b"}" if type(here) is dict else b"]"):
            if not around:
                _check_end(body, at, root)
                return root, chosen
            ended = here
            kind, text = (b"{", inside_of(ended)) if isinstance(ended, dict) else (b"[", b",".join(ended))
            value = kind + (blake2b(text, digest_size=32).digest() if len(text) <= STEP else (yield from digest_of(text)))
            here, name = around.pop()
            _add(here, name, value)
            if here is root and name == inner and isinstance(ended, dict):
                chosen = ended
            mark = body[at : at + 1]
            if mark in _BLANKS:
                at = _after_space(body, at)
                mark = body[at : at + 1]
            at += 1
        if mark != b",":
            raise Uncacheable("not_json")


def _add(here: Members | _Elements, name: bytes | None, value: bytes | None) -> None:
    """A member to an object; to an array words and, if there is one, the element that follows them."""
    if isinstance(here, list):
        if name is not None:
            here.append(name.translate(None, _BLANKS)[:-1])
        if value is not None:
            here.append(value)
    elif name is not None and value is not None:
        if name in here:
            raise Uncacheable("duplicate_member")
        here[name] = value


def _order(names: tuple[bytes, ...]) -> tuple[bytes, Sequence[bytes]]:
    """The names, joined and one by one, in the order that counts."""
    # Of names that differ in letter case alone Go reads the last, so that there the body's order counts.
    order = names if _are_alike(names) else sorted(names)
    return b",".join([*order, b":"]), order


_order_seen = lru_cache(256)(_order)


def _are_alike(names: Collection[bytes]) -> bool:
    """Do two of them differ in letter case alone?"""
    together = b"".join(names)
    if together.islower() and together.isascii():
        return False
    folded = {name.decode("utf-8", "replace").casefold() for name in names}
    return len(folded) < len(names)


def _check_end(body: bytes, at: int, root: Members) -> None:
    if _after_space(body, at) != len(body):
        raise Uncacheable("not_json")
    if _are_alike(root):
        raise Uncacheable("duplicate_member")


def _check_utf8(body: bytes) -> Generator[None, None, None]:
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        for at in range(0, len(body), STEP):
            if at:
                yield
            decode(body[at : at + STEP])
        decode(b"", True)
    except UnicodeDecodeError:
        raise Uncacheable("not_json") from None


def _in_parts(body: bytes, at: int, named: bool) -> Generator[None, None, tuple[bytes | None, bytes | None, bytes, int]]:
    """What a pattern says of a member or an element, of one that is longer than a step."""
    name = None
    if named:
        name, at = yield from _string(body, at)
        at = _after_space(body, _expect(b":", body, _after_space(body, at)))
    first = body[at : at + 1]
    if first == b"{" or first == b"[":
        return name, None, first, at + 1
    if first == b'"':
        value, at = yield from _string(body, at)
    else:
        word = _WHOLE_WORD.match(body, at)
        if word is None:
            raise Uncacheable("not_json")
        value, at = word[0], word.end()
    at = _after_space(body, at)
    return name, value, body[at : at + 1], at + 1


def _string(body: bytes, at: int) -> Generator[None, None, tuple[bytes, int]]:
    """The canonical text of the string that begins at *at*, and where it ends."""
    at = _expect(b'"', body, at)
    begin = b""  # of the canonical text, as long as it is not long
    length = 2
    hasher = blake2b(b'"', digest_size=32)
    while (end := _end_of_part(body, at)) > at:
        part = _plain(b'"%b"' % body[at:end])[1:-1]
        hasher.update(part)
        length += len(part)
        begin = begin + part if length <= LONG else b""
        at = end
        yield
    at = _expect(b'"', body, at)
    if length <= LONG:
        return b'"%b"' % begin, at
    hasher.update(b'"')
    return b"s" + hasher.digest(), at


def _end_of_part(body: bytes, at: int) -> int:
    """The end of as much of a string as fits into a step, not inside a character."""
    match = _PART.match(body, at, at + STEP)
    end = at if match is None else match.end()
    while end < len(body) and body[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _short(text: bytes) -> bytes:
    """The canonical text for the JSON text of a string, of a word, or of words in a row."""
    if not text.startswith(b'"'):
        return text
    text = _plain(text)
    return text if len(text) <= LONG else b"s" + blake2b(text, digest_size=32).digest()


def _plain(text: bytes) -> bytes:
    """The JSON text of a string with as few escapes as it needs."""
    if b"\\u" not in text and b"\\/" not in text:  # the others are all needed
        return text
    return _ENCODE(json.loads(text)).encode()


def _expect(mark: bytes, body: bytes, at: int) -> int:
    if not body.startswith(mark, at):
        raise Uncacheable("not_json")
    return at + 1


def _after_space(body: bytes, at: int) -> int:
    # Not in steps: blanks and digits pass at 1.4 ns a byte.
    match = _SPACE.match(body, at)
    return at if match is None else match.end()
