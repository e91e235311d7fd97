"""Somebody else's idea of what the same request is: a hook for look-ups by similarity."""

from __future__ import annotations

from typing import Protocol

import attrs

from txsse.recordings.key import Digest


@attrs.frozen
class Question:
    """What is looked up.

    :param credential: hash of what the scope consists of.
    :param digest: of the body.
    :param context: 32 bytes that stand for all that :attr:`key` does but the body: route, upstream, target, API, scope, and the fields on
        which an API's answer depends. Whoever compares bodies compares only those of the same context.
    """

    key: bytes
    route: str
    dialect: str
    path: str
    body: bytes
    streamed: bool
    credential: bytes
    digest: Digest
    context: bytes


class CacheLookup(Protocol):
    """Asked for each request of a caching route for which there is no exact entry. Given to ``ProxyService(cache_lookup=..)``.

    A failure, and an answer that takes longer than 0.25 s, is a miss. An entry of another route, or of the other kind (stream or
    document), is not told whatever is answered.
    """

    async def look_up(self, question: Question) -> bytes | None:
        """The key of an entry that answers *question* as well, or ``None``. It is cancelled when its time is up."""

    def stored(self, question: Question) -> None:
        """What answered *question* is stored under its key. Called in the reactor's thread; must not block."""
