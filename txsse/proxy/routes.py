"""From a request to its route: the first one whose globs it meets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs

from txsse.config import model
from txsse.dialects import Dialect, choose
from txsse.dialects.styles import STYLES, Style
from txsse.exchange.policy import Policy
from txsse.proxy.forwarded import Forwarding, TrustedProxies
from txsse.proxy.globs import glob, path_glob
from txsse.proxy.stand_ins import StandIns
from txsse.upstream.backend import Backend
from txsse.upstream.presets import is_loading_answer
from txsse.wire.headers import get_all
from txsse.wire.http1 import RequestHead

PREDICTIONS: Final = re.compile(r"/predictions(?:/[^/]+(?:/cancel)?)?|/health-check")
"""The decoded paths of replicate/cog's HTTP API."""


def policy_of(route: model.Route, upstream: model.Upstream) -> Policy:
    """What a route and its upstream ask of an exchange."""
    return Policy(
        holds=upstream.probe.preset != "none",
        hold_timeout=route.hold.timeout,
        hold_timeout_status=route.hold.timeout_status,
        hold_commit_after=route.hold.commit_after,
        message=route.hold.message,
        progress=route.hold.progress,
        separator=route.hold.separator,
        channel=route.hold.channel,
        status_comments=route.hold.status_comments,
        commit_after=route.keepalive.commit_after,
        interval=route.keepalive.interval,
        heartbeat=route.keepalive.heartbeat,
        heartbeat_midstream=route.keepalive.heartbeat_midstream,
        form=route.keepalive.form,
        normalise=route.keepalive.normalise,
        first_byte=upstream.timeouts.first_byte,
        idle=upstream.timeouts.idle,
        total=upstream.timeouts.total,
        comments_count=upstream.timeouts.comments_count,
        loading_status=frozenset(upstream.probe.loading_status),
        is_loading=partial(is_loading_answer, config=upstream.probe),
        hold_bytes=route.stream.hold_bytes,
        error_end=route.stream.error_end,
        error_event=route.stream.error_event,
        require_done=route.stream.require_done,
        pads_json=route.keepalive.json == "whitespace",
        falls_back=bool(upstream.fallback),
        overflow_falls_back=route.hold.overflow == "fallback",
    )


def unheard_policy(policy: Policy) -> Policy:
    """How an exchange behaves on a route with this *policy* that has no client of its own: silent."""
    return attrs.evolve(policy, unheard=True, form="none", heartbeat=0, message="", normalise=False, pads_json=False)


def run_policy(policy: Policy, *, resumes: bool = False) -> Policy:
    """How a run behaves on a route with this *policy*: silent, and patient as long as its readers are.

    Only where the wait's end means a fallback the run ends it, for all; else each reader's own wait does.

    :param resumes: it is a stream of its own, which may have no reader: then all its deadlines are the run's.
    """
    falls_back = policy.falls_back and not 0 < policy.total <= policy.hold_timeout
    return attrs.evolve(
        unheard_policy(policy),
        hold_timeout=policy.hold_timeout if falls_back or resumes else 0,
        falls_back=falls_back,
        total=policy.total if resumes else 0,
    )


def reader_policy(policy: Policy, run: Policy) -> Policy:
    """How those behave who read a run of a route with this *policy*: what an upstream may take is the run's business.

    :param run: its policy.
    """
    return attrs.evolve(
        policy,
        hold_timeout=0 if run.hold_timeout else policy.hold_timeout,
        total=0 if run.total else policy.total,
        falls_back=False,
        overflow_falls_back=False,
        first_byte=0,
        idle=0,
        counts_tokens=False,
        comments_count=True,
        loading_status=frozenset(),
        is_loading=lambda status, beginning: False,
    )


@attrs.define(eq=False)
class Room:
    """Where a route's held requests wait; a reload does not empty it."""

    waiting: int = 0


