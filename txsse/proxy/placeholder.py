"""A route's placeholder: what is sent instead of a hold, to everybody who is not shown the waiting page."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from txsse.config import model
from txsse.config.stand_ins import gives_placeholder
from txsse.proxy.fixed import Answer, make_answer, type_of
from txsse.wire.http1 import RequestHead

_NO_STORE = (b"Cache-Control", b"no-store")


@attrs.frozen
class Placeholder:
    """The files are in memory.

    :param main: for every path that is not among *files*.
    :param files: by decoded path.
    """

    main: Answer
    files: Mapping[str, Answer]

    @classmethod
    def load(cls, config: model.Placeholder) -> Placeholder | None:
        """``None`` if there is none.

        :raises ValueError: one of its files cannot be used.
        """
        if not gives_placeholder(config):
            return None
        status = config.status or 503
        main = make_answer(status, config.body, config.file, config.content_type, [_NO_STORE])
        files = {path: make_answer(status, "", name, "", [_NO_STORE]) for path, name in config.files.items()}
        return cls(main, files)

    @property
    def is_page(self) -> bool:
        """It is HTML: meant for browsers itself."""
        return _media_type(self.files.get("/", self.main).content_type) == b"text/html"

    def answer(self, head: RequestHead) -> Answer:
        """For a request with *head*. What a page would load from the upstream gets no body: a page in place of a picture helps nobody."""
        path = head.decoded_path
        found = self.files.get(path)
        if found is not None:
            return found
        kind = type_of(path) if head.method in (b"GET", b"HEAD") else None
        if kind is not None and _media_type(kind) != _media_type(self.main.content_type):
            return Answer(self.main.status, [(b"Content-Type", kind), _NO_STORE])
        return self.main


def _media_type(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()
