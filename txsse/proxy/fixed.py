"""Answers that are fixed when the proxy starts, out of the configuration and the files it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from txsse.config.errors import shown
from txsse.config.model import Static
from txsse.config.secret import why_unreadable
from txsse.config.stand_ins import gives_static
from txsse.wire.headers import Headers

LARGEST: Final = 1024 * 1024
"""Bytes of a file that is answered with: it is kept in memory."""

BODILESS: Final = frozenset((204, 304))

_TEXT: Final = b"text/plain; charset=utf-8"
_HTML: Final = b"text/html; charset=utf-8"
_JSON: Final = b"application/json"

# Not the mimetypes module: what that knows depends on the machine's own files.
_TYPES: Final[Mapping[str, bytes]] = {
    ".html": _HTML,
    ".htm": _HTML,
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".json": _JSON,
    ".map": _JSON,
    ".webmanifest": b"application/manifest+json",
    ".txt": _TEXT,
    ".xml": b"application/xml",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".jpeg": b"image/jpeg",
    ".gif": b"image/gif",
    ".webp": b"image/webp",
    ".avif": b"image/avif",
    ".ico": b"image/x-icon",
    ".woff": b"font/woff",
    ".woff2": b"font/woff2",
    ".ttf": b"font/ttf",
    ".otf": b"font/otf",
    ".wasm": b"application/wasm",
    ".mp4": b"video/mp4",
    ".webm": b"video/webm",
    ".pdf": b"application/pdf",
}


@attrs.frozen
class Answer:
    """A whole response. *headers* are those that belong to it, but for the length of *body*."""

    status: int
    headers: Headers
    body: bytes = b""

    @property
    def content_type(self) -> bytes:
        """Empty if it has no body."""
        return next((value for name, value in self.headers if name == b"Content-Type"), b"")


def type_of(name: str) -> bytes | None:
    """The Content-Type of a file or of a path, by its extension; ``None`` for those that mean nothing to browsers."""
    return _TYPES.get(Path(name).suffix.lower())


def look_of(body: bytes) -> bytes:
    """The Content-Type of a body that nobody has named one for: JSON if it is JSON, HTML if it begins with a tag, else text."""
    if body.lstrip().startswith(b"<"):
        return _HTML
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return _TEXT
    return _JSON


def read_file(name: str) -> bytes:
    """What the file holds.

    :raises ValueError: it cannot be read, or is larger than :data:`LARGEST`.
    """
    try:
        with Path(name).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{shown(name)} cannot be read: {why_unreadable(error)}") from None
    if len(content) > LARGEST:
        raise ValueError(f"{shown(name)} is larger than {LARGEST // 1024} KiB, and would be kept in memory")
    return content


def make_answer(status: int, body: str, file: str, content_type: str, headers: Headers | None = None) -> Answer:
    """The answer that options with these names describe; with neither *body* nor *file* it has an empty body and no type.

    :raises ValueError: the file cannot be used.
    """
    content = read_file(file) if file else body.encode()
    fields = [*(headers or [])]
    if (body or file) and status not in BODILESS:
        by_name = type_of(file) or b"application/octet-stream" if file else look_of(content)
        fields.insert(0, (b"Content-Type", content_type.encode() or by_name))
    return Answer(status, fields, content)


@attrs.frozen
class StaticAnswer:
    """A route's ``static``.

    :ivar always: also while the upstream is ready.
    """

    answer: Answer
    always: bool

    @classmethod
    def load(cls, config: Static) -> StaticAnswer | None:
        """``None`` if there is none.

        :raises ValueError: its file cannot be used.
        """
        if not gives_static(config):
            return None
        headers = [(name.encode("ascii"), value.encode()) for name, value in config.headers.items()]
        headers.append((b"X-Static", b"true"))
        return cls(make_answer(config.status or 200, config.body, config.file, config.content_type, headers), config.when == "always")
