"""The twistd plugin's inside: ``twistd [-n ..] sse-proxy [options]``."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python import usage

from txsse import __version__
from txsse._without_tls import hide_tls
from txsse.config import ConfigError, Configuration, from_options, render
from txsse.config.endpoints import needs_tls
from txsse.config.model import PRESETS
from txsse.config.reference import default_of


class Options(usage.Options):
    """The command line. A mistake in it ends the process with status 2 and says how to mend it."""

    synopsis = "[options]"
    longdesc = (
        "A reverse proxy that keeps a streaming client alive while the backend behind it is silent. "
        "Example: twistd -n sse-proxy --upstream http://127.0.0.1:8080"
    )
    optParameters = [
        ["config", None, None, "TOML configuration file"],
        ["admin", None, None, f"endpoint of status, probes and metrics, or none  [{default_of('server.admin')}]"],
        ["upstream", None, None, "URL of the one upstream: http://, https:// or unix:/path; required without --config or --demo"],
        ["preset", None, None, f"how its readiness is found out: {', '.join(PRESETS)}  [{default_of('upstream.probe.preset')}]"],
        ["message", None, None, "visible text while a request is held  [none: invisible keepalives]"],
        ["interval", None, None, f"keepalive interval in seconds  [{default_of('route.keepalive.interval')}]"],
        ["workers", None, None, f"processes sharing the listening sockets; this version: 1  [{default_of('server.workers')}]"],
    ]
    optFlags = [
        ["demo", None, "start the built-in demo backend (a fake model that takes 10 s to wake) behind the proxy"],
        ["check", None, "validate, print the configuration with all defaults filled in, and exit with 0 or 2"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []
        self.reread: Callable[[], Configuration] | None = None

    def opt_listen(self, endpoint: str) -> None:
        self.listen.append(endpoint)

    opt_listen.__doc__ = f"Twisted endpoint string to listen on, repeatable  [{default_of('server.listen')}]"

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"txsse {__version__}")
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        # twistd would print its whole help and exit with 1.
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            _refuse([self._explained(str(error))])

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}; every setting is an option, such as --upstream {args[0]}")

    def postOptions(self) -> None:
        try:
            self["configuration"] = self.configuration()
        except ConfigError as error:
            _refuse(error.problems)
        if problem := _log_problem(self.parent):
            _refuse([problem])
        # The one moment: it is known whether there is a use for TLS, and nothing has been imported that looks for it.
        if not _may_need_tls(self["configuration"], self.parent):
            hide_tls()
        _choose_reactor()
        from txsse.proxy.verify import problems

        if wrong := list(problems(self["configuration"])):
            _refuse(wrong)
        if self["check"]:
            print(render(self["configuration"]), end="")
            sys.exit(0)
        if self["config"]:
            self.reread = self.configuration

    def configuration(self) -> Configuration:
        """What file and command line say, read now."""
        extra: dict[str, Any] = {}
        if self["demo"]:
            extra["demo_url"] = self._demo_url()
        return from_options(
            self["config"],
            upstream=self["upstream"],
            preset=self["preset"],
            message=self["message"],
            interval=self["interval"],
            listen=self.listen,
            admin=self["admin"],
            workers=self["workers"],
            demo=bool(self["demo"]),
            **extra,
        )

    def _demo_url(self) -> str:
        if "demo_port" not in self:
            from txsse.testing import free_port

            self["demo_port"] = free_port()
        return f"http://127.0.0.1:{self['demo_port']}"

    def _explained(self, problem: str) -> str:
        """getopt's words, with the nearest option that exists."""
        words = problem.split()
        if len(words) >= 4 and words[0] == "option" and "not recognized" in problem:
            known = [f"--{name}" for name in [*self.longOpt] if name]
            near = difflib.get_close_matches(words[1], [name.rstrip("=") for name in known], n=1)
            return f"unknown option {words[1]}" + (f"; did you mean {near[0]}?" if near else "; see --help")
        return problem


