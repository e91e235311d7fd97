"""The counters, and that importing them costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from txsse.dialects.usage import Usage
from txsse.metrics import BOUNDS, MOST_MODELS, Histogram, Metrics


def test_an_observation_counts_in_its_bucket_and_every_wider_one() -> None:
    histogram = Histogram()
    histogram.observe(0.02)
    histogram.observe(7)
    rows = dict(histogram.cumulative())
    assert (rows[0.005], rows[0.025], rows[5.0], rows[10.0], rows[float("inf")]) == (0, 1, 1, 2, 2)
    assert histogram.total == pytest.approx(7.02)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_belongs_to_its_own_bucket(bound: float) -> None:
    histogram = Histogram()
    histogram.observe(bound)
    assert dict(histogram.cumulative())[bound] == 1


def test_the_buckets_reach_half_an_hour_and_longer_waits_are_not_lost() -> None:
    histogram = Histogram()
    histogram.observe(1801)
    assert BOUNDS[-1] == 1800
    assert histogram.cumulative()[-2:] == [(1800.0, 0), (float("inf"), 1)]


def test_counters_start_by_themselves() -> None:
    metrics = Metrics()
    metrics.requests["default", 200, "ok"] += 1
    metrics.hold_seconds["llama"].observe(1)
    metrics.in_flight["default"] += 1
    metrics.in_flight["default"] -= 1
    assert metrics.requests == {("default", 200, "ok"): 1}
    assert metrics.in_flight["default"] == 0
    assert list(metrics.upstreams()) == []
    assert metrics.cache_view() is None


def test_tokens_are_counted_by_route_and_model_and_those_nobody_worked_for_apart() -> None:
    metrics = Metrics()
    metrics.count_tokens("chat", "qwen", Usage(11, 2), cached=False)
    metrics.count_tokens("chat", "qwen", Usage(11, 2), cached=True)
    metrics.count_tokens("chat", "qwen", Usage(4, 3), cached=False)
    metrics.count_tokens("chat", "", Usage(1, 1), cached=False)
    assert metrics.tokens == {
        ("chat", "qwen", "prompt"): 15,
        ("chat", "qwen", "completion"): 5,
        ("chat", "qwen", "cached"): 13,
        ("chat", "unknown", "prompt"): 1,
        ("chat", "unknown", "completion"): 1,
    }


def test_the_first_fifty_models_have_counters_of_their_own_whatever_the_route() -> None:
    metrics = Metrics()
    metrics.count_tokens("chat", "", Usage(1, 0), cached=False)
    for number in range(MOST_MODELS + 2):
        metrics.count_tokens("chat", f"m{number}", Usage(1, 0), cached=False)
    for model in ("m0", f"m{MOST_MODELS}", ""):
        metrics.count_tokens("other", model, Usage(5, 0), cached=True)
    labels = {model for _, model, _ in metrics.tokens}
    assert labels == {*(f"m{number}" for number in range(MOST_MODELS)), "unknown", "other"}
    assert metrics.tokens["chat", "other", "prompt"] == 2
    assert {model: count for (route, model, _), count in metrics.tokens.items() if route == "other"} == {"m0": 5, "other": 5, "unknown": 5}


def test_counting_imports_no_prometheus_client() -> None:
    code = "import sys, txsse.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
