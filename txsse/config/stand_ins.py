"""What cannot be right about the answers that a route gives in place of its upstream: ``static`` and ``hold.placeholder``."""

from __future__ import annotations

from collections.abc import Iterator

from txsse.config.errors import shown
from txsse.config.model import Placeholder, Route, Static

_BODILESS = (204, 304)


def gives_static(static: Static) -> bool:
    """Whether there is a static answer at all."""
    return bool(static.status or static.body or static.file)


def gives_placeholder(placeholder: Placeholder) -> bool:
    """Whether there is a placeholder for everybody, besides the page for browsers."""
    return bool(placeholder.status or placeholder.body or placeholder.file or placeholder.files)


def stand_in_problems(route: Route) -> Iterator[tuple[str, str]]:
    """The key below ``route``, and what is wrong there."""
    static, placeholder = route.static, route.hold.placeholder
    for key, answer in (("static", static), ("hold.placeholder", placeholder)):
        yield from _answer_problems(key, answer)
    if not gives_static(static) and (static != Static()):
        yield "static", 'there is no answer; write status, body or file, as in { status = 200, body = "ok" }'
    if placeholder.page_file and placeholder.page == "never":
        yield "hold.placeholder.page_file", "the page is never shown; remove it, or write page = 'always'"
    if route.hold.overflow == "placeholder" and not gives_placeholder(placeholder):
        yield (
            "hold.overflow",
            "'placeholder', and there is none; write placeholder = { status = 503, file = \"..\" }. "
            "(The waiting page is no placeholder: it is for upstreams that are not ready, not for those that are busy.)",
        )


def _answer_problems(key: str, answer: Static | Placeholder) -> Iterator[tuple[str, str]]:
    if answer.body and answer.file:
        yield f"{key}.file", "not together with body; remove one of the two"
    if (answer.body or answer.file) and answer.status in _BODILESS:
        yield f"{key}.status", f"{answer.status} has no body; remove {'body' if answer.body else 'file'}, or write another status"
    if answer.content_type and not (answer.body or answer.file):
        yield f"{key}.content_type", f"{shown(answer.content_type)} is that of nothing; write body or file, or remove it"
