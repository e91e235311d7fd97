"""An entry as bytes and plain values, for stores that keep it outside this process."""

from __future__ import annotations

import json
import sys
from array import array
from typing import TypeVar

from txsse.dialects.usage import Usage
from txsse.recordings.entry import Entry

Number = TypeVar("Number", int, float)


def pack_head(entry: Entry) -> str:
    """What an entry tells besides its key, its route, its times and its bytes, as JSON."""
    usage = None if entry.usage is None else [entry.usage.prompt, entry.usage.completion]
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in entry.headers]
    return json.dumps([entry.dialect, entry.streamed, entry.model, usage, headers])


def unpack(key: bytes, route: str, stored: float, ttl: float, head: str, ends: bytes, times: bytes, body: bytes) -> Entry:
    """The entry again.

    :param head: of :func:`pack_head`.
    :param ends: of :attr:`Entry.ends`, little-endian; *times* likewise.
    :raises ValueError: something in it has rotted.
    """
    try:
        dialect, streamed, model, usage, pairs = json.loads(head)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        counts = None if usage is None else Usage(*usage)
        return Entry(
            key,
            route,
            dialect,
            streamed,
            headers,
            body,
            little(array("I", ends)),
            little(array("f", times)),
            float(stored),
            float(ttl),
            counts,
            model,
        )
    except (TypeError, AttributeError) as error:
        raise ValueError("an entry cannot be read") from error


def little(numbers: array[Number]) -> array[Number]:
    """Between this machine's byte order and little-endian."""
    if sys.byteorder == "little":
        return numbers
    swapped = numbers[:]
    swapped.byteswap()
    return swapped
