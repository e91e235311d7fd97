"""A document that is made anew from events is the one that they were told of."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from txsse.errors import ProxyError
from txsse.predictions.retold import Retold, lost_document
from txsse.web.events import ServerSentEvent, encode
from txsse.web.prediction import Prediction

LOST = ProxyError("owner_lost", "It has stopped.")


class Original:
    """A prediction and its events."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.prediction = Prediction("one", lambda: 0.0, self._take)

    def _take(self, event: ServerSentEvent) -> None:
        self.events.append(encode(event))


def retold(events: list[bytes], most: int = 1_000_000) -> Retold:
    found = Retold("one", most)
    for event in events:
        found.take(event)
    return found


CHUNKS = st.one_of(st.text(), st.integers(), st.none(), st.dictionaries(st.text(), st.text(), max_size=2))
STEPS = st.one_of(st.tuples(st.just("output"), CHUNKS), st.tuples(st.just("log"), st.text()), st.tuples(st.just("metric"), st.integers()))


@given(st.lists(STEPS))
def test_it_is_the_same(steps: list[tuple[str, Any]]) -> None:
    original = Original()
    original.prediction.start()
    for name, value in steps:
        match name:
            case "output":
                original.prediction.output(value)
            case "log":
                original.prediction.log(value, "stderr")
            case _:
                original.prediction.metric("tokens", value, "increment")
    running = retold(original.events)
    assert not running.over and running.document() == original.prediction.to_json()
    original.prediction.end("failed", "no")
    ended = retold(original.events)
    assert ended.over and ended.document() == ended.failed(LOST) == original.prediction.to_json()
    assert retold(original.events[-1:]).document() == original.prediction.to_json(), "the last event alone says it all"


def test_before_it_is_begun() -> None:
    assert retold([]).document() == Original().prediction.to_json()


def test_one_whose_maker_is_lost() -> None:
    original = Original()
    original.prediction.start()
    original.prediction.output("a")
    found = json.loads(retold(original.events).failed(LOST))
    assert found == {
        "id": "one",
        "status": "failed",
        "output": ["a"],
        "logs": "",
        "metrics": {},
        "error": "owner_lost: It has stopped.",
    }
    unknown = json.loads(lost_document("one", LOST))
    assert unknown == {**found, "output": [], "truncated": True}


def test_what_does_not_fit_or_is_gone_is_missed() -> None:
    original = Original()
    original.prediction.start()
    for chunk in "abc":
        original.prediction.output(chunk)
    long = json.loads(retold(original.events, 8).document())
    assert (long["output"], long["truncated"]) == (["a", "b"], True)
    late = Retold("one", 1000)
    late.miss()
    for event in original.events[2:]:
        late.take(event)
    told = json.loads(late.document())
    assert (told["status"], told["output"], told["truncated"]) == ("processing", [], True)