def _log_problem(twistd: Mapping[str, Any] | None) -> str:
    """Twisted's log files are renamed at each megabyte, whatever they are: with access lines, root would soon be without a /dev/null."""
    name = twistd.get("logfile") if twistd is not None else None
    if not name or name == "-":
        return ""
    path = Path(name)
    if not path.exists() or path.is_file() or not os.access(path.absolute().parent, os.W_OK):
        return ""
    return f"--logfile: {name} is no regular file, and Twisted would rename it when it rotates its log; use a file, or -n and a redirection"


def _choose_reactor() -> None:
    """Run on the reactor that costs our streams least, unless ``--reactor`` has chosen, or there is one already."""
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        from txsse.sockets.reactor import install
    except ImportError:  # no epoll here: Twisted knows what there is instead
        return
    install()


def _may_need_tls(configuration: Configuration, twistd: Mapping[str, Any] | None) -> bool:
    if twistd is not None and twistd.get("logger"):  # somebody's own observer: there is no telling whom it talks to
        return True
    server = configuration.server
    endpoints = server.listen if server.admin == "none" else (*server.listen, server.admin)
    return any(map(needs_tls, endpoints)) or any(each.url.lower().startswith("https:") for each in configuration.upstream)


def _refuse(problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        print(f"sse-proxy: {problem}", file=sys.stderr)
    sys.exit(2)


class _Root(MultiService):
    """What twistd gets: chooses the form of the log, and ends the process if a listener cannot be opened."""

    def __init__(self, observer: Callable[[], ILogObserver] | None, daemon: bool) -> None:
        super().__init__()
        self._observer = observer
        self._daemon = daemon

    def setServiceParent(self, parent: Any) -> None:
        # The application, before twistd starts logging to it: the one moment to choose the form of the log.
        if self._observer is not None and parent.getComponent(ILogObserver, None) is None:
            parent.setComponent(ILogObserver, self._observer())
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        from txsse.service import ListenError

        try:
            super().privilegedStartService()
        except ListenError as error:
            if self._daemon:
                raise  # twistd tells the waiting parent of exceptions only: by itself it would wait for ever
            _refuse([str(error)])


def makeService(options: Options, reactor: Any = None) -> IService:
    """The service that twistd runs."""
    if reactor is None:
        from twisted.internet import reactor
    from txsse.logs import destination
    from txsse.service import ProxyService
    from txsse.signals import Signals

    configuration: Configuration = options["configuration"]
    twistd = getattr(options, "parent", None)
    root = _Root(_json_observer(configuration, twistd), daemon=twistd is not None and not twistd.get("nodaemon"))
    if options["demo"]:
        from txsse.demo import DemoService

        DemoService(reactor, port=options["demo_port"]).setServiceParent(root)
    try:
        service = ProxyService(configuration, reactor=reactor, access_log=destination(twistd), reread=options.reread)
    except ValueError as error:  # a file that the configuration names
        _refuse([str(error)])
    service.setServiceParent(root)

    reactor.callWhenRunning(Signals(service, reactor).install)
    reactor.callWhenRunning(settle)
    return root


def settle() -> None:
    """Take what the start has made out of the garbage collector's sight: it stays as long as the process, and a full collection, which
    stops every stream, need not walk it (at 5,000 open streams 26 ms instead of 56). Not the service's business: an embedder's collector
    is his own.

    The thresholds stay as they are. Exchanges leave no cycles and streams that only relay set nothing off; but over TLS a closed
    connection is a cycle, with OpenSSL's memory hanging on to it.
    """
    gc.collect()
    gc.freeze()


def _json_observer(configuration: Configuration, twistd: Any) -> Callable[[], ILogObserver] | None:
    if configuration.server.log_format != "json" or twistd is None or not twistd.get("nodaemon"):
        return None
    if twistd.get("logfile") or twistd.get("syslog"):
        return None
    from txsse.logs import json_observer

    return lambda: json_observer(sys.__stdout__ or sys.stdout)
