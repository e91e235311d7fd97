"""The command line's part of the configuration, alone or on top of a file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Final

import attrs

from txsse.config.check import check, fill
from txsse.config.errors import ConfigError, Problem, Refused
from txsse.config.load import read_file
from txsse.config.model import Configuration, Hold, Keepalive, Probe, Route, Server, Upstream
from txsse.config.reading import read

DEFAULT_NAME: Final = "default"
DEMO_URL: Final = "http://127.0.0.1:8788"

# What each option stands for in the model, whose reader and default it has.
STANDS_FOR: Final[dict[str, tuple[type[attrs.AttrsInstance], str]]] = {
    "--listen": (Server, "listen"),
    "--admin": (Server, "admin"),
    "--workers": (Server, "workers"),
    "--upstream": (Upstream, "url"),
    "--preset": (Probe, "preset"),
    "--message": (Hold, "message"),
    "--interval": (Keepalive, "interval"),
}
_OF_SERVER: Final = {"server.listen": "--listen", "server.admin": "--admin", "server.workers": "--workers"}
_IN_THE_FILE: Final = {
    "--upstream": "an [[upstream]]",
    "--preset": "preset in [upstream.probe]",
    "--message": "message in [route.hold]",
    "--interval": "interval in [route.keepalive]",
}


@attrs.frozen
class _Given:
    """The options that were given, as typed, and what is wrong with them."""

    values: dict[str, object]
    problems: list[Problem] = attrs.field(factory=list)

    def refuse(self, name: str, reason: str) -> None:
        self.problems.append(Problem(name, reason))

    def read(self, *names: str) -> dict[str, Any]:
        """The model's values of those *names* that were given, by their keys; problems are noted."""
        found: dict[str, Any] = {}
        for name in names:
            if name in self.values:
                cls, key = STANDS_FOR[name]
                try:
                    found[key] = read(attrs.fields_dict(cls)[key], self.values[name])
                except Refused as refused:
                    self.refuse(name, refused.reason)
        return found


def from_options(
    config: str | os.PathLike[str] | None = None,
    *,
    upstream: str | None = None,
    preset: str | None = None,
    message: str | None = None,
    interval: str | float | None = None,
    listen: Sequence[str] = (),
    admin: str | None = None,
    workers: str | int | None = None,
    demo: bool = False,
    demo_url: str = DEMO_URL,
) -> Configuration:
    """The checked configuration of a command line; ``None`` (no *listen*) means an option was not given.

    Values are as typed. ``--listen``, ``--admin`` and ``--workers`` win over the file; the options of one upstream need a file without any.

    :param demo_url: where the demo backend will listen; with *demo* it takes the place of ``--upstream``.
    :raises ConfigError: naming the option, or the key of the file.
    """
    number = int(workers) if isinstance(workers, str) and re.match(r"[0-9]{1,9}\Z", workers) else workers
    typed: dict[str, object] = {
        "--listen": tuple(listen) or None,
        "--admin": admin,
        "--workers": number,
        "--upstream": upstream,
        "--preset": preset,
        "--message": message,
        "--interval": interval,
    }
    given = _Given({name: value for name, value in typed.items() if value is not None})
    try:
        base = Configuration() if config is None else read_file(config)
    except ConfigError as error:
        given.read(*given.values)
        raise ConfigError([*error.problems, *map(str, given.problems)]) from None
    base = attrs.evolve(base, server=attrs.evolve(base.server, **given.read("--listen", "--admin", "--workers")))
    if base.upstream:
        _refuse_one_upstream(given, demo)
    else:
        base = _with_one_upstream(base, given, demo_url if demo else None)
    if given.problems:
        raise ConfigError(map(str, given.problems))
    completed = fill(base)
    problems = [_blamed(each, given) for each in check(completed)]
    if problems:
        raise ConfigError(map(str, problems))
    return completed


def _blamed(problem: Problem, given: _Given) -> Problem:
    """*problem* as that of the option its value came from, if it came from one."""
    name = _OF_SERVER.get(problem.where)
    return attrs.evolve(problem, where=name) if name is not None and name in given.values else problem


def _refuse_one_upstream(given: _Given, demo: bool) -> None:
    for name, key in _IN_THE_FILE.items():
        if name in given.values:
            given.refuse(name, f"not together with a --config file that has upstreams; remove it, and write {key} of the file")
    if demo:
        given.refuse("--demo", "not together with a --config file that has upstreams; remove one of the two")


def _with_one_upstream(base: Configuration, given: _Given, demo_url: str | None) -> Configuration:
    """*base* with one upstream, and a route if the file has none, both named ``default``."""
    found = given.read("--upstream")
    if demo_url is not None:
        if "--upstream" in given.values:
            given.refuse("--demo", "not together with --upstream; remove one of the two")
        found = {"url": demo_url}
    elif not given.values.get("--upstream"):
        given.refuse("--upstream", "there is none; give --upstream URL, or --config FILE with an [[upstream]], or --demo")
    upstream = Upstream(name=DEFAULT_NAME, probe=Probe(**given.read("--preset")), **found)
    hold, keepalive = Hold(**given.read("--message")), Keepalive(**given.read("--interval"))
    for name in ("--message", "--interval"):
        if base.route and name in given.values:
            given.refuse(name, f"not together with a --config file that has routes; remove it, and write {_IN_THE_FILE[name]} of the file")
    routes = base.route or (Route(name=DEFAULT_NAME, upstream=DEFAULT_NAME, hold=hold, keepalive=keepalive),)
    return attrs.evolve(base, upstream=(upstream,), route=routes)
