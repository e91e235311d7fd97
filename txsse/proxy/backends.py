"""The upstreams of a proxy, through its reloads: what a new configuration leaves as it is keeps its state and its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from txsse.clock import Alarms
from txsse.config import model
from txsse.upstream.backend import Backend
from txsse.upstream.state import State

if TYPE_CHECKING:
    from txsse.upstream.wake.parts import Ended
    from txsse.upstream.wake.shared import Shared


class Backends:
    """Of one proxy.

    :param state_dir: where they keep what survives restarts.
    :param count_wake: told of every start that has ended: the upstream's name, and how.
    :ivar current: those of the configuration, by name.
    """

    _log = Logger()

    def __init__(self, reactor: Any, alarms: Alarms, state_dir: str, count_wake: Callable[[str, str], None]) -> None:
        self.current: Mapping[str, Backend] = {}
        self._reactor = reactor
        self._alarms = alarms
        self._state_dir = state_dir
        self._count_wake = count_wake
        self._shared: Shared | None = None
        self._retired: list[Backend] = []  # of earlier configurations, as long as something of theirs runs

    def prepare(self, upstreams: Iterable[model.Upstream]) -> dict[str, Backend]:
        """Those that there are to be: the ones there are, as far as nothing about them changes. Then :meth:`take` or :meth:`drop` them.

        :raises ValueError: a file that one names cannot be used.
        """
        prepared: dict[str, Backend] = {}
        try:
            for upstream in upstreams:
                old = self.current.get(upstream.name)
                prepared[upstream.name] = old if old is not None and old.serves(upstream) else self._named(upstream)
        except ValueError:
            self.drop(prepared)
            raise
        return prepared

    def drop(self, prepared: Mapping[str, Backend]) -> None:
        """They are not to be after all."""
        for name, backend in prepared.items():
            if self.current.get(name) is not backend:
                backend.close()

    def take(self, prepared: Mapping[str, Backend]) -> None:
        """From now on it is these."""
        for name, backend in self.current.items():
            if prepared.get(name) is not backend:
                backend.retire()
                self._retired.append(backend)
        self._retired = [backend for backend in self._retired if not backend.over]
        self.current = prepared

    def make(self, upstream: model.Upstream) -> Backend:
        """One more, which is in nobody's configuration.

        :raises ValueError: a file that it names cannot be used.
        """
        return Backend(upstream, self._reactor, self._alarms, self._changed, self._make_shared)

    def stop(self) -> Deferred[None]:
        """End every process of ours, and every start; fires when nothing of them is left."""
        stopping = [backend.stop() for backend in (*self.current.values(), *self._retired)]
        return DeferredList(stopping).addCallback(lambda _: None)

    def close(self) -> None:
        """Close every connection."""
        for backend in self.current.values():
            backend.close()

    def _named(self, upstream: model.Upstream) -> Backend:
        try:
            return self.make(upstream)
        except ValueError as error:
            raise ValueError(f"upstream {upstream.name}: {error}") from error

    def _changed(self, name: str, old: State, new: State, detail: str) -> None:
        why = f" ({detail})" if detail else ""
        self._log.info("upstream {upstream}: {old} -> {new}{why}", upstream=name, old=old.value, new=new.value, why=why)

    def _make_shared(self) -> Shared:
        if self._shared is None:
            from txsse.upstream.wake.shared import Shared  # a proxy that starts nothing is spared it

            self._shared = Shared(self._state_dir, self._wake_ended)
        return self._shared

    def _wake_ended(self, name: str, ended: Ended) -> None:
        self._count_wake(name, ended.result.value)
