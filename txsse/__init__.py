"""txsse keeps a streaming client alive while the backend behind it is silent.

The public names are imported when they are used: ``import txsse`` alone is cheap and installs no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from txsse.config import ConfigError, Configuration, Route, Upstream, load
    from txsse.front.resource import ProxyResource
    from txsse.front.site import ProxySite
    from txsse.service import ProxyService

__all__ = ["ConfigError", "Configuration", "ProxyResource", "ProxyService", "ProxySite", "Route", "Upstream", "__version__", "load"]

_HOMES = {
    "ConfigError": "txsse.config",
    "Configuration": "txsse.config",
    "ProxyResource": "txsse.front.resource",
    "ProxyService": "txsse.service",
    "ProxySite": "txsse.front.site",
    "Route": "txsse.config",
    "Upstream": "txsse.config",
    "load": "txsse.config",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
