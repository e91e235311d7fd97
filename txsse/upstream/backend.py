"""One named upstream at work: its gate, its connections, and what is in flight there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed

from txsse.clock import Alarms
from txsse.config import model
from txsse.config.urls import PORT, with_port
from txsse.upstream.endpoints import Target
from txsse.upstream.gate import Gate
from txsse.upstream.lookout import Verdict
from txsse.upstream.pool import ConnectionPool
from txsse.upstream.probe import Probe
from txsse.upstream.room import Refusal
from txsse.upstream.servers import Server, Servers
from txsse.upstream.state import State

if TYPE_CHECKING:
    from txsse.upstream.wake.child import Program
    from txsse.upstream.wake.parts import Ended
    from txsse.upstream.wake.shared import Shared
    from txsse.upstream.wake.starter import Starter

NO_PORT_YET: Final = 1
"""In the place of a port that is chosen when the upstream is started: nobody listens there (tcpmux)."""


def targets_of(config: model.Upstream) -> list[Target]:
    """Where *config* points to, one for each URL. Reads the PEM files it names.

    :raises Refused: they hold something else.
    """
    tls = config.tls
    return [
        Target.parse(with_port(url, NO_PORT_YET), ca_file=tls.ca_file, cert=tls.cert, key=tls.key, server_name=tls.server_name)
        for url in config.all_urls
    ]


def pems_of(config: model.Upstream) -> tuple[bytes, ...]:
    """What the PEM files that *config* names hold now; nothing for one that cannot be read (why, :func:`targets_of` tells)."""
    return tuple(_content(name) for name in (config.tls.ca_file, config.tls.cert, config.tls.key) if name)


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError:
        return b""


class Backend:
    """What the configuration calls an upstream, at run time.

    A dispatch is made of ``servers.pick()``, which tells the authority for its head, and that server's ``pool.dispatch()``.

    :param on_change: called with the name, the old state, the new one and a short reason.
    :param shared: what all that are started have in common; asked for only if this one is.
    """

    def __init__(
        self,
        config: model.Upstream,
        reactor: Any,
        alarms: Alarms,
        on_change: Callable[[str, State, State, str], None],
        shared: Callable[[], Shared],
    ) -> None:
        self.name = config.name
        self.config = config
        self._pems = pems_of(config)
        self.set_headers = [(name.encode("latin-1"), value.reveal().encode("latin-1")) for name, value in config.set_headers.items()]
        self._probes: list[Probe] = []
        self.servers = Servers(config.name, [self._server(reactor, alarms, each) for each in targets_of(config)], reactor, config.probe)
        self.gate = Gate(
            reactor,
            self.servers.ask,
            config.probe,
            self.servers.near,
            on_change=lambda old, new, detail: on_change(config.name, old, new, detail),
            slots=config.max_concurrency,
            state=State.DOWN if config.wake.exec else State.UNKNOWN,
        )
        self.program: Program | None = None  # that the proxy runs
        if config.wake.does_something:
            self._shared = shared()
            self.gate.starter = self._shared.starter(reactor, config, self.gate.standing, self, self._program_of(reactor))

    def _server(self, reactor: Any, alarms: Alarms, target: Target) -> Server:
        config = self.config
        pool = ConnectionPool(
            reactor,
            alarms,
            target,
            max_idle=config.pool.max_idle,
            idle_timeout=config.pool.idle_timeout,
            connect_timeout=config.timeouts.connect,
        )
        probe = Probe(reactor, target, config.probe, self.set_headers)
        self._probes.append(probe)
        return Server(target, pool, probe)

    def _program_of(self, reactor: Any) -> Program | None:
        if self.config.wake.exec:
            from txsse.upstream.wake.child import Program  # a proxy that runs nothing is spared it

            self.program = Program(reactor, self.name, self.config.wake.exec, self._move)
        return self.program

    def _move(self, port: int) -> None:
        """The process to come listens on *port*."""
        for server, probe in zip(self.servers, self._probes, strict=True):
            target = server.target.at_port(port)
            server.move(target)
            probe.move(target)

    def serves(self, config: model.Upstream) -> bool:
        """Is this what *config* asks for? Not if a certificate was renewed in the file that it named before."""
        return self.config == config and self._pems == pems_of(config)

    @property
    def state(self) -> str:
        return self.gate.state.value

    def url_of(self, server: Server) -> str:
        """Where it is; as it is configured, until its port is chosen."""
        address = server.target.address
        return self.config.url if address.port == NO_PORT_YET and PORT in self.config.url else address.url

    def state_of(self, server: Server) -> str:
        """What is known of *server*; a sole one is as the whole upstream is."""
        return self.state if len(self.servers) == 1 else server.state.value

    @property
    def waiting(self) -> int:
        return self.gate.waiting

    @property
    def ready(self) -> bool:
        return self.gate.ready

    @property
    def in_flight(self) -> int:
        return sum(server.in_flight for server in self.servers)

    def mark_down(self, server: Server, detail: str) -> None:
        """A dispatch to *server* was refused: not one byte of it was sent. The gate closes unless another one is up."""
        if not self.servers.leave_out(server, Verdict(False, detail=detail)):
            self.gate.mark_down(detail)

    def mark_loading(self, server: Server, detail: str) -> None:
        """A request dispatched to *server* was given a loading answer; the same."""
        if not self.servers.leave_out(server, Verdict(False, loading=True, detail=detail)):
            self.gate.mark_loading(detail)

    @property
    def starter(self) -> Starter | None:
        return self.gate.starter

    # -- called by the starter (Owner)

    def look(self) -> None:
        self.gate.look()

    def wake_ended(self, ended: Ended) -> None:
        self._shared.ended(self.name, ended)
        starter = self.starter
        if starter is not None and not self.ready:
            self.gate.turn_away(starter.refusal or Refusal("wake_failed", ended.detail))

    # -- the end

    def retire(self) -> None:
        """A new configuration does without it: what is in flight or held goes on, nothing is kept for later."""
        self.servers.retire()
        if self.starter is not None:
            self.starter.retire()

    @property
    def over(self) -> bool:
        """Nothing of it runs, and nobody is left who might have it started."""
        return self.starter is None or (self.starter.at_rest and not self.waiting)

    def stop(self) -> Deferred[None]:
        """End what runs of it, whoever is served; fires when nothing is left. It is not started again."""
        return succeed(None) if self.starter is None else self.starter.close()

    def close(self) -> None:
        """Close every connection."""
        self.servers.close()
