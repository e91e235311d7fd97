"""The parts of the documentation that are made from the code: tables, references, diagrams. Every function returns reST, or SVG.

Nothing here needs Sphinx, so that the tests can ask whether everything there is, is documented.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import diagrams
from prometheus_client.parser import text_string_to_metric_families

from txsse.admin.exposition import Exposition
from txsse.cli.main import main
from txsse.config.reference import reference
from txsse.dialects import DIALECTS, Dialect, Speaker
from txsse.dialects.usage import Usage
from txsse.errors import CODES, ProxyError
from txsse.exchange import table
from txsse.exchange.events import Event, Timer
from txsse.metrics import BOUNDS, Histogram, Metrics
from txsse.recordings.view import Glimpse, StreamGlimpse
from txsse.tap import Options
from txsse.upstream import state as upstream

# Where each state stands in the diagrams: (column, row).
EXCHANGE_PLACES = {
    "NEW": (0.62, 0),
    "HELD": (0, 1),
    "SENT": (1.15, 2),
    "JUDGING": (0, 3),
    "TUNNELLED": (2.3, 3.5),
    "STREAMING": (1.15, 4),
    "PLAIN": (0, 5),
    "TRAILING": (1.15, 6),
    "FAILING": (1.15, 7),
    "ENDED": (1.15, 8.3),
}
READINESS_PLACES = {"unknown": (1.3, 0), "down": (0, 3.3), "loading": (2.6, 3.3), "ready": (1.3, 1.6)}
WAKE_PLACES = {
    "unknown": (0, 0),
    "loading": (2.6, 0),
    "waking": (1.2, 0.9),
    "ready": (2.6, 2),
    "down": (0, 2.7),
    "stopping": (1.35, 3.6),
    "failing": (0, 4.6),
}
HEARD_ANYWAY = {event for event in upstream.Event if event.value.startswith(("probe", "dispatch"))}


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in [titles, *rows]:
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
    return "\n".join(lines) + "\n"


def _sentence(text: str | None) -> str:
    """A docstring's first paragraph, on one line, without references to classes."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"``\1``", " ".join((text or "").partition("\n\n")[0].split()))


def _code(text: str) -> str:
    return f"``{text}``"


# -- the life of a request


def _event_name(key: Any) -> str:
    return key.name if isinstance(key, Timer) else str(key.__name__)


def exchange_diagram() -> str:
    """The life of a request, drawn from :data:`txsse.exchange.table.TABLE`."""
    edges: dict[tuple[str, str], list[str]] = {}
    for state, row in table.TABLE.items():
        for key, cell in row.items():
            for to in cell.to:
                if to is not state:
                    edges.setdefault((state.name, to.name), []).append(_event_name(key))
    rails = {
        "FAILING": "a failure that the client can still be told of",
        "ENDED": "complete, or nobody can be told any more",
    }
    return diagrams.svg(diagrams.Diagram("The life of a request", EXCHANGE_PLACES, edges, rails))


def exchange_table() -> str:
    """Every transition, state by state, with the reason its row gives."""
    parts = []
    for state, row in table.TABLE.items():
        title = f"{state.name}: {state.value}"
        parts.append(f"{title}\n{'^' * len(title)}\n")
        if not row:
            parts.append("Nothing happens any more.\n")
            continue
        cells = [
            (_event(key), cell.why[0].upper() + cell.why[1:] + ".", ", ".join("stays" if to is state else to.name for to in cell.to))
            for key, cell in row.items()
        ]
        parts.append(_table(("Event", "What happens, and why", "Next state"), cells, (24, 56, 20)))
    return "\n".join(parts)


def _event(key: Any) -> str:
    return f"timer {_code(key.name)}" if isinstance(key, Timer) else _code(key.__name__)


def exchange_events() -> str:
    """The events of the table, as their classes describe them."""
    events = [(_code(event.__name__), _sentence(event.__doc__)) for event in Event.__args__ if event.__name__ != "Elapsed"]
    timers = [(f"timer {_code(timer.name)}", f"The time of {_code(timer.option)} is over.") for timer in Timer]
    return _table(("Event", "Meaning"), [*events, *timers], (26, 74))


# -- readiness


def readiness_diagram() -> str:
    """What probes and dispatches tell of an upstream that nobody starts, drawn from :data:`txsse.upstream.state.TABLE`."""
    edges = _upstream_edges(lambda state, event: event in HEARD_ANYWAY and state.value in READINESS_PLACES)
    return diagrams.svg(diagrams.Diagram("What is known of an upstream", READINESS_PLACES, edges))


def wake_diagram() -> str:
    """What is added where the proxy starts it, and how a start ends well."""
    edges = _upstream_edges(lambda state, event: event not in HEARD_ANYWAY or state is upstream.State.WAKING)
    rails = {"stopping": "it is asked to stop", "failing": "its start has failed"}
    return diagrams.svg(diagrams.Diagram("How an upstream is started and stopped", WAKE_PLACES, edges, rails))


def _upstream_edges(shown: Callable[[upstream.State, upstream.Event], bool]) -> dict[tuple[str, str], list[str]]:
    edges: dict[tuple[str, str], list[str]] = {}
    for state, row in upstream.TABLE.items():
        for event, to in row.items():
            if to is not state and shown(state, event):
                edges.setdefault((state.value, to.value), []).append(event.value)
    return edges


def upstream_table() -> str:
    rows = [(_code(state.value), event.value, _code(to.value)) for state, row in upstream.TABLE.items() for event, to in row.items()]
    return _table(("State", "What is heard", "Next state"), rows, (25, 45, 30))


# -- references


def options() -> str:
    """Every table and key of the configuration file."""
    return reference()


