"""Streams that can be resumed, on the admin listener: which there are, and how one is ended."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, TypedDict

from txsse.admin.answers import Mistaken

if TYPE_CHECKING:
    from txsse.admin.view import RedisStatus, StreamLevels
    from txsse.recordings.view import SharedView, StreamGlimpse, StreamsView

MOST_STREAMS: Final = 1000
"""Streams that are shown, the newest."""

_ID: Final = re.compile(r"[A-Za-z0-9_~-]{4,64}\Z")


class StreamStatus(TypedDict):
    """One stream in the body of ``/streams``."""

    kind: str  # stream or prediction
    id: str  # its beginning
    route: str
    state: str
    upstream: str  # that one's state
    age: float  # seconds
    first: int
    last: int
    bytes: int
    readers: int


class StreamsStatus(TypedDict):
    """The body of ``/streams``."""

    kept: int
    live: int
    bytes: int
    streams: list[StreamStatus]  # MOST_STREAMS of them at most


def stream_levels(streams: StreamsView) -> StreamLevels:
    return {"kept": streams.kept, "live": streams.live, "bytes": streams.size}


def redis_status(shared: SharedView) -> RedisStatus:
    return {
        "up": shared.up,
        "trouble": shared.trouble,
        "timeouts": shared.timeouts,
        "refusals": dict(shared.refusals),
        "owned": shared.owned,
        "followed": shared.followed,
        "losses": dict(shared.losses),
        "reaped": shared.reaped,
    }


def streams_status(streams: StreamsView) -> StreamsStatus:
    return {**stream_levels(streams), "streams": [_status(each) for each in islice(streams.glimpses(), MOST_STREAMS)]}


def ended_stream(streams: StreamsView, text: str) -> StreamStatus:
    """The stream that *text* names, by its id or the beginning that ``/streams`` shows of it, after its end.

    :raises Mistaken: it names none, or several.
    """
    sid = text.removesuffix("..")
    if not _ID.match(sid):
        raise Mistaken(400, "bad_request", "An id is what /streams shows of it, or all of it.")
    match streams.end(sid):
        case [ended]:
            return _status(ended)
        case []:
            raise Mistaken(404, "not_found", "There is no stream of this id.")
        case _:
            raise Mistaken(409, "ambiguous", "Several streams' ids begin so: name one by more of it.")


def _status(stream: StreamGlimpse) -> StreamStatus:
    return {
        "kind": stream.kind,
        "id": stream.sid,
        "route": stream.route,
        "state": stream.state,
        "upstream": stream.upstream,
        "age": round(stream.age, 3),
        "first": stream.first,
        "last": stream.last,
        "bytes": stream.size,
        "readers": stream.readers,
    }
