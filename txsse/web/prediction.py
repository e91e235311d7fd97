"""A run of a handler as clients of replicate/cog's HTTP API know it: its events, and its state as a document. Sans-I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from txsse.web.events import ServerSentEvent, to_json
from txsse.web.metrics import PREDICT_TIME, Metrics, Mode

Status: TypeAlias = Literal["starting", "processing", "succeeded", "failed", "canceled"]
Ending: TypeAlias = Literal["succeeded", "failed", "canceled"]
LogSource: TypeAlias = Literal["stdout", "stderr"]


class PredictionOver(RuntimeError):
    """Something was told of a run after its end."""


class Prediction:
    """What is known of one run. Whatever is told of it becomes an event at once.

    The events, whose data are JSON objects: ``start`` (id, status), ``output`` (chunk, index), ``log`` (data, source), ``metric`` (name,
    value, mode), and, exactly once and as the last, ``completed`` (the document). They have no ids; who records them gives them some.

    :param seconds: a clock; how long the run took is measured with it.
    :param emit: takes each event.
    :param room: asked before the document grows by so many bytes. Once it has said no, the rest of output and logs is in the events only,
        and the document says ``"truncated": true``.
    """

    def __init__(
        self,
        id: str,
        seconds: Callable[[], float],
        emit: Callable[[ServerSentEvent], None] = lambda event: None,
        room: Callable[[int], bool] = lambda count: True,
    ) -> None:
        self.id = id
        self.status: Status = "starting"
        self._seconds = seconds
        self._emit = emit
        self._room = room
        self._began = seconds()
        self._chunks = 0
        self._output = bytearray()  # what is between the brackets of a JSON list: a list of objects would take ten times as much
        self._logs: list[str] = []
        self._metrics = Metrics()
        self._error: str | None = None
        self._truncated = False

    @property
    def over(self) -> bool:
        return self.status in ("succeeded", "failed", "canceled")

    def start(self) -> None:
        """The handler begins its work."""
        self._tell("start", {"id": self.id, "status": "processing"})
        self.status = "processing"
        self._began = self._seconds()

    def output(self, chunk: object) -> None:
        """The handler has yielded *chunk*.

        :raises TypeError, ValueError: JSON has no form for it.
        """
        self._check()
        data = to_json(chunk)
        index = self._chunks
        self._chunks += 1
        if self._fits(len(data) + 1):
            self._output += b"," + data if index else data
        self._emit(ServerSentEvent(b'{"chunk":%b,"index":%d}' % (data, index), "output"))

    def log(self, text: str, source: LogSource = "stdout") -> None:
        """A line of the log; it gets a newline if it ends in none."""
        data = text if text.endswith("\n") else text + "\n"
        self._check()
        if self._fits(len(data)):
            self._logs.append(data)
        self._tell("log", {"data": data, "source": source})

    def metric(self, name: str, value: object, mode: Mode = "replace") -> None:
        """Something was measured. *value* is a boolean, a number, a text, a list or a dict; ``None`` deletes it.

        :raises TypeError, ValueError: see :meth:`txsse.web.metrics.Metrics.record`.
        """
        self._check()
        value = json.loads(to_json(value))
        self._metrics.record(name, value, mode)
        self._tell("metric", {"name": name, "value": value, "mode": mode})

    def end(self, status: Ending, error: str | None = None) -> None:
        """The run is over."""
        self._check()
        self.status = status
        self._error = error
        self._metrics.values[PREDICT_TIME] = round(self._seconds() - self._began, 6)
        self._emit(ServerSentEvent(self.to_json(), "completed"))

    def document(self) -> dict[str, Any]:
        """The state of the run: ``id``, ``status``, ``output`` (a list), ``logs``, ``metrics``, and ``error`` if it has failed."""
        document: dict[str, Any] = json.loads(self.to_json())
        return document

    def to_json(self) -> bytes:
        """:meth:`document` as JSON."""
        about = to_json({"id": self.id, "status": self.status})
        more: dict[str, object] = {"logs": "".join(self._logs), "metrics": self._metrics.values}
        if self._error is not None:
            more["error"] = self._error
        if self._truncated:
            more["truncated"] = True
        return b'%b,"output":[%b],%b' % (about[:-1], bytes(self._output), to_json(more)[1:])

    def _fits(self, count: int) -> bool:
        self._truncated = self._truncated or not self._room(count)
        return not self._truncated

    def _tell(self, event: str, data: dict[str, object]) -> None:
        self._check()
        self._emit(ServerSentEvent(to_json(data), event))

    def _check(self) -> None:
        if self.over:
            raise PredictionOver(f"prediction {self.id} has {self.status}")
