"""What each API calls a complete answer: one small class an API, told every event of a recorded stream.

Reasons not to store an answer are the words of :data:`REASONS`; "" is none.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

REASONS: Final = frozenset(
    (
        "empty",  # nothing in it that says anything
        "not_json",  # an event, a line or the document is not the JSON that its API sends
        "error",  # an error in any known shape
        "finish_reason",  # it ended for a reason that another try may not meet: filtered, refused, paused, unknown
        "unfinished",  # it does not say that it was finished, or not in all its choices
        "no_terminal",  # the event that ends the stream is missing
        "after_terminal",  # the event that ends the stream is not the last thing in it
    )
)
"""Why an answer may not be stored."""

# Of each API, what comes of the request alone: the answer is whole, or as long as the request let it be.
_CHOICE_REASONS: Final = frozenset(("stop", "length", "tool_calls", "function_call"))
_STOP_REASONS: Final = frozenset(("end_turn", "stop_sequence", "max_tokens", "tool_use"))
_DONE_REASONS: Final = frozenset(("stop", "length"))


class Course(ABC):
    """How far an answer has come."""

    by_lines: ClassVar[bool] = False
    """One JSON object a line, not events."""
    has_terminal: ClassVar[bool] = True
    """An event says that it is the last one."""
    of_objects: ClassVar[bool] = False
    """Every event of a good stream is a JSON object, or the last."""
    ended = False
    """The last one has come."""

    @abstractmethod
    def take(self, name: str, data: str) -> str:
        """What speaks against the stream in its next event (which has this *name*), or line (which has none)."""

    @abstractmethod
    def end(self) -> str:
        """What speaks against the stream if that was all."""

    @abstractmethod
    def document(self, value: object) -> str:
        """What speaks against an answer that is one JSON value."""


class AnyStream(Course):
    """An API that we do not know: whatever ended cleanly and is no error."""

    has_terminal = False

    def __init__(self) -> None:
        self._begun = False

    def take(self, name: str, data: str) -> str:
        self._begun = True
        looks_like_json = data.lstrip().startswith("{")
        return "error" if name == "error" or (looks_like_json and is_error(_load(data))) else ""

    def end(self) -> str:
        return "" if self._begun else "empty"

    def document(self, value: object) -> str:
        if is_error(value):
            return "error"
        return "" if isinstance(value, (dict, list)) else "not_json"


class _Objects(Course):
    """What is common to streams of JSON objects of which the last one says that it is."""

    of_objects = True

    def __init__(self) -> None:
        self.begun = False

    def take(self, name: str, data: str) -> str:
        if self.ended:
            return "after_terminal"
        value = _load(data)
        if name == "error" or is_error(value):
            return "error"
        if not isinstance(value, dict):
            return "not_json"
        self.begun = True
        return self._look(name, value)

    def end(self) -> str:
        if not self.begun:
            return "empty"
        return self._finished() if self.ended else "no_terminal"

    def document(self, value: object) -> str:
        if is_error(value):
            return "error"
        return self._whole(value) if isinstance(value, dict) else "not_json"

    @abstractmethod
    def _look(self, name: str, value: dict[str, Any]) -> str:
        """One object of the stream."""

    @abstractmethod
    def _whole(self, value: dict[str, Any]) -> str:
        """The object that is the answer."""

    def _finished(self) -> str:
        """The stream has its end: does it lack anything else?"""
        return ""


class Choices(_Objects):
    """OpenAI's chat and text completions: each choice is finished for itself, then comes ``[DONE]``."""

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[int, bool] = {}  # by index: is it finished?

    def take(self, name: str, data: str) -> str:
        if data == "[DONE]" and name != "error" and not self.ended:
            self.ended = True
            return ""
        return super().take(name, data)

    def _look(self, name: str, value: dict[str, Any]) -> str:
        choices = value.get("choices")
        if choices is None:
            return ""
        if not isinstance(choices, list):
            return "not_json"
        return next(filter(None, map(self._choice, range(len(choices)), choices)), "")

    def _choice(self, place: int, choice: object) -> str:
        if not isinstance(choice, dict):
            return "not_json"
        if choice.get("error") is not None:
            return "error"
        index, reason = choice.get("index", place), choice.get("finish_reason")
        if not isinstance(index, int):
            return "not_json"
        has_reason = reason is not None and reason != ""
        if has_reason and not _is_one_of(reason, _CHOICE_REASONS):
            return "finish_reason"
        self._choices[index] = has_reason or self._choices.get(index, False)
        return ""

    def _whole(self, value: dict[str, Any]) -> str:
        return self._look("", value) or self._finished()

    def _finished(self) -> str:
        return "" if self._choices and all(self._choices.values()) else "unfinished"


