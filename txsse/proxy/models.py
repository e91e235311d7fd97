"""``GET /v1/models`` of an upstream that is not to be woken for it: what it said last, or what the configuration knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakKeyDictionary

import attrs

from txsse.interfaces import Downstream, Request
from txsse.proxy.fixed import Answer
from txsse.proxy.routes import BoundRoute
from txsse.upstream.backend import Backend
from txsse.upstream.state import State
from txsse.wire.headers import NO_FIELDS, Headers, Prepared, get
from txsse.wire.http1 import RequestHead

LARGEST: Final = 64 * 1024
"""Bytes of an answer that is remembered."""

_PATH: Final = "/v1/models"
_DIALECTS: Final = frozenset(("auto", "openai-chat", "openai-completions", "openai-responses"))
_CREDENTIALS: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key", b"x-goog-api-key"))
_WILD: Final = frozenset("*?")
# llama.cpp's words for the models of its router.
_STATUS: Final = {State.READY: "loaded", State.WAKING: "loading", State.LOADING: "loading"}


def asks_for_models(head: RequestHead, route: BoundRoute) -> bool:
    """Whether it is OpenAI's list of models that is asked for."""
    return head.method in (b"GET", b"HEAD") and head.decoded_path.endswith(_PATH) and route.config.dialect in _DIALECTS


@attrs.frozen
class _Remembered:
    asker: bytes
    answer: Answer


class KnownModels:
    """One answer is remembered for each upstream, and given to nobody who asks with other credentials, or for another path."""

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[Backend, _Remembered] = WeakKeyDictionary()

    def listen(self, route: BoundRoute, request: Request, downstream: Downstream) -> Downstream:
        """*downstream*, and what a ready upstream answers there is remembered if it is a list."""
        asker = _asker(request)

        def remember(content_type: bytes, body: bytes) -> None:
            self._last[route.backend] = _Remembered(asker, _answer(body, b"last", content_type))

        return _Overheard(downstream, remember)

    def answer(self, route: BoundRoute, request: Request, routes: Iterable[BoundRoute]) -> Answer:
        """The list, for an upstream that is not ready.

        :param routes: all there are, for the names of models that they match literally.
        """
        last = self._last.get(route.backend)
        if last is not None and last.asker == _asker(request):
            return last.answer
        named = {each.config.match.model: each for each in routes if each.config.match.model and _WILD.isdisjoint(each.config.match.model)}
        models = [_entry(name, each.backend) for name, each in named.items()] or [_entry(route.backend.name, route.backend)]
        body = json.dumps({"object": "list", "data": models}, separators=(",", ":")).encode()
        return _answer(body, b"configured", b"application/json")


def _entry(name: str, backend: Backend) -> dict[str, object]:
    status = {"value": _STATUS.get(backend.gate.state, "unloaded")}
    return {"id": name, "object": "model", "created": 0, "owned_by": "txsse", "status": status}


def _answer(body: bytes, source: bytes, content_type: bytes) -> Answer:
    return Answer(200, [(b"Content-Type", content_type), (b"Cache-Control", b"no-store"), (b"X-Txsse-Models", source)], body)


def _asker(request: Request) -> bytes:
    """A digest of the target and of whatever says who asks."""
    found = sorted((name.lower(), value) for name, value in request.head.headers if name.lower() in _CREDENTIALS)
    return hashlib.sha256(repr((request.path, found)).encode()).digest()


class _Overheard:
    """A :class:`~txsse.interfaces.Downstream` that tells of a complete JSON answer that went through it.

    :param tell: called with its Content-Type and its body.
    """

    def __init__(self, downstream: Downstream, tell: Callable[[bytes, bytes], None]) -> None:
        self._downstream = downstream
        self._tell = tell
        self._content_type = b""
        self._body: list[bytes] | None = None  # as long as it may be worth remembering
        self._size = 0

    @property
    def stall_timeout(self) -> float:
        return self._downstream.stall_timeout

    @stall_timeout.setter
    def stall_timeout(self, seconds: float) -> None:
        self._downstream.stall_timeout = seconds

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None:
        fields = [*common.fields, *headers]
        content_type = get(fields, b"content-type") or b""
        is_json = content_type.lower().startswith(b"application/json") and not get(fields, b"content-encoding")
        if status == 200 and has_body and is_json and get(fields, b"x-txsse-models") is None:  # which would be ours
            self._content_type, self._body = content_type, []
        self._downstream.start(status, reason, headers, common=common, has_body=has_body)

    def write(self, data: bytes) -> None:
        if self._body is not None:
            self._size += len(data)
            if self._size <= LARGEST:
                self._body.append(data)
            else:
                self._body = None
        self._downstream.write(data)

    def finish(self) -> None:
        if self._body is not None:
            self._tell(self._content_type, b"".join(self._body))
        self._downstream.finish()

    def cork(self) -> None:
        self._downstream.cork()

    def uncork(self) -> None:
        self._downstream.uncork()

    def cut(self) -> None:
        self._downstream.cut()

    def abort(self) -> None:
        self._downstream.abort()

    def pending(self) -> int:
        return self._downstream.pending()

    def forget_body(self) -> None:
        self._downstream.forget_body()

    def hold_little(self) -> None:
        self._downstream.hold_little()
