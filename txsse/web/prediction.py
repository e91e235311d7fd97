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
    """

    def __init__(self, id: str, seconds: Callable[[], float], emit: Callable[[ServerSentEvent], None] = lambda event: None) -> None:
        self.id = id
        self.status: Status = "starting"
        self._seconds = seconds
        self._emit = emit
        self._began = seconds()
        self._output: list[Any] = []
        self._logs: list[str] = []
        self._metrics = Metrics()
        self._error: str | None = None

    @property
    def over(self) -> bool:
        return self.status in ("succeeded", "failed", "canceled")

    def start(self) -> None:
        """The handler begins its work."""
        self._tell("start", {"id": self.id, "status": "processing"})
        self.status = "processing"

    def output(self, chunk: object) -> None:
        """The handler has yielded *chunk*.

        :raises TypeError, ValueError: JSON has no form for it.
        """
        self._check()
        data = to_json(chunk)
        self._emit(ServerSentEvent(b'{"chunk":%b,"index":%d}' % (data, len(self._output)), "output"))
        # A copy: the handler may go on with the object that it has yielded.
        self._output.append(chunk if isinstance(chunk, str) else json.loads(data))

    def log(self, text: str, source: LogSource = "stdout") -> None:
        """A line of the log; it gets a newline if it ends in none."""
        data = text if text.endswith("\n") else text + "\n"
        self._tell("log", {"data": data, "source": source})
        self._logs.append(data)

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
        self._emit(ServerSentEvent(to_json(self.document()), "completed"))

    def document(self) -> dict[str, Any]:
        """The state of the run, as JSON: ``id``, ``status``, ``output`` (a list), ``logs``, ``metrics``, and ``error`` if it has failed."""
        error = {} if self._error is None else {"error": self._error}
        logs = "".join(self._logs)
        return {"id": self.id, "status": self.status, "output": self._output, "logs": logs, "metrics": self._metrics.values, **error}

    def _tell(self, event: str, data: dict[str, object]) -> None:
        self._check()
        self._emit(ServerSentEvent(to_json(data), event))

    def _check(self) -> None:
        if self.over:
            raise PredictionOver(f"prediction {self.id} has {self.status}")
