"""What OpenAI's chat completions and legacy completions have in common: chunks with ``choices``, and ``[DONE]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from txsse.dialects.shapes import data_event
from txsse.recordings.convert.shapes import JsonObject, NotConvertible, as_index, as_objects, joined, read_events, read_object

_DONE: Final = "[DONE]"
_ENVELOPE: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""The members that every chunk repeats."""
_SAID_FIRST: Final = frozenset(("id", "created", "model"))
"""Azure begins with a chunk in which these are empty."""
_DROPPED: Final = frozenset(("obfuscation", "error"))
"""Padding against those who measure lengths; and ``null``, which some clients take for an error."""
_BY_TOKEN: Final = frozenset(("logprobs", "token_ids"))
"""Members of a choice that come token by token, in lists."""


@attrs.frozen
class Form:
    """One of the two APIs: how its documents and its chunks differ.

    :param document: what a document is called in its member ``object``, and *chunk* a chunk.
    :param collect: the members of a choice that all its pieces amount to, but for those that are called the same in both forms.
    :param tell: the pieces of a choice, but for ``index`` and ``finish_reason``, and *told* the members of the choice that are in them.
    :param ending: what a choice's last piece holds in their place.
    """

    document: str
    chunk: str
    collect: Callable[[list[JsonObject]], JsonObject]
    tell: Callable[[JsonObject], Iterable[JsonObject]]
    told: frozenset[str]
    ending: JsonObject

    def to_document(self, body: bytes) -> JsonObject:
        document: JsonObject = {}
        pieces: dict[int, list[JsonObject]] = {}
        for chunk in _chunks(body):
            for piece in as_objects(chunk.get("choices")):
                pieces.setdefault(as_index(piece.get("index", 0)), []).append(piece)
            for member, value in chunk.items():
                known = document.get(member)
                document[member] = known if value is None or (known and member in _SAID_FIRST) else value
        document |= {"object": self.document, "choices": [self._choice(index, pieces[index]) for index in sorted(pieces)]}
        _check_choices(document)
        if document.get("usage") is None:
            document.pop("usage", None)
        return {member: value for member, value in document.items() if member not in _DROPPED}

    def to_stream(self, document: JsonObject, include_usage: bool) -> list[bytes]:
        """Choice after choice. What the document says besides of itself is told once, in the chunk that ends the last of them."""
        choices = _check_choices(document)
        head = {member: document[member] for member in _ENVELOPE if member in document} | {"object": self.chunk}
        chunks: list[JsonObject] = []
        for position, choice in enumerate(choices):
            index = {"index": choice.get("index", position)}
            chunks += [head | {"choices": [index | piece | {"finish_reason": None}]} for piece in self.tell(choice)]
            rest = {member: value for member, value in choice.items() if member not in self.told}
            if rest.get("logprobs") is not None:
                del rest["logprobs"]  # told with the text
            chunks.append(head | {"choices": [index | self.ending | rest]})
        chunks[-1] |= {
            member: value
            for member, value in document.items()
            if member not in head and member not in _DROPPED and member not in ("choices", "usage")
        }
        if include_usage and document.get("usage") is not None:
            chunks.append(head | {"choices": [], "usage": document["usage"]})
        return [*map(data_event, chunks), f"data: {_DONE}\n\n".encode()]

    def _choice(self, index: int, pieces: list[JsonObject]) -> JsonObject:
        choice = {"index": index} | self.collect(pieces)
        for piece in pieces:
            for member, value in piece.items():
                if member not in self.ending:
                    choice[member] = _last(member, choice.get(member), value)
        return choice


def _last(member: str, known: Any, value: Any) -> Any:
    if known is None or value is None:
        return known if value is None else value
    if member in _BY_TOKEN:
        return joined({member: known}, {member: value})[member]
    if isinstance(known, dict) and isinstance(value, dict):
        return known | value  # Azure's filter results, of which the last piece has none
    return value


def _chunks(body: bytes) -> list[JsonObject]:
    events = read_events(body)
    if not events or events.pop().data != _DONE:
        raise NotConvertible("not finished")
    chunks = [read_object(event.data) for event in events]
    return [chunk for chunk in chunks if chunk.get("type") != "ping"]


def _check_choices(document: JsonObject) -> list[JsonObject]:
    choices = as_objects(document.get("choices"))
    indices = {as_index(choice.get("index", position)) for position, choice in enumerate(choices)}
    if not choices or len(indices) < len(choices):
        raise NotConvertible("no choices")
    for choice in choices:
        reason = choice.get("finish_reason")
        if not isinstance(reason, str) or reason in ("", "error") or choice.get("error") is not None:
            raise NotConvertible("a choice that is not finished")
    return choices
