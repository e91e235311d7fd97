from __future__ import annotations

import re
import subprocess
import sys

import attrs
import pytest

from txsse.config.fields import Kind, option_of, tables_of
from txsse.config.model import Configuration
from txsse.config.reading import default_value, read
from txsse.config.reference import default_of, reference, rows
from txsse.config.render import write


def all_fields() -> list[tuple[str, attrs.Attribute[object]]]:
    return [(f"{header}.{field.name}", field) for header, cls in tables_of(Configuration) for field in attrs.fields(cls)]


def test_every_option_describes_itself_in_a_sentence_without_its_stop() -> None:
    for name, field in all_fields():
        option = option_of(field)
        assert option.help and not option.help.endswith("."), name
        assert (option.kind is Kind.CHOICE) == bool(option.allowed), name


def test_every_default_is_one_of_the_allowed_values() -> None:
    # Empty means "not set" for some kinds; every reader must take that, for the defaults are in every rendered file.
    for name, field in all_fields():
        if option_of(field).of is None:
            default = default_value(field)
            assert read(field, str(default) if option_of(field).kind is Kind.SECRET else default) == default, name


def test_each_table_lists_its_options_with_toml_defaults() -> None:
    by_key = {row.key: row for header, cls in tables_of(Configuration) if header == "[route.keepalive]" for row in rows(cls)}
    assert (by_key["interval"].type, by_key["interval"].default, by_key["interval"].built) == ("duration", '"15s"', True)
    assert by_key["form"].type == "auto | line | frame | event | none"
    server = {row.key: row for header, cls in tables_of(Configuration) if header == "[server]" for row in rows(cls)}
    assert server["workers"].help.endswith("; this version: 1")


def test_the_page_has_every_table_and_marks_what_is_not_built() -> None:
    page = reference()
    titles = re.findall(r"^``(\[.*\])``\n-+$", page, re.MULTILINE)
    assert titles == [header for header, _ in tables_of(Configuration) if header]
    assert page.count("*Not built yet.*") == sum(not option_of(field).built for _, field in all_fields())
    assert page.count("   * - ``") == sum(option_of(field).of is None for _, field in all_fields())


def test_the_module_prints_the_page() -> None:
    printed = subprocess.run([sys.executable, "-m", "txsse.config.reference"], capture_output=True, text=True, check=True).stdout
    assert printed == reference() + "\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("server.listen", "tcp:8787:interface=127.0.0.1"),
        ("server.admin", "tcp:9180:interface=127.0.0.1"),
        ("server.workers", "1"),
        ("server.access_log", "true"),
        ("upstream.probe.preset", "auto"),
        ("route.hold.message", ""),
        ("route.keepalive.interval", "15s"),
        ("route.stream.hold_bytes", "64KiB"),
    ],
)
def test_help_texts_take_their_defaults_from_the_model(path: str, expected: str) -> None:
    assert default_of(path) == expected


@pytest.mark.parametrize("path", ["server.listn", "sever.listen", "server.listen.more"])
def test_an_unknown_path_is_a_key_error(path: str) -> None:
    with pytest.raises(KeyError):
        default_of(path)


def test_defaults_are_written_as_their_kind() -> None:
    assert write(0.25, Kind.DURATION) == '"250ms"'
    assert write(("a", "b")) == '["a", "b"]'


def test_every_line_of_the_reference_closes_the_code_it_opens() -> None:
    for line in reference().splitlines():
        assert line.count("``") % 2 == 0, line
        assert "```" not in line
