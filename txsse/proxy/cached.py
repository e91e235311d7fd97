"""Requests of routes that cache: looked up first, then answered from where it was found, or by a run that others may join."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypedDict, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

from txsse.dialects import Dialect
from txsse.interfaces import Downstream, Exchange, Request
from txsse.proxy.admission import NOBODY, Admission, Members
from txsse.proxy.caching import Caching, Found
from txsse.proxy.conductor import Conductor, Owner
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.reader import Reader, cache_notes
from txsse.proxy.routes import BoundRoute
from txsse.proxy.run import Run
from txsse.recordings.entry import Entry
from txsse.recordings.recording import Space
from txsse.wire.headers import Headers

T = TypeVar("T")


class Traits(TypedDict):
    """What a conductor is told of its request, besides the request itself."""

    streaming: bool
    commits: bool
    pads: bool
    interval: float
    members: Members
    show_text: bool
    request_id: bytes


@attrs.frozen(eq=False, kw_only=True)
class Asked:
    """A request that is to be looked up (``Asking``), and what is needed to answer it.

    :param credentials: the fields of its head as they came.
    """

    request: Request
    downstream: Downstream
    route: BoundRoute
    dialect: Dialect
    traits: Traits
    credentials: Headers
    query_key: bytes
    opaque: bool

    @property
    def streaming(self) -> bool:
        return self.traits["streaming"]


class CachedRequests:
    """Of one proxy.

    :param conduct: lets a conductor live.
    :param refuse: answers with an error.
    """

    def __init__(
        self,
        owner: Owner,
        caching: Caching,
        space: Space,
        cooperator: Cooperator,
        conduct: Callable[[Conductor], Exchange],
        refuse: Callable[[Asked, Found], None],
        admissions: set[Admission[Any]],
        admission_over: Callable[[Admission[Any], bool], None],
    ) -> None:
        self._owner = owner
        self._caching = caching
        self._space = space
        self._cooperator = cooperator
        self._conduct = conduct
        self._refuse = refuse
        self._admissions = admissions
        self._admission_over = admission_over

    def open(self, asked: Asked) -> Exchange:
        steps = self._caching.look_up(asked)
        try:
            pause = next(steps)
        except StopIteration as end:
            return self._answer(asked, end.value)
        whole = _from(pause, steps)
        admission = Admission(asked.request, asked.downstream, whole, partial(self._answer, asked), self._admission_over)
        self._admissions.add(admission)
        admission.go(self._cooperator)
        return admission

    def _answer(self, asked: Asked, found: Found) -> Exchange:
        if found.error is not None:
            self._refuse(asked, found)
            return NOBODY
        source = found.source
        if source is None and found.question is not None and not self._stands_in(asked):
            source = self._run(asked, found)
        if source is None:
            conductor: Conductor = Forwarder(self._owner, asked.route, asked.request, asked.downstream, asked.dialect, **asked.traits)
        else:
            assert asked.route.for_readers is not None
            conductor = Reader(self._owner, asked.route.for_readers, asked.request, asked.downstream, asked.dialect, **asked.traits)
            conductor.source, conductor.asked = source, found.source is None
        conductor.cache = found.result
        entry = getattr(source, "entry", None)
        age = self._caching.age(entry) if isinstance(entry, Entry) else None
        conductor.notes = cache_notes(found.result, found.reason, age)
        return self._conduct(conductor)

    def _stands_in(self, asked: Asked) -> bool:
        """Something else is sent in place of a wait: nobody is to follow that."""
        stand_ins, route = asked.route.stand_ins, asked.route
        return stand_ins is not None and not route.backend.ready and stand_ins.instead(asked.request, streaming=asked.streaming) is not None

    def _run(self, asked: Asked, found: Found) -> Run:
        assert found.question is not None
        traits = asked.traits
        run = Run(
            self._owner,
            self._caching,
            asked.route,
            asked.request,
            asked.dialect,
            streaming=traits["streaming"],
            members=traits["members"],
            request_id=traits["request_id"],
            limit=asked.route.config.cache.max_entry,
            space=self._space,
        )
        self._caching.began(run, found.question)
        run.begin()
        return run


def _from(first: Any, rest: Generator[Deferred[Any] | None, None, T]) -> Generator[Deferred[Any] | None, None, T]:
    yield first
    return (yield from rest)
