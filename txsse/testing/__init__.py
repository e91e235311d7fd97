"""Public fakes for tests of streaming HTTP: a scripted backend, a recording client, waiting with an end.

* :class:`ScriptedUpstream`: a raw server that does what a script says; :func:`steps` makes scripts from bytes, pauses, gates and
  ``REQUEST``, ``CLOSE``, ``RESET``, ``HANG``.
* :class:`RecordingClient`: a raw client that notes each read with its time, and can stop reading, half-close or reset.
* :class:`Gate`, :func:`sleep`, :func:`eventually`, :func:`pump`, :func:`free_port`: time and ports.
* Bytes: :func:`answer`, :func:`stream`, :func:`chunk`, :func:`request`, ``STREAM_HEAD``, ``LAST_CHUNK``; and :func:`events`,
  :func:`comments` to read an event stream's body.

Everything takes the reactor as an argument and works in pytest-twisted's ``async def`` tests.
"""

from __future__ import annotations

from txsse.testing.client import Read, RecordingClient
from txsse.testing.events import Event, comments, events
from txsse.testing.http import LAST_CHUNK, STREAM_HEAD, MessageReader, ReceivedRequest, Response, answer, chunk, head, request, stream
from txsse.testing.upstream import CLOSE, HANG, REQUEST, RESET, PeerGone, Script, ScriptedUpstream, Step, UpstreamConnection, steps
from txsse.testing.waiting import Gate, eventually, free_port, pump, sleep

__all__ = [
    "CLOSE",
    "HANG",
    "LAST_CHUNK",
    "REQUEST",
    "RESET",
    "STREAM_HEAD",
    "Event",
    "Gate",
    "MessageReader",
    "PeerGone",
    "Read",
    "ReceivedRequest",
    "RecordingClient",
    "Response",
    "Script",
    "ScriptedUpstream",
    "Step",
    "UpstreamConnection",
    "answer",
    "chunk",
    "comments",
    "events",
    "eventually",
    "free_port",
    "head",
    "pump",
    "request",
    "sleep",
    "steps",
    "stream",
]
