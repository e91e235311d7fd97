from __future__ import annotations

from typing import Any

import pytest

from tests.recordings.convert.strategies import document_of, stored
from txsse.recordings.convert import to_document, to_stream

RESPONSES = "openai-responses"
ITEM = {"type": "message", "content": [{"type": "output_text", "text": "é x"}]}
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "error": None, "output": [ITEM], "usage": {"total_tokens": 3}}


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), stored(event)) for event in events)


CREATED = {"type": "response.created", "response": RESPONSE | {"status": "in_progress", "output": []}}
DONE = {"type": "response.output_item.done", "output_index": 0, "item": ITEM}
COMPLETED = {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}


def test_the_last_event_holds_the_document() -> None:
    assert document_of(RESPONSES, stream(CREATED, DONE, COMPLETED)) == RESPONSE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        stream(CREATED),
        stream(CREATED, COMPLETED, DONE),
        stream(COMPLETED, COMPLETED),
        stream(CREATED, COMPLETED | {"type": "response.incomplete"}),
        stream(CREATED, COMPLETED | {"response": RESPONSE | {"status": "failed"}}),
        stream(CREATED, COMPLETED | {"response": RESPONSE | {"error": {"code": "x"}}}),
        stream(CREATED, DONE, COMPLETED | {"response": RESPONSE | {"output": []}}),
        stream(CREATED, {"type": "error", "message": "x"}, COMPLETED),
        stream(CREATED, {"type": "response.completed"}),
    ],
)
def test_a_stream_that_is_no_whole_answer_is_no_document(body: bytes) -> None:
    assert to_document(RESPONSES, body) is None


def test_a_document_is_not_told_as_a_stream() -> None:
    assert to_stream(RESPONSES, stored(RESPONSE), include_usage=True) is None
