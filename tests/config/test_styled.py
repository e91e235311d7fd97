"""A style is other defaults: what the route sets wins, and a style there is not is somebody else's to refuse."""

from __future__ import annotations

import pytest

from txsse.config import loads
from txsse.config.errors import ConfigError
from txsse.config.model import Hold, Keepalive, Route

UPSTREAM = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:1"\n'


def route(text: str) -> Route:
    (found,) = loads(UPSTREAM + "[[route]]\n" + text).route
    return found


def test_a_style_sets_what_the_route_does_not() -> None:
    keda = route('[route.hold]\nstyle = "keda"\nmessage = "Wait."\n[route.keepalive]\ninterval = "2s"')
    assert (keda.hold.timeout_status, keda.hold.commit_after, keda.hold.channel) == (504, 0, "content")
    assert (keda.hold.message, keda.keepalive.interval, keda.keepalive.form) == ("Wait.", 2, "event")
    assert keda.stream.error_end == "done"


def test_the_default_style_changes_nothing() -> None:
    plain = route('[route.hold]\nstyle = "default"')
    assert (plain.hold, plain.keepalive) == (Hold(), Keepalive())


def test_a_style_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"route\.hold\.style.*kedaa.*keda"):
        route('[route.hold]\nstyle = "kedaa"')


def test_a_table_that_is_none_is_refused_as_ever() -> None:
    with pytest.raises(ConfigError, match=r"route\.keepalive"):
        route('keepalive = 3\n[route.hold]\nstyle = "keda"')
