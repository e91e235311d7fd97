"""txsse keeps a streaming client alive while the backend behind it is silent.

The public names are imported when they are used: ``import txsse`` alone is cheap and installs no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from txsse.client import EventSource
    from txsse.config import ConfigError, Configuration, Route, Upstream, load
    from txsse.front.resource import ProxyResource
    from txsse.front.site import ProxySite
    from txsse.service import ProxyService
    from txsse.web.events import ServerSentEvent
    from txsse.web.stream import EventStream
    from txsse.web.streaming import streaming

__all__ = [
    "ConfigError",
    "Configuration",
    "EventSource",
    "EventStream",
    "ProxyResource",
    "ProxyService",
    "ProxySite",
    "Route",
    "ServerSentEvent",
    "Upstream",
    "__version__",
    "load",
    "streaming",
]

_HOMES = {
    "ConfigError": "txsse.config",
    "Configuration": "txsse.config",
    "EventSource": "txsse.client",
    "EventStream": "txsse.web.stream",
    "ProxyResource": "txsse.front.resource",
    "ProxyService": "txsse.service",
    "ProxySite": "txsse.front.site",
    "Route": "txsse.config",
    "ServerSentEvent": "txsse.web.events",
    "Upstream": "txsse.config",
    "load": "txsse.config",
    "streaming": "txsse.web.streaming",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
