"""What is written in ``[route.resume]``: whether it can be meant."""

from __future__ import annotations

from collections.abc import Iterator

from txsse.config.model import Resume, Route, Store
from txsse.config.units import write_size


def resume_problems(route: Route, store: Store) -> Iterator[tuple[str, str]]:
    """What is wrong with how *route* keeps its streams: the option, and why. Of a route that keeps none nothing is, and the
    default fits a smaller store, too: what is larger is kept in part."""
    resume = route.resume
    if resume.mode == "off" and route.kind != "predictions":
        return
    if resume.max_bytes > max(store.max_bytes, Resume().max_bytes):
        most, held = _bare(write_size(resume.max_bytes)), _bare(write_size(store.max_bytes))
        yield "resume.max_bytes", f"{most} is more than store.max_bytes, {held}, holds; lower it, or raise store.max_bytes"


def _bare(text: str) -> str:
    return text.strip('"')
