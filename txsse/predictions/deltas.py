"""The text in an upstream's stream, piece by piece, in whichever API it speaks. Sans-I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from txsse.dialects.foreign import error_members
from txsse.wire.eventstream import MAX_EVENT_BYTES, Event, EventStreamDecoder

_DONE: Final = "[DONE]"


class Told(Exception):
    """The upstream tells of a failure, or what it tells cannot be read; the text is for the client."""


class Deltas:
    """Decodes the events (or lines) of a stream and takes out what is text of the answer.

    :param dialect: its name. Of ``sse`` each event's data is text.
    """

    def __init__(self, dialect: str) -> None:
        self._text_of = _TEXT_OF.get(dialect)
        self._lines = _Lines() if dialect == "ollama" else None
        self._events = EventStreamDecoder()

    def feed(self, data: bytes) -> Iterator[str]:
        """The texts in the events that *data* completes, empty ones left out.

        :raises Told: instead of a text.
        """
        if self._lines is not None:
            for line in self._lines.feed(data):
                yield from self._texts(line)
            return
        try:
            events = self._events.feed(data)
        except ValueError:
            raise _too_long() from None
        for event in events:
            yield from self._of_event(event)

    def _of_event(self, event: Event) -> Iterator[str]:
        if event.type == "error":
            raise Told(_message(event.data))
        if self._text_of is None:
            yield event.data
        elif event.data != _DONE:
            yield from self._texts(event.data)

    def _texts(self, data: str) -> Iterator[str]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        if value.get("error") is not None or value.get("type") == "error":
            raise Told(_message(data))
        assert self._text_of is not None
        text = self._text_of(value)
        if text and isinstance(text, str):
            yield text


class _Lines:
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise _too_long()
        return [line.decode("utf-8", "replace") for line in lines]


def _too_long() -> Told:
    return Told(f"An event of the upstream's is longer than {MAX_EVENT_BYTES} bytes.")


def _message(data: str) -> str:
    message: str = error_members(200, b"application/json", data.encode("utf-8", "replace"))["message"]
    return message


def _first_choice(value: dict[str, Any]) -> dict[str, Any]:
    """Of several answers to one question the first."""
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index", 0) == 0:
            return choice
    return {}


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _chat(value: dict[str, Any]) -> Any:
    return _member(_first_choice(value).get("delta"), "content")


def _completions(value: dict[str, Any]) -> Any:
    return _first_choice(value).get("text")


def _responses(value: dict[str, Any]) -> Any:
    kind = value.get("type")
    if kind == "response.failed":
        raise Told(_message(json.dumps(value.get("response"))))
    return value.get("delta") if kind == "response.output_text.delta" else None


def _anthropic(value: dict[str, Any]) -> Any:
    return _member(value.get("delta"), "text") if value.get("type") == "content_block_delta" else None


def _ollama(value: dict[str, Any]) -> Any:
    return value["response"] if "response" in value else _member(value.get("message"), "content")


_TEXT_OF: Final[Mapping[str, Callable[[dict[str, Any]], Any]]] = {
    "openai-chat": _chat,
    "openai-completions": _completions,
    "openai-responses": _responses,
    "anthropic": _anthropic,
    "ollama": _ollama,
}
