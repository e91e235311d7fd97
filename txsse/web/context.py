"""What a streaming handler can tell of its work besides what it yields."""

from __future__ import annotations

from txsse.web.metrics import Mode
from txsse.web.prediction import LogSource, Prediction


class Context:
    """The ``ctx`` of a handler: for one run, until it is over."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction

    @property
    def id(self) -> str:
        """The name of the run."""
        return self._prediction.id

    def log(self, text: str, source: LogSource = "stdout") -> None:
        """Tell a line: a ``log`` event at once, and part of ``logs`` in the document."""
        self._prediction.log(text, source)

    def metric(self, name: str, value: object, mode: Mode = "replace") -> None:
        """Tell what was measured: a ``metric`` event at once, and part of ``metrics`` in the document.

        :param name: letters, digits and single underscores; with dots it is a path into nested objects, at most four deep.
        :param value: a boolean, a number, a text, a list or a dict. ``None`` deletes what was told.
        :param mode: what becomes of an earlier value.
        :raises TypeError, ValueError: it cannot be told. If the handler does not catch it, the run has failed.
        """
        self._prediction.metric(name, value, mode)