class _Typed(_Objects):
    """Streams whose last object is known by its type. Gateways that speak several APIs write one ``[DONE]`` behind it all the same."""

    def __init__(self) -> None:
        super().__init__()
        self._signed_off = False

    def take(self, name: str, data: str) -> str:
        if data == "[DONE]" and name != "error" and self.ended and not self._signed_off:
            self._signed_off = True
            return ""
        return super().take(name, data)


class Response(_Typed):
    """OpenAI's Responses: the last event bears the whole response, which has a status. Out of tokens is what length is elsewhere."""

    def _look(self, name: str, value: dict[str, Any]) -> str:
        kind = value.get("type", name)
        if kind == "response.failed":
            return "error"
        if kind not in ("response.completed", "response.incomplete"):
            return ""
        self.ended = True
        return self._whole({"status": kind.removeprefix("response."), **_inner(value, "response")})

    def _whole(self, value: dict[str, Any]) -> str:
        status = value.get("status")
        if status == "failed" or is_error(value):
            return "error"
        if status == "incomplete":
            return "" if _inner(value, "incomplete_details").get("reason") == "max_output_tokens" else "finish_reason"
        return "" if status == "completed" else "unfinished"


class Message(_Typed):
    """Anthropic's Messages: ``message_delta`` has the reason, ``message_stop`` is the end."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def _look(self, name: str, value: dict[str, Any]) -> str:
        kind = value.get("type", name)
        if kind == "message_delta":
            return self._stop(_inner(value, "delta"))
        self.ended = kind == "message_stop"
        return ""

    def _stop(self, holder: dict[str, Any]) -> str:
        reason = holder.get("stop_reason")
        if reason is not None and not _is_one_of(reason, _STOP_REASONS):
            return "finish_reason"
        self._stopped = self._stopped or reason is not None
        return ""

    def _whole(self, value: dict[str, Any]) -> str:
        return self._stop(value) or self._finished()

    def _finished(self) -> str:
        return "" if self._stopped else "unfinished"


class Lines(_Objects):
    """Ollama's: the last line is ``done``. One that only loaded or unloaded a model says so in its reason."""

    by_lines = True

    def _look(self, name: str, value: dict[str, Any]) -> str:
        self.ended = value.get("done") is True
        reason = value.get("done_reason")
        return "finish_reason" if reason and not _is_one_of(reason, _DONE_REASONS) else ""

    def _whole(self, value: dict[str, Any]) -> str:
        return self._look("", value) or ("" if self.ended else "unfinished")


COURSES: Final[dict[str, type[Course]]] = {
    "openai-chat": Choices,
    "openai-completions": Choices,
    "openai-responses": Response,
    "anthropic": Message,
    "ollama": Lines,
    "sse": AnyStream,
}
"""By the dialect's name."""


def is_error(value: object) -> bool:
    """Is this JSON value an error in any known shape, although it came with status 200?

    ``{"error": ..}`` (OpenAI, Anthropic, TGI, Ollama), ``{"object": "error", ..}`` (vLLM), ``{"type": "error", ..}`` (Anthropic, the
    Responses API), ``{"detail": ..}`` (FastAPI), ``{"message": .., "code": ..}`` (gateways); the last two only without ``choices``.
    """
    if not isinstance(value, dict):
        return False
    if value.get("error") is not None or value.get("object") == "error" or value.get("type") == "error":
        return True
    if "choices" in value:
        return False
    return value.get("detail") is not None or (isinstance(value.get("message"), str) and value.get("code") is not None)


def _inner(value: dict[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def _is_one_of(value: object, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _load(text: str) -> object:
    value: object
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
