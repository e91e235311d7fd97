"""How many tokens an answer took, as its stream says.

Nothing is parsed while the stream runs: the frames in which usage can stand are kept, and the last of them is read at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from txsse.wire.eventstream import EventStreamDecoder

MAX_PARSED: Final = 64 * 1024
"""Bytes of a JSON answer that are parsed; in a longer one (log probabilities) only the usage itself is."""
MAX_MODEL: Final = 256
"""Characters of a model's name."""

_MAX_COUNT: Final = 1 << 53  # what every JSON reader keeps exactly
_MAX_USAGE: Final = 4096
_MAX_LOOKS: Final = 16
_USAGE: Final = b'"usage"'
_EVAL_COUNT: Final = b'eval_count"'

# In an event stream a JSON text may go over several lines, between any two of its tokens.
_GAP: Final = rb"(?:\s|data:)*+"
# Most servers of OpenAI's API write `"usage":null` into each chunk but the last.
_HAS_USAGE: Final = re.compile(rb'"usage"%b:%b\{%b"' % (_GAP, _GAP, _GAP))
_HAS_EVAL_COUNT: Final = re.compile(rb'eval_count"\s*+:\s*+[0-9]')

_USAGE_OBJECT: Final = re.compile(r'"usage"\s*+:\s*+(?=\{)')
_EVAL_COUNTS: Final = re.compile(r'"(prompt_eval_count|eval_count)"\s*+:\s*+([0-9]{1,16})(?=\s*+[,}])')
_MODEL: Final = re.compile(r'"model"\s*+:\s*+"([^"\\]*+)"')

_PROMPT: Final = ("prompt_tokens", "input_tokens", "prompt_eval_count")
_COMPLETION: Final = ("completion_tokens", "output_tokens", "eval_count")
_CACHED: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")
_COUNTS: Final = (*_PROMPT, *_COMPLETION, *_CACHED, "total_tokens")
_JSON: Final = json.JSONDecoder()


@attrs.frozen
class Usage:
    """Tokens of the prompt and of the answer."""

    prompt: int
    completion: int


@attrs.frozen
class _Report:
    """The counts that an event (or a document) tells, by the names that its API gives them."""

    counts: Mapping[str, int]
    model: str

    def usage(self) -> Usage:
        prompt = next((self.counts[name] for name in _PROMPT if name in self.counts), None)
        completion = next((self.counts[name] for name in _COMPLETION if name in self.counts), None)
        if prompt is not None and "prompt_tokens" not in self.counts:  # Anthropic counts what came from its cache, or went there, apart
            prompt += sum(self.counts.get(name, 0) for name in _CACHED)
        total = self.counts.get("total_tokens", 0)
        if completion is None:
            completion = max(total - (prompt or 0), 0)
        if prompt is None:
            prompt = max(total - completion, 0)
        return Usage(prompt, completion)

    def continued(self, later: _Report) -> _Report:
        """This one brought up to date: a later 0 for the prompt is a server that did not count it again."""
        news = {name: count for name, count in later.counts.items() if count or name in _COMPLETION}
        return _Report({**self.counts, **news}, later.model or self.model)