@attrs.define(eq=False)
class BoundRoute:
    """A route tied to its backend, with everything worked out that does not depend on the request."""

    name: str
    config: model.Route
    backend: Backend
    policy: Policy
    forwarding: Forwarding
    style: Style
    fallback: BoundRoute | None  # the same with the fallback of its upstream, if that has one
    _path: re.Pattern[str]
    _host: re.Pattern[str] | None
    _method: re.Pattern[str] | None
    _headers: tuple[tuple[bytes, re.Pattern[str]], ...]
    wanted_model: re.Pattern[str] | None
    room: Room = attrs.field(factory=Room)
    stand_ins: StandIns | None = None
    for_runs: BoundRoute | None = None  # as those see it who ask for many
    for_readers: BoundRoute | None = None  # .. and those who read what another one asked for
    for_predictions: BoundRoute | None = None  # .. and those who ask for a prediction
    predicts: bool = attrs.field(init=False)
    """It is for predictions: their paths are taken instead of that in its match, which is the upstream's."""
    caches: bool = attrs.field(init=False)
    resumes: bool = attrs.field(init=False)
    records: bool = attrs.field(init=False)
    """What it relays may be kept."""
    _spoken: dict[Dialect, Dialect] = attrs.field(init=False, factory=dict)  # as this route's style varies them

    def __attrs_post_init__(self) -> None:
        self.predicts = self.config.kind == "predictions"
        self.caches = self.config.cache.mode != "off" and not self.predicts
        self.resumes = self.config.resume.mode != "off" and not self.predicts
        self.records = self.caches or self.resumes

    @classmethod
    def bind(
        cls, route: model.Route, backend: Backend, instance: str, trusted: TrustedProxies, fallback: Backend | None = None
    ) -> BoundRoute:
        """
        :param fallback: takes over from *backend*.
        :raises ValueError: its upstream's ``set_headers`` cannot be sent.
        """
        match = route.match
        return cls(
            name=route.name,
            config=route,
            backend=backend,
            policy=policy_of(route, backend.config),
            forwarding=Forwarding(instance, backend.config.host, backend.set_headers, trusted),
            style=STYLES[route.hold.style],
            fallback=None if fallback is None else cls.bind(route, fallback, instance, trusted),
            path=PREDICTIONS if route.kind == "predictions" else path_glob(match.path),
            host=path_glob(match.host.lower()) if match.host else None,
            method=glob(match.method.upper()) if match.method else None,
            headers=tuple((name.lower().encode("latin-1"), glob(value)) for name, value in match.header.items()),
            wanted_model=glob(match.model) if match.model else None,
        )

    def prepare(self) -> None:
        """Everything else about it is known: make what follows from it."""
        if self.predicts:
            self.for_predictions = attrs.evolve(self, policy=unheard_policy(self.policy))
        if self.records:
            policy = run_policy(self.policy, resumes=self.resumes)
            if self.resumes:  # an event that can be kept is kept whole
                policy = attrs.evolve(policy, hold_bytes=max(policy.hold_bytes, self.config.resume.max_bytes))
            self.for_readers = attrs.evolve(self, policy=reader_policy(self.policy, policy))
            self.for_runs = attrs.evolve(self, policy=policy)  # after those: who comes back to a run is one of them

    def dialect(self, path: str) -> Dialect:
        """The one that a request for this decoded path speaks."""
        chosen = choose(self.config.dialect, path)
        spoken = self._spoken.get(chosen)
        if spoken is None:
            spoken = self._spoken[chosen] = self.style.vary(chosen)
        return spoken

    def meets(self, head: RequestHead, host: str, path: str) -> bool:
        """Does the head fit? (A model can only be compared once the body is there.)"""
        if not self._path.fullmatch(path):
            return False
        if self._host is not None and not self._host.fullmatch(host):
            return False
        if self._method is not None and not self._method.fullmatch(head.method.decode("latin-1")):
            return False
        return all(
            any(pattern.fullmatch(value.decode("latin-1")) for value in get_all(head.headers, name)) for name, pattern in self._headers
        )


class RouteTable:
    """The routes in their order."""

    def __init__(self, routes: Sequence[BoundRoute]) -> None:
        self.routes = tuple(routes)
        self.predictions = tuple(route for route in routes if route.predicts)
        self.by_model = any(route.wanted_model is not None for route in routes)
        self.by_request_id = any("x-request-id" in map(str.lower, route.config.match.header) for route in routes)

    def find(self, head: RequestHead, model: str | None = None, *, any_model: bool = False) -> BoundRoute | None:
        """The first route met. *any_model*: before the body is read, routes that ask for a model are taken to fit."""
        name = _hostname(head.host)
        for route in self.routes:
            if route.wanted_model is not None and not any_model and (model is None or not route.wanted_model.fullmatch(model)):
                continue
            if route.meets(head, name, head.decoded_path):
                return route
        if self.predictions and head.decoded_path == "/":  # what nobody else wants tells of them
            return next((route for route in self.predictions if route.meets(head, name, "/predictions")), None)
        return None


def _hostname(authority: bytes) -> str:
    """Without the port, lower case."""
    text = authority.decode("latin-1").lower()
    return text[: text.index("]") + 1] if text.startswith("[") and "]" in text else text.partition(":")[0]
