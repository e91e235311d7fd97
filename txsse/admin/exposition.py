"""The counters of :class:`txsse.metrics.Metrics` as Prometheus text, format 0.0.4.

Imported at the first scrape only: ``prometheus_client`` costs memory and time that a proxy nobody scrapes should not pay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from txsse.metrics import Histogram, Metrics
from txsse.upstream.state import State

_Word = TypeVar("_Word", bound=str)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4.encode("ascii")


class Exposition:
    """Renders one proxy's metrics, and those of its process, from a registry of its own (an embedder's default one stays clean)."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Counters(metrics))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _Counters(Collector):
    """Reads the plain integers at scrape time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        requests = CounterMetricFamily(
            "txsse_requests", "Requests at their end, by the status the client saw.", labels=["route", "code", "outcome"]
        )
        for (route, status, outcome), count in metrics.requests.items():
            requests.add_metric([route, str(status), outcome], count)
        yield requests
        yield _filled(GaugeMetricFamily("txsse_in_flight", "Requests that have not ended.", labels=["route"]), metrics.in_flight)
        yield from self._upstreams()
        wakes = CounterMetricFamily("txsse_wakes", "Starts of upstreams at their end, by how they ended.", labels=["upstream", "result"])
        for (upstream, result), count in metrics.wakes.items():
            wakes.add_metric([upstream, result], count)
        yield wakes
        yield _histograms("txsse_hold_seconds", "Time requests were held until their upstream took them.", "upstream", metrics.hold_seconds)
        yield _histograms(
            "txsse_first_byte_seconds", "From dispatch to the upstream's first body byte.", "route", metrics.first_byte_seconds
        )
        yield _counters("txsse_relayed_bytes", "Body bytes of upstreams written to clients.", "route", metrics.relayed_bytes)
        yield _counters("txsse_keepalives", "Keepalives and heartbeats written to clients.", "phase", metrics.keepalives)
        yield _counters("txsse_rejections", "Requests answered with an error of the proxy's own.", "reason", metrics.rejections)
        yield _counters("txsse_stream_errors", "Streams that failed after their response had begun.", "code", metrics.stream_errors)
        yield _counters(
            "txsse_streams_unterminated", "Streams that ended cleanly without their terminal event.", "route", metrics.unterminated
        )
        cache = metrics.cache_view()
        results = metrics.cache if cache is None else {**metrics.cache, "evict": cache.evicted}
        yield _counters("txsse_cache", "Requests by what the cache did for them; entries stored and evicted.", "result", results)
        yield _counters(
            "txsse_cache_refusals", "Requests not looked up, and answers not stored, by the reason.", "reason", metrics.cache_refusals
        )
        tokens = CounterMetricFamily(
            "txsse_tokens",
            "Tokens of prompts and answers, by what upstreams said; cached: of answers that were told from a recording.",
            labels=["route", "model", "kind"],
        )
        for (route, model, kind), count in metrics.tokens.items():
            tokens.add_metric([route, model, kind], count)
        yield tokens
        yield _counters("txsse_resumes", "Readers who came back to a stream, by what became of it.", "result", metrics.resumes)
        yield from self._cache()
        yield from self._streams()
        yield from self._shared()

    def _cache(self) -> Iterator[Metric]:
        cache = self._metrics.cache_view()
        if cache is not None:
            yield GaugeMetricFamily("txsse_cache_bytes", "Bytes that stored answers take.", value=cache.used)
            yield GaugeMetricFamily("txsse_cache_entries", "Answers that are stored.", value=cache.count)
            yield GaugeMetricFamily("txsse_cache_flights", "Streams under way that another request could join.", value=cache.flights)

    def _streams(self) -> Iterator[Metric]:
        streams = self._metrics.streams_view()
        if streams is not None:
            kept = GaugeMetricFamily(
                "txsse_streams", "Streams that can be come back to: those that run, and those that are over.", labels=["state"]
            )
            kept.add_metric(["live"], streams.live)
            kept.add_metric(["over"], streams.kept - streams.live)
            yield kept

    def _shared(self) -> Iterator[Metric]:
        shared = self._metrics.shared_view()
        if shared is None:
            return
        yield GaugeMetricFamily("txsse_redis_up", "1 while Redis can be used.", value=shared.up)
        yield CounterMetricFamily("txsse_redis_timeouts", "Commands that Redis did not answer in time.", value=shared.timeouts)
        yield _counters("txsse_redis_refusals", "Commands that Redis refused.", "code", shared.refusals)
        streams = GaugeMetricFamily(
            "txsse_shared_streams", "Streams that are written to Redis, and those of others that are read from there.", labels=["role"]
        )
        streams.add_metric(["owned"], shared.owned)
        streams.add_metric(["followed"], shared.followed)
        yield streams
        yield _counters("txsse_shared_losses", "Streams that other machines could not go on reading.", "reason", shared.losses)
        yield CounterMetricFamily("txsse_shared_dropped_bytes", "Bytes of streams that were not written to Redis.", value=shared.dropped)
        yield CounterMetricFamily("txsse_shared_reaped", "Streams of dead processes that this one has ended.", value=shared.reaped)

    def _upstreams(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("txsse_waiting", "Requests held now.", labels=["upstream"])
        state = GaugeMetricFamily("txsse_upstream_state", "1 for the upstream's present state.", labels=["upstream", "state"])
        for upstream in self._metrics.upstreams():
            waiting.add_metric([upstream.name], upstream.waiting)
            for each in State:
                state.add_metric([upstream.name, each.value], each.value == upstream.state)
        yield waiting
        yield state


def _counters(name: str, text: str, label: str, values: Mapping[_Word, int]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=[label]), values)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[_Word, int]) -> Metric:
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histograms(name: str, text: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for key, histogram in values.items():
        buckets = [(floatToGoString(bound), float(count)) for bound, count in histogram.cumulative()]
        family.add_metric([key], buckets=buckets, sum_value=histogram.total)
    return family