class UsageWitness:
    """Keeps what a stream says of its usage: references to frames, read by :meth:`read` once the stream is over.

    The last usage counts. Anthropic's begins in ``message_start`` (the prompt) and ends in ``message_delta`` (the answer), so there the
    first is kept as well. Where only a total is told, a missing part is the rest of it; of a total alone all is completion.

    :param dialect: its name; the streams of ``sse`` are read like OpenAI's.
    :ivar word: stands in all frames that can carry usage and in few others. Whoever relays looks for it and calls :meth:`see` where it is.
    """

    __slots__ = ("_by_lines", "_first", "_keeps_first", "_last", "_pattern", "word")

    word: bytes

    def __init__(self, dialect: str) -> None:
        self._by_lines = dialect == "ollama"
        self._keeps_first = dialect == "anthropic"
        self.word = _EVAL_COUNT if self._by_lines else _USAGE
        self._pattern = _HAS_EVAL_COUNT if self._by_lines else _HAS_USAGE
        self._first = b""
        self._last = b""

    def see(self, frames: bytes) -> None:
        """Take frames in which :attr:`word` was found: whole events, or pieces of one that was too long to be held back."""
        if self._pattern.search(frames) is None:
            return
        if self._keeps_first and not self._first:
            self._first = frames
        self._last = frames

    def read(self) -> tuple[Usage | None, str]:
        """The usage, ``None`` if none was told, and the model named with it, "" if none was.

        An event that the end of the stream left without its blank line counts.
        """
        if not self._last:
            return None, ""
        report = self._report(self._last, latest=True)
        if self._first and (start := self._report(self._first, latest=False)):
            report = start if report is None else start.continued(report)
        return (None, "") if report is None else (report.usage(), report.model)

    def _report(self, frames: bytes, *, latest: bool) -> _Report | None:
        word = self.word.decode()
        texts = [text for text in self._texts(frames) if word in text]
        reports = (_parsed(text, bare=self._by_lines) for text in (reversed(texts) if latest else texts))
        # What begins or ends inside an event is no event; the usage may still be whole in it.
        return next(filter(None, reports), None) or _found(_decode(frames), bare=self._by_lines)

    def _texts(self, frames: bytes) -> Iterable[str]:
        if self._by_lines:
            return _decode(frames).split("\n")
        return (event.data for event in EventStreamDecoder(len(frames) + 2).feed(frames + b"\n\n"))


def usage_of_document(dialect: str, tail: bytes) -> tuple[Usage | None, str]:
    """The usage that a JSON answer tells, and its model: as :meth:`UsageWitness.read`.

    :param tail: the whole body or only its last part, near the end of which usage stands.
    """
    bare = dialect == "ollama"
    if (_EVAL_COUNT if bare else _USAGE) not in tail:
        return None, ""
    text = _decode(tail)
    report = _parsed(text, bare=bare) if len(tail) <= MAX_PARSED else None
    report = report or _found(text, bare=bare)
    return (None, "") if report is None else (report.usage(), report.model)


def _decode(data: bytes) -> str:
    return data.decode("utf-8-sig", "replace")


def _parsed(text: str, *, bare: bool) -> _Report | None:
    """What one JSON object tells of usage; ``None``: nothing, or it is none.

    :param bare: its counts have no object of their own (Ollama).
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    carriers = list(_carriers(value))
    usages = [value] if bare else [carrier.get("usage") for carrier in carriers]
    counts = next(filter(None, map(_counts, usages)), None)
    if counts is None:
        return None
    return _Report(counts, next(filter(None, (_model(carrier.get("model")) for carrier in carriers)), ""))


def _carriers(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects that have a member ``usage`` or ``model`` in one API or another."""
    yield value
    # The Responses API; Anthropic; Groq.
    for member in (value.get("response"), value.get("message"), value.get("x_groq")):
        if isinstance(member, dict):
            yield member
    choices = value.get("choices")
    if isinstance(choices, list):  # Moonshot
        yield from (choice for choice in choices if isinstance(choice, dict))


def _found(text: str, *, bare: bool) -> _Report | None:
    """The last usage that can be read where what is around it cannot."""
    if bare:
        counts = _counts({name: int(number) for name, number in _EVAL_COUNTS.findall(text)})
    else:
        counts = next(filter(None, map(_counts, _usages_from_the_end(text))), None)
    if counts is None:
        return None
    model = _MODEL.search(text)
    return _Report(counts, "" if model is None else _model(model[1]))


def _usages_from_the_end(text: str) -> Iterator[object]:
    at = len(text)
    for _ in range(_MAX_LOOKS):
        at = text.rfind('"usage"', 0, at)
        if at < 0:
            return
        if match := _USAGE_OBJECT.match(text, at):
            try:
                yield _JSON.raw_decode(text[match.end() : match.end() + _MAX_USAGE])[0]
            except (ValueError, RecursionError):
                continue


def _counts(usage: object) -> dict[str, int] | None:
    """The members of a usage object that are counts of tokens; ``None`` if there are none."""
    if not isinstance(usage, dict):
        return None
    return {name: usage[name] for name in _COUNTS if _is_count(usage.get(name))} or None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


def _model(value: object) -> str:
    """A model's name, if it can stand in a log line."""
    return value if isinstance(value, str) and len(value) <= MAX_MODEL and value.isprintable() else ""
