"""What the scripted upstream says: the same text in every dialect, as whole events, and errors in each dialect's own form."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final

PIECES: Final = ("Grüße", ", ", "**world**", " is one\n", "two 🎉", " three")
TEXT: Final = "".join(PIECES)
MODEL: Final = "tiny"
CREATED: Final = 1_700_000_000


class Speech(ABC):
    """One dialect as an upstream speaks it. Whatever is yielded is a whole event."""

    dialect: ClassVar[str]
    path: ClassVar[str]
    """What request paths end with."""
    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    ids: ClassVar[bool] = True
    """Its events can carry ``id:`` lines."""
    separator: ClassVar[str | None] = None
    """What stands between a message of the proxy and the text; ``None``: a message cannot be shown."""
    thinks: ClassVar[bool] = True
    """It has a channel for thoughts, where a message is no part of the text."""

    def events(self) -> list[bytes]:
        return [*self.opening(), *(self.text(number, piece) for number, piece in enumerate(PIECES)), *self.ending()]

    def opening(self) -> Iterator[bytes]:
        """What comes before the text."""
        yield from ()

    @abstractmethod
    def text(self, number: int, piece: str) -> bytes:
        """The event of a piece of the text."""

    @abstractmethod
    def ending(self) -> Iterator[bytes]:
        """What comes after the text."""

    def error(self, message: str, kind: str) -> object:
        """An error's JSON body; *kind* is one of OpenAI's types."""
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _data(value: object) -> bytes:
    return b"data: " + _dump(value) + b"\n\n"


def _event(kind: str, **members: object) -> bytes:
    return b"event: %s\n" % kind.encode() + _data({"type": kind, **members})


DONE: Final = b"data: [DONE]\n\n"


class Chat(Speech):
    dialect = "openai-chat"
    path = "/chat/completions"
    separator = "\n\n---\n\n"

    def opening(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def text(self, number: int, piece: str) -> bytes:
        return self._chunk({"content": piece})

    def ending(self) -> Iterator[bytes]:
        yield self._chunk({}, "stop")
        yield DONE

    @staticmethod
    def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": MODEL, "choices": [choice]})


class Completions(Speech):
    dialect = "openai-completions"
    path = "/completions"
    separator = "\n\n"
    thinks = False

    def text(self, number: int, piece: str) -> bytes:
        return self._chunk(piece)

    def ending(self) -> Iterator[bytes]:
        yield self._chunk("", "stop")
        yield DONE

    @staticmethod
    def _chunk(text: str, finish: str | None = None) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return _data({"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": MODEL, "choices": [choice]})


class Responses(Speech):
    dialect = "openai-responses"
    path = "/responses"

    _PLACE: Final = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    _OPENING: Final = 4

    def opening(self) -> Iterator[bytes]:
        begun = self._response("in_progress", [])
        yield _event("response.created", sequence_number=0, response=begun)
        yield _event("response.in_progress", sequence_number=1, response=begun)
        yield _event("response.output_item.added", sequence_number=2, output_index=0, item=self._item("in_progress", []))
        yield _event("response.content_part.added", sequence_number=3, **self._PLACE, part=self._part(""))

    def text(self, number: int, piece: str) -> bytes:
        return _event("response.output_text.delta", sequence_number=self._OPENING + number, **self._PLACE, delta=piece, logprobs=[])

    def ending(self) -> Iterator[bytes]:
        at = self._OPENING + len(PIECES)
        item = self._item("completed", [self._part(TEXT)])
        yield _event("response.output_text.done", sequence_number=at, **self._PLACE, text=TEXT, logprobs=[])
        yield _event("response.content_part.done", sequence_number=at + 1, **self._PLACE, part=self._part(TEXT))
        yield _event("response.output_item.done", sequence_number=at + 2, output_index=0, item=item)
        yield _event("response.completed", sequence_number=at + 3, response=self._response("completed", [item]))

    @staticmethod
    def _part(text: str) -> dict[str, object]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    @staticmethod
    def _item(status: str, content: list[object]) -> dict[str, object]:
        return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content}

    @staticmethod
    def _response(status: str, output: list[object]) -> dict[str, object]:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": MODEL,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }


class Anthropic(Speech):
    dialect = "anthropic"
    path = "/messages"
    separator = ""  # a message is a content block of its own

    def opening(self) -> Iterator[bytes]:
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        }
        yield _event("message_start", message=message)
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})

    def text(self, number: int, piece: str) -> bytes:
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})

    def ending(self) -> Iterator[bytes]:
        yield _event("content_block_stop", index=0)
        yield _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 6})
        yield _event("message_stop")

    def error(self, message: str, kind: str) -> object:
        return {"type": "error", "error": {"type": "api_error" if kind == "server_error" else kind, "message": message}}


class Ollama(Speech):
    dialect = "ollama"
    path = "/api/chat"
    content_type = "application/x-ndjson"
    ids = False
    separator = "\n\n---\n\n"

    def text(self, number: int, piece: str) -> bytes:
        return self._line(piece, done=False)

    def ending(self) -> Iterator[bytes]:
        yield self._line("", done=True, done_reason="stop", total_duration=1, load_duration=1, eval_count=6, eval_duration=1)

    def error(self, message: str, kind: str) -> object:
        return {"error": message}

    @staticmethod
    def _line(text: str, **members: object) -> bytes:
        message = {"role": "assistant", "content": text}
        return _dump({"model": MODEL, "created_at": "2026-11-01T00:00:00Z", "message": message, **members}) + b"\n"


class Plain(Speech):
    """A stream of nobody's: objects with a text."""

    dialect = "sse"
    path = "/events"

    def text(self, number: int, piece: str) -> bytes:
        return _data({"text": piece})

    def ending(self) -> Iterator[bytes]:
        yield DONE


_ALL: Final = (Chat(), Completions(), Responses(), Anthropic(), Ollama(), Plain())
SPEECHES: Final = {speech.dialect: speech for speech in _ALL}


def speech_at(path: str) -> Speech:
    """The dialect of a request path (without its query)."""
    return next(speech for speech in _ALL if path.endswith(speech.path))
