"""Who may use the proxy: client keys out of a file, kept and compared as SHA-256 digests.

Each line is ``name:sha256-hex``; blank lines and those that begin with ``#`` are skipped. One name may stand on several lines,
so that a key can be exchanged without a gap. To make a line: ``printf %s "$KEY" | sha256sum``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import attrs

from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_KEY_FIELDS: Final = frozenset((b"x-api-key", b"api-key"))


class KeysError(ValueError):
    """A keys file that cannot be used; says which file and line, and never what stands there (it may be a key in clear)."""


@attrs.frozen
class Keys:
    """The accepted keys, and where a client may put one.

    :param entries: pairs of a key's name and its SHA-256 digest (32 bytes).
    :param cookie: name of a cookie that may carry the key; empty for none.
    :param query: name of a query parameter that may carry it; empty for none.
    """

    entries: tuple[tuple[str, bytes], ...] = attrs.field(repr=False)
    cookie: bytes = b""
    query: bytes = b""

    @classmethod
    def load(cls, path: str | Path, *, cookie: str = "", query: str = "") -> Keys:
        """Read a keys file; :exc:`KeysError` tells what is wrong with it."""
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise KeysError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise KeysError(f"{path}: not UTF-8 text") from None
        entries = []
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            name, colon, digest = line.partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise KeysError(f"{path}, line {number}: expected name:sha256-hex, the name of [A-Za-z0-9_.@-]{{1,64}}")
            if not _DIGEST.fullmatch(digest.strip()):
                raise KeysError(f"{path}, line {number}: after the name come the 64 hex digits of the key's SHA-256, not the key")
            entries.append((name, bytes.fromhex(digest.strip())))
        if not entries:
            raise KeysError(f"{path}: holds no key, so nobody could use the proxy")
        return cls(tuple(entries), cookie.encode("utf-8"), query.encode("utf-8"))

    def check(self, headers: Headers, path: bytes) -> str | None:
        """The name of the first accepted key the request carries, or ``None``."""
        for key in self._candidates(headers, path):
            name = self._name_of(key)
            if name is not None:
                return name
        return None

    def in_query(self, path: bytes) -> bytes:
        """The accepted key that the query of *path* carries, or ""."""
        return next((key for key in self._in_query(path) if self._name_of(key) is not None), b"")

    def strip(self, head: RequestHead, path: bytes) -> tuple[RequestHead, bytes]:
        """A head and a path without the accepted keys they carried, wherever they were; every other credential stays, byte for byte.

        For ``auth.forward = false``. A field that holds something else than a key of ours is meant for the upstream.
        """
        headers: Headers = []
        for field, value in head.headers:
            name = field.lower()
            if (key := _key_in_field(name, value)) is not None and self._name_of(key) is not None:
                continue
            if name == b"cookie" and self.cookie:
                value = self._strip_cookies(value)
                if not value:
                    continue
            headers.append((field, value))
        return attrs.evolve(head, headers=headers), self._strip_query(path)

    def _name_of(self, key: bytes) -> str | None:
        """Compares with every entry, whatever the first ones say, so that the time tells nothing about which one matched."""
        digest = hashlib.sha256(key).digest()
        found = None
        for name, accepted in self.entries:
            if hmac.compare_digest(digest, accepted):
                found = name
        return found

    def _candidates(self, headers: Headers, path: bytes) -> Iterable[bytes]:
        for field, value in headers:
            name = field.lower()
            if (key := _key_in_field(name, value)) is not None:
                yield key
            elif name == b"cookie" and self.cookie:
                yield from (key for pair in value.split(b";") if (key := self._key_in_cookie(pair)) is not None)
        yield from self._in_query(path)

    def _in_query(self, path: bytes) -> Iterable[bytes]:
        if self.query:
            yield from (key for pair in path.partition(b"?")[2].split(b"&") if (key := self._key_in_parameter(pair)) is not None)

    def _key_in_cookie(self, pair: bytes) -> bytes | None:
        name, _, value = pair.partition(b"=")
        if name.strip() != self.cookie:
            return None
        value = value.strip()
        if len(value) >= 2 and value[:1] == value[-1:] == b'"':
            value = value[1:-1]
        return unquote_to_bytes(value)

    def _key_in_parameter(self, pair: bytes) -> bytes | None:
        name, _, value = pair.partition(b"=")
        return unquote_to_bytes(value) if unquote_to_bytes(name) == self.query else None

    def _strip_cookies(self, value: bytes) -> bytes:
        pairs = value.split(b";")
        kept = [pair for pair in pairs if (key := self._key_in_cookie(pair)) is None or self._name_of(key) is None]
        return value if len(kept) == len(pairs) else b";".join(kept).strip()

    def _strip_query(self, path: bytes) -> bytes:
        before, mark, query = path.partition(b"?")
        if not self.query or not mark:
            return path
        pairs = query.split(b"&")
        kept = [pair for pair in pairs if (key := self._key_in_parameter(pair)) is None or self._name_of(key) is None]
        if len(kept) == len(pairs):
            return path
        return before + b"?" + b"&".join(kept) if kept else before


def _key_in_field(name: bytes, value: bytes) -> bytes | None:
    """The key a header field carries: x-api-key and api-key whole, Authorization after the word Bearer (in any letter case)."""
    if name in _KEY_FIELDS:
        return value.strip()
    if name == b"authorization":
        scheme, _, rest = value.strip().partition(b" ")
        if scheme.lower() == b"bearer":
            return rest.strip()
    return None
