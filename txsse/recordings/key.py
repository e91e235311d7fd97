"""Under which key the answer to a request is kept, and may be given to another request.

The body counts by :mod:`txsse.recordings.canonical`, whole but for what a route ignores. ``stream`` and ``stream_options`` stand apart in
a :class:`Digest`, so that the keys of a request's twins, which ask for the same answer in another form, can be told from it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import attrs

from txsse.recordings.canonical import REASONS, Members, Reason, Uncacheable, digest_of, inside_of, scan, text_of
from txsse.wire.headers import Headers
from txsse.wire.peek import at_once

__all__ = ["REASONS", "Digest", "Reason", "Uncacheable", "digest", "make_key", "scope_of", "twins"]

_VERSION: Final = b"1"

_CREDENTIALS: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key", b"x-goog-api-key"))
_NO_SECRET: Final = frozenset((b"", b"bearer", b"basic"))
_VARY: Final = frozenset(
    (b"accept", b"anthropic-version", b"anthropic-beta", b"openai-beta", b"openai-organization", b"openai-project", b"origin")
)

_STREAM: Final = text_of("stream")
_STREAM_OPTIONS: Final = text_of("stream_options")
_OPTIONS: Final = text_of("options")
_TEMPERATURE: Final = text_of("temperature")
_SEED: Final = text_of("seed")
_ZERO: Final = re.compile(rb"-?0(?:\.0+)?(?:[eE][-+]?[0-9]+)?")
_NO_SEED: Final = (None, b"null", b"-1")  # llama.cpp and Ollama take -1 for a random one


@attrs.frozen
class Digest:
    """What a body asks for.

    :param rest: 32 bytes that stand for every member but those below and the ignored ones.
    :param stream: the canonical text of ``stream``; ``None`` without it.
    :param options: that of ``stream_options``.
    :param deterministic: the same question has the same answer: ``temperature`` is 0 or there is a ``seed``, also in Ollama's ``options``.
    """

    rest: bytes
    stream: bytes | None
    options: bytes | None
    deterministic: bool

    @property
    def wants_usage(self) -> bool:
        """``stream_options`` asks for a last chunk with the usage."""
        return self.options == _STREAMS[1][1]


def digest(body: bytes, ignore: frozenset[str]) -> Generator[None, None, Digest]:
    """Read *body*, giving way every 128 KiB or 2048 members.

    Order of members, white space and escapes do not count; order of elements and the literal text of numbers do.

    :param ignore: names of top-level members that do not count.
    :raises Uncacheable: as :func:`txsse.recordings.canonical.scan` does.
    """
    members, options = yield from scan(body, _OPTIONS)
    deterministic = _is_settled(members) or _is_settled(options)
    stream = members.pop(_STREAM, None)
    for name in _texts_of(ignore):
        members.pop(name, None)
    stream_options = members.pop(_STREAM_OPTIONS, None)
    rest = yield from digest_of(inside_of(members))
    return Digest(rest, stream, stream_options, deterministic)


def twins(digest: Digest, *, streamed: bool, unless_told: bool = False) -> list[Digest]:
    """The digests of requests that ask for the same answer in the other form; each gives :func:`make_key` the twin's key.

    Of a stream: ``stream`` left out or false, without ``stream_options``. Of a document: ``stream`` true, and ``stream_options`` left out,
    ``{"include_usage":true}`` or ``{"include_usage":false}``.

    :param streamed: the answer to this request is a stream.
    :param unless_told: so is that to one without ``stream``, which is then the twin of a document.
    """
    told = _STREAMS if not streamed else _DOCUMENTS
    forms = told if streamed is unless_told else (_UNTOLD, *told)
    return [attrs.evolve(digest, stream=stream, options=options) for stream, options in forms if stream != digest.stream]


def scope_of(headers: Headers, setting: str, extra: bytes = b"") -> bytes:
    """Who shares an answer: 32 bytes that are the same for the same credential, and do not tell it.

    :param setting: ``credential`` (every field that may carry one, all of its lines), ``shared`` or ``header:<name>``.
    :param extra: a credential that is in none of the fields, such as a client certificate's fingerprint or a key from the query.
    :raises Uncacheable: there is no credential, or not the header. An empty one is none, nor is a scheme alone.
    """
    found: list[tuple[bytes, bytes]] = []
    kind, _, header = setting.partition(":")
    if kind == "credential":
        found = [field for field in _fields(headers, _CREDENTIALS) if field[1].strip().lower() not in _NO_SECRET]
        if extra:
            found.append((b"", extra))
        if not found:
            raise Uncacheable("no_credential")
    elif kind != "shared":
        found = [field for field in _fields(headers, frozenset((header.lower().encode("latin-1"),))) if field[1].strip()]
        if not found:
            raise Uncacheable("no_scope_header")
    return _hash([kind.encode(), *(part for field in found for part in field)])


def make_key(
    *, route: str, upstream: bytes, method: bytes, target: bytes, dialect: str, headers: Headers, scope: bytes, digest: Digest
) -> bytes:
    """The 32 bytes under which the answer to a request is kept.

    Fields that change what an API answers (Accept, its version) count as well, and Origin, on which depends who may read it in a browser.

    :param upstream: what names the upstream, so that an answer does not outlive a change of it.
    :param target: path and query as they came.
    :param scope: what :func:`scope_of` gives.
    """
    vary = [part for field in _fields(headers, _VARY) for part in field]
    request = (_VERSION, route.encode(), upstream, method, target, dialect.encode(), scope, digest.rest, digest.stream, digest.options)
    return _hash([*request, *vary])


def _is_settled(members: Members) -> bool:
    return members.get(_SEED) not in _NO_SEED or _ZERO.fullmatch(members.get(_TEMPERATURE, b"")) is not None


@lru_cache(64)  # a route has one set
def _texts_of(names: frozenset[str]) -> list[bytes]:
    return [text_of(name) for name in names]


def _fields(headers: Headers, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields of these names, which are made lower-case; several of one name in their order."""
    found = [(lower, value) for name, value in headers if (lower := name.lower()) in names]
    found.sort(key=lambda field: field[0])
    return found


def _hash(parts: Iterable[bytes | None]) -> bytes:
    """32 bytes for a list of parts. Each has its length before it, so that no two lists run together to the same bytes."""
    return blake2b(b"".join([b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts]), digest_size=32).digest()


def _stream_options(text: bytes) -> bytes | None:
    return at_once(digest(b'{"stream_options":%b}' % text, frozenset())).options


_STREAMS: Final = (
    (b"true", None),
    (b"true", _stream_options(b'{"include_usage":true}')),
    (b"true", _stream_options(b'{"include_usage":false}')),
)
_DOCUMENTS: Final = ((b"false", None),)
_UNTOLD: Final = (None, None)
