"""A prediction's document, made anew from its events: for those who have nothing else of it. Sans-I/O."""

from __future__ import annotations

import json
from typing import Any, Final

from txsse.errors import ProxyError
from txsse.web.events import ServerSentEvent, encode, to_json
from txsse.web.prediction import Prediction

COMPLETED: Final = b"event: completed\n"
"""What the last event of a prediction begins with, and no other."""


class Retold:
    """
    :param most: bytes that output and logs may take, as in the original.
    """

    def __init__(self, id: str, most: int) -> None:
        self._prediction = Prediction(id, lambda: 0.0, room=self._room)
        self._left = most
        self._completed = b""

    def take(self, event: bytes) -> None:
        """The next event, as it was written down.

        :raises ValueError: it is none of a prediction.
        """
        name, _, rest = event.partition(b"\n")
        data = rest.removeprefix(b"data: ").rstrip(b"\n")
        if event.startswith(COMPLETED):
            self._completed = data
            return
        told: dict[str, Any] = json.loads(data)
        prediction = self._prediction
        match name.removeprefix(b"event: "):
            case b"start":
                prediction.start()
            case b"output":
                prediction.output(told["chunk"])
            case b"log":
                prediction.log(told["data"], told["source"])
            case b"metric":
                prediction.metric(told["name"], told["value"], told["mode"])

    def miss(self) -> None:
        """Events are gone, at its beginning: what follows is not all of the output."""
        self._left = -1
        if self._prediction.status == "starting":
            self._prediction.start()

    @property
    def over(self) -> bool:
        return bool(self._completed)

    def document(self) -> bytes:
        """As JSON."""
        return self._completed or self._prediction.to_json()

    def failed(self, error: ProxyError) -> bytes:
        """As JSON, of one that nobody makes any more; it has no ``predict_time``, for that nobody knows."""
        return self._completed or to_json({**json.loads(self._prediction.to_json()), "status": "failed", "error": lost_text(error)})

    def _room(self, count: int) -> bool:
        self._left -= count
        return self._left >= 0


def lost_text(error: ProxyError) -> str:
    """In Cog's documents an error is a text; ours begins with its code."""
    return f"{error.code}: {error.message}"


def lost_document(id: str, error: ProxyError) -> bytes:
    """Of a prediction of which only the id is known."""
    document = {"id": id, "status": "failed", "output": [], "logs": "", "metrics": {}, "error": lost_text(error), "truncated": True}
    return to_json(document)


def completed(document: bytes) -> bytes:
    """The last event. Without an id: it was not told by who made the prediction."""
    return encode(ServerSentEvent(document, "completed"))


def failure(error: ProxyError) -> bytes:
    """The event that tells why there will be no more, of a prediction that may well go on where it is made."""
    return encode(ServerSentEvent({"error": error.message, "code": error.code}, "error"))