def command_line() -> str:
    """The options of ``twistd sse-proxy``."""
    made = Options()
    takes_value = {name.rstrip("=") for name in made.longOpt if name.endswith("=")}
    rows = []
    for name, doc in sorted(made.docs.items()):
        text, _, default = " ".join(str(doc).split()).partition("  [")
        text, _, default = text.partition(" [") if not default else (text, "", default)
        option = _code(f"--{name}" + (f" {name.upper()}" if name in takes_value else ""))
        rows.append((option, text.rstrip(".") + ".", _code(default.rstrip("]")) if default else ""))
    return _table(("Option", "Meaning", "Default"), rows, (24, 50, 26))


def console_script() -> str:
    """What ``txsse COMMAND --help`` prints."""
    parts = []
    for command in ([], ["demo"], ["watch"], ["check"]):
        said = "\n".join(f"   {line}".rstrip() for line in _help([*command, "--help"]).splitlines())
        parts.append(f".. code-block:: text\n\n{said}\n")
    return "\n".join(parts)


def _help(arguments: list[str]) -> str:
    said = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main(arguments)
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return said.getvalue()


def errors() -> str:
    """The error codes with their status and types."""
    rows = [(_code(code.name), str(code.status), _code(code.openai_type), _code(code.anthropic_type)) for code in CODES.values()]
    return _table(("Code", "Status", "OpenAI type", "Anthropic type"), rows, (28, 10, 31, 31))


# -- dialects

_SPEAKER = Speaker("44b62229e655b7fe", 1795158168, "qwen3")
_CODEX = Speaker("44b62229e655b7fe", 1795158168, "qwen3", "codex_cli_rs")
_ERROR = ProxyError("readiness_timeout", "The upstream llama was not ready within 600 s (it is loading). Try again later.")
_STATUS = '{"state":"loading","elapsed":12.3}'


def _dialect(dialect: Dialect) -> str:
    """What the proxy says in *dialect*, byte for byte."""

    def message(channel: str) -> bytes:
        return dialect.message(_SPEAKER, "Model is waking up", channel, first=True)

    content = message("content")
    said = [
        ("Keepalive", dialect.sign_of_life("auto", lambda: _SPEAKER)),
        ("Keepalive while held", dialect.sign_of_life("auto", lambda: _SPEAKER, status=_STATUS)),
        ("Heartbeat", dialect.heartbeat(_SPEAKER, None)),
        ("Heartbeat for Codex", dialect.heartbeat(_CODEX, None) if not dialect.heartbeat(_SPEAKER, None) else b""),
        ("Message, as a thought", message("reasoning") if message("reasoning") != content else b""),
        ("Message, as text", content),
        ("Separator", dialect.before_answer(_SPEAKER, "\n\n---\n\n", "content")),
        ("Error", dialect.error_frame(_ERROR, _SPEAKER, None)),
        ('After an error, with ``error_end = "done"``', dialect.done),
    ]
    return "\n".join(f"{what}:\n\n.. code-block:: text\n\n{_marked(data)}\n" for what, data in said if data)


def _marked(data: bytes) -> str:
    text = "␠" if data == b" " else data.decode().replace("\n", "␊\n")
    return "".join(f"   {line}\n" for line in text.splitlines())


@contextlib.contextmanager
def _one_of_each() -> Iterator[Metrics]:
    class _Upstream:
        name, state, waiting = "llama", "ready", 0

    class _Cache:
        limit = used = count = flights = evicted = 1

        def entries(self, route: str | None) -> list[Glimpse]:
            return []

        def purge(self, route: str | None) -> int:
            return 0

        def delete(self, key: bytes) -> bool:
            return False

    class _Streams:
        kept = live = size = 1

        def glimpses(self) -> list[StreamGlimpse]:
            return []

        def end(self, sid: str) -> list[StreamGlimpse]:
            return []

    class _Shared:
        up, timeouts, owned, followed, losses, dropped, reaped = True, 1, 1, 1, {"fenced": 1}, 1, 1
        trouble, refusals = "", {"OOM": 1}

    metrics = Metrics(upstreams=lambda: [_Upstream()], cache_view=_Cache, streams_view=_Streams, shared_view=_Shared)
    metrics.requests["chat", 200, "ok"] += 1
    metrics.keepalives["hold"] += 1
    metrics.wakes["llama", "ready"] += 1
    metrics.cache["hit"] += 1
    metrics.resumes["resumed"] += 1
    metrics.cache_refusals["error"] += 1
    metrics.count_tokens("chat", "qwen", Usage(1, 1), cached=False)
    for counter in (metrics.in_flight, metrics.relayed_bytes, metrics.rejections, metrics.stream_errors, metrics.unterminated):
        counter["chat"] += 1
    for histograms in (metrics.hold_seconds, metrics.first_byte_seconds):
        histograms["chat"] = Histogram()
    yield metrics


def metrics() -> str:
    """The metrics, out of a scrape."""
    with _one_of_each() as counted:
        scraped = Exposition(counted).render().decode()
    rows = []
    for family in text_string_to_metric_families(scraped):
        if not family.name.startswith("txsse_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        rows.append((_code(name), family.type, ", ".join(map(_code, labels)), family.documentation))
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    return _table(("Metric", "Type", "Labels", "Meaning"), rows, (34, 12, 20, 34)) + f"\nHistograms have the bounds {bounds} seconds.\n"


PAGES = {
    page.__name__.replace("_", "-"): page
    for page in (exchange_table, exchange_events, upstream_table, options, command_line, console_script, errors, metrics)
}
PAGES |= {f"dialect-{name}": partial(_dialect, dialect) for name, dialect in DIALECTS.items()}
PICTURES = {page.__name__.replace("_", "-"): page for page in (exchange_diagram, readiness_diagram, wake_diagram)}
