"""What a handler is given to tell of its work; the rest is in test_prediction."""

from __future__ import annotations

from txsse.web.context import Context
from txsse.web.prediction import Prediction


def test_it_tells_of_its_run_and_of_no_other() -> None:
    one, other = (Prediction(name, lambda: 0.0) for name in ("one", "other"))
    context = Context(one)
    context.log("here")
    context.metric("n", 1, "append")
    assert context.id == "one"
    assert (one.document()["logs"], one.document()["metrics"]) == ("here\n", {"n": [1]})
    assert (other.document()["logs"], other.document()["metrics"]) == ("", {})
