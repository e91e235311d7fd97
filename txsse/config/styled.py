"""What ``hold.style`` means for the other options of its route: another product's defaults, wherever the route does not set its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from txsse.dialects.styles import STYLES


def with_style(route: Mapping[str, Any]) -> Mapping[str, Any]:
    """A route's table with the options filled in that its style has another default for.

    Tables that are none, and styles that there are not, are left as they are: somebody else says so.
    """
    hold = route.get("hold")
    name = hold.get("style") if isinstance(hold, dict) else None
    style = STYLES.get(name) if isinstance(name, str) else None
    if style is None:
        return route
    filled = dict(route)
    for table, defaults in style.defaults.items():
        told = route.get(table, {})
        filled[table] = {**defaults, **told} if isinstance(told, dict) else told
    return filled
