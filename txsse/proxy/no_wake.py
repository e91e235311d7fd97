"""Requests for which nobody is woken: probes, scrapers, a browser's icons."""

from __future__ import annotations

import re

import attrs

from txsse.config import model
from txsse.errors import ProxyError
from txsse.proxy.globs import glob, path_glob
from txsse.wire.headers import get
from txsse.wire.http1 import RequestHead


@attrs.frozen
class NoWake:
    """A route's ``no_wake``.

    :param names: of the last segment of a path: a pattern without a slash is one for them.
    """

    paths: tuple[re.Pattern[str], ...]
    names: tuple[re.Pattern[str], ...]
    user_agents: tuple[re.Pattern[str], ...]

    @classmethod
    def compile(cls, config: model.NoWake) -> NoWake | None:
        """``None`` if nothing is named."""
        if config == model.NoWake():
            return None
        return cls(
            paths=tuple(path_glob(each) for each in config.paths if "/" in each or "**" in each),
            names=tuple(glob(each) for each in config.paths if not ("/" in each or "**" in each)),
            user_agents=tuple(map(glob, config.user_agents)),
        )

    def meets(self, head: RequestHead) -> bool:
        """Is a request with *head* one of them?"""
        path = head.decoded_path
        if _any(self.paths, path) or (self.names and _any(self.names, path.rpartition("/")[2])):
            return True
        if not self.user_agents:
            return False
        agent = get(head.headers, b"user-agent")
        return agent is not None and _any(self.user_agents, agent.decode("latin-1"))


def _any(patterns: tuple[re.Pattern[str], ...], text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in patterns)


def not_woken(upstream: str, state: str) -> ProxyError:
    """What such a request is told while *upstream* is not ready."""
    text = f"The upstream {upstream} is not ready (it is {state}), and this request does not wake it. Try again later."
    return ProxyError("readiness_timeout", text)
