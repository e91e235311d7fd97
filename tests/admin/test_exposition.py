"""The Prometheus text: names, labels and values of the contract."""

from __future__ import annotations

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.fakes import FakeCache, FakeStreams, glimpse, stream
from txsse.admin.exposition import Exposition
from txsse.dialects.usage import Usage
from txsse.metrics import Metrics, UpstreamView


@attrs.define
class FakeUpstream:
    name: str = "llama"
    state: str = "unknown"
    waiting: int = 0


def scrape(exposition: Exposition) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition.render().decode("utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class FakeShared:
    up, timeouts, owned, followed, losses, dropped, reaped = False, 2, 3, 4, {"gone": 5}, 6, 7
    trouble, refusals = "connection refused", {"OOM": 8}


def test_what_is_shared_is_told_where_there_is_a_redis() -> None:
    found = scrape(Exposition(Metrics(shared_view=FakeShared)))
    assert found["txsse_redis_up", ()] == 0
    assert found["txsse_redis_timeouts_total", ()] == 2
    assert found["txsse_redis_refusals_total", (("code", "OOM"),)] == 8
    assert found["txsse_shared_streams", (("role", "owned"),)] == 3
    assert found["txsse_shared_streams", (("role", "followed"),)] == 4
    assert found["txsse_shared_losses_total", (("reason", "gone"),)] == 5
    assert found["txsse_shared_dropped_bytes_total", ()] == 6
    assert found["txsse_shared_reaped_total", ()] == 7
    assert not [name for name, _ in scrape(Exposition(Metrics())) if "redis" in name or "shared" in name]


def test_every_counter_is_exposed_under_its_documented_name() -> None:
    metrics = Metrics()
    metrics.requests["default", 200, "ok"] += 3
    metrics.in_flight["default"] += 2
    metrics.relayed_bytes["default"] += 1000
    metrics.keepalives["first_byte"] += 4
    metrics.rejections["no_route"] += 5
    metrics.stream_errors["upstream_disconnected"] += 6
    metrics.unterminated["default"] += 7
    metrics.wakes["llama", "failed"] += 8
    metrics.cache["hit"] += 9
    metrics.resumes["resumed"] += 12
    metrics.cache_refusals["no_credential"] += 10
    metrics.count_tokens("default", "qwen", Usage(11, 2), cached=False)
    found = scrape(Exposition(metrics))
    assert found["txsse_requests_total", (("code", "200"), ("outcome", "ok"), ("route", "default"))] == 3
    assert found["txsse_in_flight", (("route", "default"),)] == 2
    assert found["txsse_relayed_bytes_total", (("route", "default"),)] == 1000
    assert found["txsse_keepalives_total", (("phase", "first_byte"),)] == 4
    assert found["txsse_rejections_total", (("reason", "no_route"),)] == 5
    assert found["txsse_stream_errors_total", (("code", "upstream_disconnected"),)] == 6
    assert found["txsse_streams_unterminated_total", (("route", "default"),)] == 7
    assert found["txsse_wakes_total", (("result", "failed"), ("upstream", "llama"))] == 8
    assert found["txsse_cache_total", (("result", "hit"),)] == 9
    assert found["txsse_resumes_total", (("result", "resumed"),)] == 12
    assert found["txsse_cache_refusals_total", (("reason", "no_credential"),)] == 10
    assert found["txsse_tokens_total", (("kind", "prompt"), ("model", "qwen"), ("route", "default"))] == 11
    assert found["txsse_tokens_total", (("kind", "completion"), ("model", "qwen"), ("route", "default"))] == 2


@pytest.mark.parametrize(
    ("attribute", "name", "label"), [("hold_seconds", "hold", "upstream"), ("first_byte_seconds", "first_byte", "route")]
)
def test_histograms_reach_half_an_hour(attribute: str, name: str, label: str) -> None:
    metrics = Metrics()
    getattr(metrics, attribute)["x"].observe(1500)
    found = scrape(Exposition(metrics))
    prefix = f"txsse_{name}_seconds"
    assert {value for (sample, labels), value in found.items() if sample == f"{prefix}_bucket" and ("le", "1800.0") in labels} == {1}
    assert {value for (sample, labels), value in found.items() if sample == f"{prefix}_bucket" and ("le", "1200.0") in labels} == {0}
    assert found[f"{prefix}_count", ((label, "x"),)] == 1
    assert found[f"{prefix}_sum", ((label, "x"),)] == 1500


def test_upstreams_are_read_at_scrape_time_and_only_the_present_state_is_one() -> None:
    upstream = FakeUpstream(waiting=2)
    views: list[UpstreamView] = [upstream]
    exposition = Exposition(Metrics(upstreams=lambda: views))
    assert scrape(exposition)["txsse_waiting", (("upstream", "llama"),)] == 2
    upstream.state, upstream.waiting = "ready", 0
    found = scrape(exposition)
    assert found["txsse_waiting", (("upstream", "llama"),)] == 0
    states = {dict(labels)["state"]: value for (name, labels), value in found.items() if name == "txsse_upstream_state"}
    assert states == {"unknown": 0, "down": 0, "waking": 0, "loading": 0, "ready": 1, "failing": 0, "stopping": 0}


def test_the_cache_is_read_at_scrape_time_if_there_is_one() -> None:
    views: list[FakeCache | None] = [None]
    exposition = Exposition(Metrics(cache_view=lambda: views[0]))
    assert not [name for name, _ in scrape(exposition) if name in ("txsse_cache_bytes", "txsse_cache_entries", "txsse_cache_flights")]
    views[0] = FakeCache([glimpse(1, size=300), glimpse(2, size=400)], evicted=5)
    found = scrape(exposition)
    assert (found["txsse_cache_bytes", ()], found["txsse_cache_entries", ()], found["txsse_cache_flights", ()]) == (700, 2, 3)
    assert found["txsse_cache_total", (("result", "evict"),)] == 5


def test_whatever_a_model_is_called_it_can_be_scraped() -> None:
    metrics = Metrics()
    for name in ("\ud800", 'a"b\n\\', "/models/" + "x" * 1000, "\0"):
        metrics.count_tokens("default", name, Usage(1, 1), cached=False)
    models = {dict(labels)["model"] for name, labels in scrape(Exposition(metrics)) if name == "txsse_tokens_total"}
    assert models == {"?", 'a"b\n\\', "/models/" + "x" * 120, "\0"}


def test_process_metrics_are_there_and_the_default_registry_is_not() -> None:
    names = {name for name, _ in scrape(Exposition(Metrics()))}
    assert "process_open_fds" in names
    assert "process_resident_memory_bytes" in names
    assert not {name for name in names if name.startswith("python_")}


def test_two_proxies_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.rejections["no_route"] += 1
    assert b'reason="no_route"' in Exposition(one).render()
    assert b'reason="no_route"' not in Exposition(other).render()


def test_streams_are_told_apart_by_whether_they_run() -> None:
    streams = FakeStreams([stream("a" * 22), stream("b" * 22, state="waiting"), stream("c" * 22, state="error")])
    found = scrape(Exposition(Metrics(streams_view=lambda: streams)))
    assert found["txsse_streams", (("state", "live"),)] == 2
    assert found["txsse_streams", (("state", "over"),)] == 1
    assert not any(name == "txsse_streams" for name, _ in scrape(Exposition(Metrics())))
