"""OpenAI Responses: the last event of a stream holds the whole document. Documents are not told as streams: each kind of item has events
of its own, and the clients' helpers check every one of them.
"""

from __future__ import annotations

from typing import Final

from txsse.recordings.convert.shapes import Converter, JsonObject, NotConvertible, as_object, as_objects, read_events, read_object

_ENDS: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")


def _to_document(body: bytes) -> JsonObject:
    events = [read_object(event.data) for event in read_events(body)]
    ends = [event for event in events if event.get("type") in _ENDS]
    if len(ends) != 1 or events[-1].get("type") != "response.completed":
        raise NotConvertible("not completed")
    response = as_object(ends[0].get("response"))
    if response.get("status", "completed") != "completed" or response.get("error") is not None:
        raise NotConvertible("not completed")
    # Some servers tell the items in their events only, and repeat none of them in the end.
    if len(as_objects(response.get("output"))) < sum(event.get("type") == "response.output_item.done" for event in events):
        raise NotConvertible("items are missing from the end")
    return response


OPENAI_RESPONSES: Final = Converter(_to_document)
