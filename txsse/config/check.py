"""What one option alone cannot tell: names that must exist, pairs that exclude each other, what follows when nothing is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from txsse.config.cache import cache_problems, store_problems
from txsse.config.endpoints import is_loopback
from txsse.config.errors import ConfigError, Problem, choices, shown
from txsse.config.model import LONGEST_NODE, Configuration, Route, Server, Upstream
from txsse.config.predictions import prediction_problems
from txsse.config.resume import resume_problems
from txsse.config.stand_ins import stand_in_problems
from txsse.config.wake import wake_problems
from txsse.config.webhooks import webhook_problems


def complete(configuration: Configuration) -> Configuration:
    """*configuration* with the routes and names filled in that follow from the rest.

    :raises ConfigError: it cannot work as it stands.
    """
    completed = fill(configuration)
    problems = list(check(completed))
    if problems:
        raise ConfigError(map(str, problems))
    return completed


def fill(configuration: Configuration) -> Configuration:
    """A sole upstream is every route's upstream, and has a catch-all route if there is none; routes get names."""
    routes = configuration.route
    if len(configuration.upstream) == 1:
        (sole,) = configuration.upstream
        routes = tuple(route if route.upstream else attrs.evolve(route, upstream=sole.name) for route in routes) or (
            Route(upstream=sole.name),
        )
    return attrs.evolve(configuration, route=tuple(_named(routes)))


def _named(routes: tuple[Route, ...]) -> Iterator[Route]:
    taken = {route.name for route in routes}
    for route in routes:
        if route.name or not route.upstream:
            yield route
            continue
        name, number = route.upstream, 1
        while name in taken:
            number += 1
            suffix = f"-{number}"
            name = route.upstream[: 64 - len(suffix)] + suffix
        taken.add(name)
        yield attrs.evolve(route, name=name)


def check(configuration: Configuration) -> Iterator[Problem]:
    """What is wrong with a filled configuration whose values are right one by one."""
    yield from _check_listeners(configuration)
    for key, reason in store_problems(configuration):
        yield Problem(f"store.{key}", reason)
    for key, reason in webhook_problems(configuration.webhooks):
        yield Problem(f"webhooks.{key}", reason)
    if not configuration.upstream:
        yield Problem("upstream", "there is none; write an [[upstream]] with name and url")
        return
    if not configuration.route:
        names = ", ".join(shown(each.name) for each in configuration.upstream)
        yield Problem("route", f"there is none, and several upstreams ({names}); write a [[route]] with upstream = .. for each")
    for index, upstream in enumerate(configuration.upstream, 1):
        for key, reason in (*_upstream_problems(upstream), *_fallback_problems(upstream, configuration.upstream)):
            yield Problem(f"upstream.{key} ({_which('upstream', index, upstream.name)})", reason)
    for index, route in enumerate(configuration.route, 1):
        of_recordings = (*cache_problems(route, configuration.store), *resume_problems(route, configuration.store))
        for key, reason in (*_route_problems(route, configuration.upstream), *of_recordings):
            yield Problem(f"route.{key} ({_which('route', index, route.name)})", reason)
    yield from _check_unique("upstream", [each.name for each in configuration.upstream])
    yield from _check_unique("route", [each.name for each in configuration.route])


def _check_listeners(configuration: Configuration) -> Iterator[Problem]:
    server = configuration.server
    if server.admin != "none" and not is_loopback(server.admin) and not server.admin_token:
        yield Problem(
            "server.admin",
            f"{shown(server.admin)} is not on loopback, so server.admin_token is required; "
            "set it, or listen on 'tcp:9180:interface=127.0.0.1', or switch it off with 'none'",
        )
    yield from _check_peers(server)
    seen: set[str] = set()
    for endpoint in server.listen:
        if endpoint in seen:
            yield Problem("server.listen", f"{shown(endpoint)} is there twice; remove one")
        seen.add(endpoint)
    if server.admin in seen:
        yield Problem("server.admin", f"{shown(server.admin)} is also in server.listen; give it a port of its own")


def _check_peers(server: Server) -> Iterator[Problem]:
    if server.peers and not server.node:
        names = ", ".join(map(shown, server.peers))
        yield Problem("server.node", f"it has none, and there are peers ({names}); give this proxy a name of its own among them")
    if len(server.node) > LONGEST_NODE:
        yield Problem("server.node", f"{shown(server.node)} is too long; at most {LONGEST_NODE} characters")


def _upstream_problems(upstream: Upstream) -> Iterator[tuple[str, str]]:
    if not upstream.name:
        yield "name", 'it has none; write name = ".."'
    if upstream.url and upstream.urls:
        yield "urls", "not together with url; remove one of the two"
    elif not upstream.url and not upstream.urls:
        yield "url", 'it has none; write url = "http://host:port"'
    seen: set[str] = set()
    for url in upstream.urls:
        place = url if url.startswith("unix:") else url.lower()  # host names have no case
        if place in seen:
            yield "urls", f"{shown(url)} is there twice; remove one"
        seen.add(place)
    if bool(upstream.tls.cert) != bool(upstream.tls.key):
        yield "tls", "cert and key go together; set both or none"
    yield from wake_problems(upstream)


def _fallback_problems(upstream: Upstream, upstreams: tuple[Upstream, ...]) -> Iterator[tuple[str, str]]:
    names = [each.name for each in upstreams if each is not upstream]
    if upstream.fallback and upstream.fallback == upstream.name:
        yield "fallback", f"{shown(upstream.fallback)} is this upstream itself; name another one"
    elif upstream.fallback and upstream.fallback not in names:
        others = choices(upstream.fallback, names) if names else "there is no other one"
        yield "fallback", f"{shown(upstream.fallback)} is not the name of an upstream; {others}"


def _route_problems(route: Route, upstreams: tuple[Upstream, ...]) -> Iterator[tuple[str, str]]:
    yield from stand_in_problems(route)
    yield from prediction_problems(route)
    by_name = {each.name: each for each in upstreams}
    upstream = by_name.get(route.upstream)
    if not route.upstream and all(by_name):
        yield "upstream", f'it has none; write upstream = "..". {choices(None, by_name)}'
    elif route.upstream and upstream is None:
        yield "upstream", f"{shown(route.upstream)} is not the name of an upstream; {choices(route.upstream, by_name)}"
    elif upstream is not None and upstream.fallback and route.hold.timeout == 0:
        yield (
            "hold.timeout",
            f"0 holds for ever, so the fallback {shown(upstream.fallback)} of upstream {shown(upstream.name)} is never used; "
            "set a duration above 0, or remove the fallback",
        )
    if upstream is not None and route.hold.overflow == "fallback" and not upstream.fallback:
        yield "hold.overflow", f"'fallback' needs one: set fallback = \"..\" in upstream {shown(upstream.name)}, or overflow = 'reject'"


def _check_unique(table: str, names: Iterable[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, name in enumerate(names, 1):
        if name and name in first:
            yield Problem(
                f"{table}.name ({table} {index})", f"{shown(name)} is already the name of {table} {first[name]}; names are unique"
            )
        first.setdefault(name, index)


def _which(table: str, index: int, name: str) -> str:
    return f"{table} {index}, {shown(name)}" if name else f"{table} {index}"
