"""Names, modes and kinds of metrics; the rules are replicate/cog's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.web.metrics import Metrics, Mode


def recorded(*calls: tuple[Any, ...]) -> dict[str, Any]:
    metrics = Metrics()
    for call in calls:
        metrics.record(*call)
    return metrics.values


@pytest.mark.parametrize(
    ("calls", "values"),
    [
        ([("a", 1), ("a", 2)], {"a": 2}),
        ([("a", 1), ("a", 2.5)], {"a": 2.5}),
        ([("a", "x"), ("a", None)], {}),
        ([("a", None)], {}),
        ([("a", 1, "increment"), ("a", 2, "increment")], {"a": 3}),
        ([("a", 1, "increment"), ("a", 0.5, "increment")], {"a": 1.5}),
        ([("a", 10**30, "increment"), ("a", 1, "increment")], {"a": 10**30 + 1}),
        ([("a", "x", "append"), ("a", "y", "append")], {"a": ["x", "y"]}),
        ([("a", "x"), ("a", "y", "append")], {"a": ["x", "y"]}),
        ([("a", ["x"]), ("a", ["y"], "append")], {"a": ["x", ["y"]]}),
        ([("a.b", 1), ("a.c.d", 2), ("a.b", 3)], {"a": {"b": 3, "c": {"d": 2}}}),
        ([("a.b", 1, "increment"), ("a.b", 2, "increment")], {"a": {"b": 3}}),
        ([("a.b", 1), ("a.b", None)], {"a": {}}),
        ([("a", {"b": 1}), ("a.c", 2)], {"a": {"b": 1, "c": 2}}),
        ([("a", 1), ("a", None), ("a", "x")], {"a": "x"}),
        ([("T2I_latency", True), ("T2I_latency", False)], {"T2I_latency": False}),
    ],
)
def test_what_becomes_of_an_earlier_value(calls: list[tuple[Any, ...]], values: dict[str, Any]) -> None:
    assert recorded(*calls) == values


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ([("a", 1), ("a", "x")], "'a' is a number: delete it .* before it becomes a string"),
        ([("a", True), ("a", 1)], "'a' is a boolean"),
        ([("a.b", 1), ("a", 1)], "'a' is a object"),
        ([("a", 1), ("a.b", 1)], "'a.b' has no place: 'b' would be in a number"),
        ([("a.b", "x", "increment")], "numbers"),
        ([("a", "x"), ("a", 1, "increment")], "where it and the increment are numbers"),
        ([("a", "x", "increment")], "numbers"),
        ([("a", True, "increment")], "numbers"),
        ([("a", None, "increment")], "numbers"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_changes_nothing(calls: list[tuple[Any, ...]], complaint: str) -> None:
    metrics = Metrics()
    for call in calls[:-1]:
        metrics.record(*call)
    before = repr(metrics.values)
    with pytest.raises(TypeError, match=complaint):
        metrics.record(*calls[-1])
    assert repr(metrics.values) == before


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("_invalid", "must start with a letter"),
        ("1st", "must start with a letter"),
        ("foo__bar", "must not contain consecutive underscores"),
        ("invalid_", "must end with a letter or digit"),
        (".invalid", "must not start with a dot"),
        ("", "must not start with a dot, or be empty"),
        ("foo..bar", "empty segments"),
        ("foo.", "empty segments"),
        ("foo bar", "contains ' '"),
        ("fü", "contains 'ü'"),
        ("predict_time", "predict_time"),
        ("cog.system", r"cog\."),
        ("a.b.c.d.e", "at most 4 dot-separated segments"),
        ("a" * 129, "128 characters"),
    ],
)
def test_names_have_rules(name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        recorded((name, 1))


@pytest.mark.parametrize(
    "name", ["temperature", "token_count", "TTFT", "timing.preprocess", "a.b.c.d", "a" * 128, "cog", "timing.predict_time"]
)
def test_names_that_keep_them(name: str) -> None:
    assert recorded((name, 1))


def test_there_are_three_modes() -> None:
    mode: Any = "incr"
    with pytest.raises(ValueError, match="replace, increment or append, not 'incr'"):
        recorded(("a", 1, mode))


@given(st.lists(st.tuples(st.sampled_from(["increment", "append"]), st.integers())))
def test_increments_add_up_and_what_is_appended_stays_in_order(calls: list[tuple[Mode, int]]) -> None:
    values = recorded(*((mode, value, mode) for mode, value in calls))
    assert values.get("increment", 0) == sum(value for mode, value in calls if mode == "increment")
    assert values.get("append", []) == [value for mode, value in calls if mode == "append"]
