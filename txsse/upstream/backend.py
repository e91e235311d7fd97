"""One named upstream at work: its gate, its connections, and what is in flight there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from txsse.clock import Alarms
from txsse.config import model
from txsse.interfaces import Dispatch, Receiver
from txsse.upstream.endpoints import Target
from txsse.upstream.gate import Gate
from txsse.upstream.pool import ConnectionPool
from txsse.upstream.probe import Probe
from txsse.upstream.state import State


def target_of(config: model.Upstream) -> Target:
    """Where *config* points to. Reads the PEM files it names.

    :raises Refused: they hold something else.
    """
    tls = config.tls
    return Target.parse(config.url, ca_file=tls.ca_file, cert=tls.cert, key=tls.key, server_name=tls.server_name)


def pems_of(config: model.Upstream) -> tuple[bytes, ...]:
    """What the PEM files that *config* names hold now; nothing for one that cannot be read (why, :func:`target_of` tells)."""
    return tuple(_content(name) for name in (config.tls.ca_file, config.tls.cert, config.tls.key) if name)


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError:
        return b""


class Backend:
    """What the configuration calls an upstream, at run time.

    :param on_change: called with the name, the old state, the new one and a short reason.
    """

    def __init__(
        self,
        config: model.Upstream,
        reactor: Any,
        alarms: Alarms,
        on_change: Callable[[str, State, State, str], None],
    ) -> None:
        self.name = config.name
        self.config = config
        self._pems = pems_of(config)
        self.target = target_of(config)
        self.set_headers = [(name.encode("latin-1"), value.reveal().encode("latin-1")) for name, value in config.set_headers.items()]
        self.in_flight = 0
        self.pool = ConnectionPool(
            reactor,
            alarms,
            self.target,
            max_idle=config.pool.max_idle,
            idle_timeout=config.pool.idle_timeout,
            connect_timeout=config.timeouts.connect,
        )
        self._probe = Probe(reactor, self.target, config.probe, self.set_headers)
        self.gate = Gate(
            reactor,
            self._probe,
            config.probe,
            self.target.loopback,
            on_change=lambda old, new, detail: on_change(config.name, old, new, detail),
            slots=config.max_concurrency,
        )

    def serves(self, config: model.Upstream) -> bool:
        """Is this what *config* asks for? Not if a certificate was renewed in the file that it named before."""
        return self.config == config and self._pems == pems_of(config)

    @property
    def state(self) -> str:
        return self.gate.state.value

    @property
    def waiting(self) -> int:
        return self.gate.waiting

    @property
    def ready(self) -> bool:
        return self.gate.ready

    def dispatch(self, head: bytes, body: bytes, method: bytes, receiver: Receiver, *, fresh: bool) -> Dispatch:
        """Send a request; what becomes of it the receiver hears. The caller counts it in :attr:`in_flight`."""
        return self.pool.dispatch(head, body, method, receiver, fresh=fresh)

    def retire(self) -> None:
        """A new configuration does without it: what is in flight or held goes on, nothing is kept for later."""
        self.pool.retire()

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()
