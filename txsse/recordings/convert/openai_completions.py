"""OpenAI's legacy completions: a text, and its pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsse.recordings.convert.openai import Form
from txsse.recordings.convert.shapes import Converter, JsonObject, as_text, words


def _collect(pieces: list[JsonObject]) -> JsonObject:
    return {"text": "".join(as_text(piece.get("text") or "") for piece in pieces)}


def _tell(choice: JsonObject) -> Iterator[JsonObject]:
    text = as_text(choice.get("text"))
    if choice.get("logprobs") is None:
        yield from ({"text": each} for each in words(text))
    else:  # it is not known which of them belong to which word
        yield {"text": text, "logprobs": choice["logprobs"]}


_FORM: Final = Form("text_completion", "text_completion", _collect, _tell, frozenset(("index", "text")), {"text": ""})

OPENAI_COMPLETIONS: Final = Converter(_FORM.to_document, _FORM.to_stream)
