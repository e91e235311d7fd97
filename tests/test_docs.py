"""The documentation says everything there is to say: options, errors, metrics, and the commands it names exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from txsse.config.fields import option_of, tables_of
from txsse.config.model import Configuration
from txsse.config.reference import rows
from txsse.dialects.usage import Usage
from txsse.errors import CODES
from txsse.exchange.table import TABLE, State
from txsse.logs import AccessLog, Entry
from txsse.recordings import canonical, courses, heads
from txsse.tap import Options
from txsse.upstream.presets import PRESETS
from txsse.upstream.state import TABLE as READINESS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted(DOCS.glob("*.rst"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages() -> Iterator[Any]:
    """``docs/_ext/pages.py``, as Sphinx imports it."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        yield import_module("pages")
    finally:
        sys.path.remove(str(DOCS / "_ext"))
        for name in ("pages", "diagrams"):
            sys.modules.pop(name, None)


def source(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text(encoding="utf-8")


def test_every_generated_part_stands_on_a_page(pages: Any) -> None:
    used = re.findall(r"^\.\. generated:: (\S+)$", "\n".join(source(each.stem) for each in SOURCES), re.MULTILINE)
    assert sorted(used) == sorted([*pages.PAGES, *pages.PICTURES])


def test_every_option_is_in_the_reference(pages: Any) -> None:
    text = pages.options()
    for header, cls in tables_of(Configuration):
        if header:
            section = text.partition(f"``{header}``\n")[2].partition("\n``[")[0]
            assert [row.key for row in rows(cls) if f"* - ``{row.key}``\n" not in section] == [], header


def test_every_option_of_the_command_line_is_in_the_reference(pages: Any) -> None:
    text = pages.command_line()
    assert [name for name in Options().longOpt if f"``--{name.rstrip('=')}" not in text] == []
    assert "``15s``" in text


def test_the_reference_of_the_console_script_is_its_help(pages: Any) -> None:
    text = pages.console_script()
    assert all(f"usage: txsse {command}" in text for command in ("demo", "watch", "check", "[-h]"))


def test_every_error_code_is_in_the_table_and_explained(pages: Any) -> None:
    table, prose = pages.errors(), source("errors")
    assert [code for code in CODES if f"* - ``{code}``\n" not in table] == []
    explained = re.findall(r"^``.*``$", prose, re.MULTILINE)
    assert {code for line in explained for code in re.findall(r"``(\w+)``", line)} == set(CODES)


def test_every_metric_is_in_the_table_with_its_labels(pages: Any) -> None:
    from txsse.admin.exposition import Exposition
    from txsse.metrics import Metrics

    table = pages.metrics()
    scraped = re.findall(r"^# TYPE (txsse_\w+)", Exposition(Metrics()).render().decode(), re.MULTILINE)
    assert len(scraped) > 8
    for name in scraped:
        row = table.partition(f"* - ``{name}``\n")[2].partition("* -")[0]
        assert re.search(r"- ``\w+``", row), f"{name} has no row, or pages.py does not count one of it"


def test_every_key_of_the_access_log_is_explained() -> None:
    lines: list[str] = []
    log = AccessLog(lines.append, "text", Clock())
    nothing: dict[str, Any] = dict.fromkeys(("hold", "first_byte"))
    log.add(
        Entry(
            **nothing, time=0, peer="", method=b"GET", path=b"/", version=b"HTTP/1.1", status=200, route="", upstream="", code="",
            outcome="ok", bytes_in=0, bytes_out=0, total=0, keepalives=0, cold=False, streaming=False, request_id=b"1",
            cache="hit", usage=Usage(1, 1), model="m",
        )
    )  # fmt: skip
    log.stop()
    keys = re.findall(r"(\w+)=", lines[0])
    assert len(keys) > 15
    assert [key for key in keys if f"``{key}``" not in source("metrics")] == []


def _rows(page: str, section: str) -> set[str]:
    """The first cells of a section's tables."""
    text = re.split(r"\n[^\n]+\n-{4,}\n", source(page).partition(f"\n{section}\n---")[2])[0]
    return set(re.findall(r"\* - ``(\w+)``\n", text))


def test_every_reason_of_the_cache_is_explained() -> None:
    code = "".join((ROOT / "txsse" / "proxy" / name).read_text(encoding="utf-8") for name in ("caching.py", "question.py"))
    left_out = {word for words in re.findall(r'\bLeftOut\("(\w+)"\)|Found\("bypass", "(\w+)"', code) for word in words if word}
    assert {"no_store", "not_asked_for"} <= left_out
    assert _rows("caching", "What is looked up") == left_out | canonical.REASONS
    assert _rows("caching", "What is stored") == {*heads.REASONS, *courses.REASONS, "fallback", "not_streamed", "too_large"}


def test_every_preset_is_explained() -> None:
    assert [name for name in PRESETS if f"   * - ``{name}``\n" not in source("options")] == []


def test_every_transition_is_in_the_tables_and_every_state_in_the_picture(pages: Any) -> None:
    table, picture = pages.exchange_table(), pages.exchange_diagram()
    for state, row in TABLE.items():
        assert f"{state.name}: {state.value}\n" in table
        assert f">{state.name}</text>" in picture
        for cell in row.values():
            assert cell.why[1:] in table
    readiness, picture = pages.upstream_table(), pages.wake_diagram()
    for each, events in READINESS.items():
        assert f">{each.value}</text>" in picture
        assert (f">{each.value}</text>" in pages.readiness_diagram()) is (each.value in ("unknown", "down", "loading", "ready"))
        assert all(f"- {event.value}\n" in readiness for event in events)


def test_every_event_is_described(pages: Any) -> None:
    described = pages.exchange_events()
    keys = {key for row in TABLE.values() for key in row}
    assert [key for key in keys if f"``{getattr(key, '__name__', None) or key.name}``" not in described] == []


def test_a_picture_leaves_out_no_state(pages: Any) -> None:
    diagrams = import_module("diagrams")
    drawn = diagrams.svg(diagrams.Diagram("two", {"a": (0, 0), "b": (1, 0)}, {("a", "b"): ["go"], ("b", "a"): ["back"]}))
    assert drawn.count("<line") == 2 and ">back</text>" in drawn
    with pytest.raises(ValueError, match="no place for c"):
        diagrams.svg(diagrams.Diagram("three", {"a": (0, 0)}, {("a", "c"): ["go"]}))
    assert set(pages.EXCHANGE_PLACES) == {state.name for state in State}


def test_options_not_built_yet_are_not_used_in_configuration_examples() -> None:
    unbuilt = {field for _, cls in tables_of(Configuration) for field in (row.key for row in rows(cls) if not row.built)}
    built = {row.key for _, cls in tables_of(Configuration) for row in rows(cls) if row.built}
    for page in SOURCES:
        for block in re.findall(r"code-block:: toml\n\n((?:   .*\n|\n)+)", source(page.stem)):
            keys = set(re.findall(r"^ *(\w+) *=", block, re.MULTILINE))
            assert not keys & (unbuilt - built), page.name


def test_references_between_pages_resolve() -> None:
    labels = {label for page in SOURCES for label in re.findall(r"^\.\. _([\w-]+):$", source(page.stem), re.MULTILINE)}
    for page in SOURCES:
        text = source(page.stem)
        assert [name for name in re.findall(r":doc:`([\w-]+)`", text) if not (DOCS / f"{name}.rst").exists()] == [], page.name
        assert [name for name in re.findall(r":ref:`([\w-]+)`", text) if name not in labels] == [], page.name
        assert [name for name in re.findall(r"literalinclude:: (\S+)", text) if not (DOCS / name).resolve().exists()] == [], page.name


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^   ([\w-]+)$", source("index"), re.MULTILINE)
    assert sorted([*listed, "index"]) == [page.stem for page in SOURCES]


def test_every_make_target_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [README, *(source(page.stem) for page in SOURCES)]
    named = {name for text in texts for name in re.findall(r"(?:`|\$ |^)make ([a-z-]+)", text, re.MULTILINE)}
    assert {"demo", "test"} <= named <= set(targets)


def test_links_of_the_readme_to_files_of_the_tree_resolve() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_options_named_in_prose_exist() -> None:
    """``route.hold.commit_after``, with or without the part before the last table."""
    full = {f"{header.strip('[]')}.{row.key}" for header, cls in tables_of(Configuration) if header for row in rows(cls)}
    tables = {name.split(".")[-2] for name in full}
    full |= {header.strip("[]") for header, _ in tables_of(Configuration)}
    for page in SOURCES:
        for name in re.findall(r"``([a-z_]+(?:\.[a-z_]+)+)", source(page.stem)):
            if name.split(".")[-2] in tables and not name.endswith((".py", ".rst", ".md", ".toml", ".service")):
                assert any(option == name or option.endswith(f".{name}") for option in full), f"{page.name}: {name}"


def test_the_help_of_every_option_is_in_the_reference(pages: Any) -> None:
    text = re.sub(r"[`\\]", "", pages.options()).lower()
    for _, cls in tables_of(Configuration):
        for field in attrs.fields(cls):
            option = option_of(field)
            if option.of is None:
                assert re.sub(r"[`\\]", "", option.help).lower() in text, field.name
