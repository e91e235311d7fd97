"""Routes of kind ``predictions``: which of a route's options mean something else there, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from txsse.config.errors import shown
from txsse.config.model import NoWake, Route
from txsse.config.stand_ins import gives_placeholder, gives_static

KIND: Final = "predictions"

_PATH: Final = re.compile(r"/[\x21\x22\x24-\x7e]*\Z")


def with_kind(route: Mapping[str, Any]) -> Mapping[str, Any]:
    """A route's table with the option filled in that its kind has another default for: a client that leaves cancels, as in Cog."""
    resume = route.get("resume", {})
    if route.get("kind") != KIND or not isinstance(resume, dict):
        return route
    return {**route, "resume": {"on_disconnect": "cancel", **resume}}


def prediction_problems(route: Route) -> Iterator[tuple[str, str]]:
    """The key below ``route``, and what is wrong there."""
    if route.kind != KIND:
        return
    path = route.match.path
    if "*" in path or "?" in path:
        yield (
            "match.path",
            f"{shown(path)} is a pattern; with kind = 'predictions' it is the path that the upstream is asked at: write it as in "
            "'/v1/chat/completions'. (Clients ask at /predictions; host, method and header tell several such routes apart.)",
        )
    elif not _PATH.match(path):
        yield "match.path", f"{shown(path)} is not a URL path; write it as in '/v1/chat/completions', percent-encoded"
    if route.match.model:
        yield "match.model", "with kind = 'predictions' the model is a member of the input, which does not choose the route; remove it"
    if route.streaming == "never":
        yield "streaming", "'never', and predictions are streams; remove it"
    if gives_static(route.static):
        yield "static", "there are no static answers with kind = 'predictions'; remove it, or give it a route of its own before this one"
    if route.no_wake != NoWake():
        yield "no_wake", "each prediction wakes its upstream; remove it"
    if gives_placeholder(route.hold.placeholder):
        yield "hold.placeholder", "a prediction says 'starting' until its upstream is ready; remove it"
    if route.hold.message:
        yield "hold.message", "a prediction's output is the upstream's alone; remove it"
    if route.cache.mode != "off":
        yield "cache.mode", f"{shown(route.cache.mode)}: predictions are not cached; remove it. (They stay for resume.ttl anyway.)"
