"""The options reference, out of the model: ``python -m txsse.config.reference`` prints it as reST."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import attrs

from txsse.config.fields import Kind, Option, option_of, tables_of
from txsse.config.model import Configuration
from txsse.config.reading import default_value
from txsse.config.render import write

_NOT_BUILT: Final = "*Not built yet.*"


@attrs.frozen
class Row:
    """One option as the reference shows it. *default* is TOML; *type* has the allowed values of a choice."""

    key: str
    type: str
    default: str
    help: str
    built: bool


def rows(cls: type[attrs.AttrsInstance]) -> Iterator[Row]:
    """The options of one table, its sub-tables left out."""
    for field in attrs.fields(cls):
        option = option_of(field)
        if option.of is None:
            help = option.help + (f"; this version: {', '.join(str(each) for each in option.only)}" if option.only else "")
            yield Row(field.name, _type(option), write(default_value(field), option.kind), help, option.built)


def _type(option: Option) -> str:
    return " | ".join(option.allowed) if option.kind is Kind.CHOICE else option.kind.value


def _field(path: str) -> attrs.Attribute[Any]:
    """The field at a dotted key: ``route.keepalive.interval``."""
    table, _, key = path.rpartition(".")
    classes = {header.strip("[]"): cls for header, cls in tables_of(Configuration)}
    return attrs.fields_dict(classes[table])[key]


def default_of(path: str) -> str:
    """The default at a dotted key, as a person types it: ``default_of("route.keepalive.interval") == "15s"``.

    :raises KeyError: there is no such option.
    """
    field = _field(path)
    value, kind = default_value(field), option_of(field).kind
    if isinstance(value, tuple):
        return " ".join(str(each) for each in value)
    return write(value, kind).strip('"') if kind in (Kind.DURATION, Kind.SIZE, Kind.BOOLEAN) else str(value)


def reference() -> str:
    """All tables with all their options, as reST."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for header, cls in tables_of(Configuration):
        if not header:
            continue
        title = f"``{header}``"
        yield from (title, "-" * len(title), "", _rest(_summary(cls)), "")
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 18 18 20 44", "")
        yield from _cells("Key", "Type", "Default", "Meaning")
        for row in rows(cls):
            meaning = _rest(row.help[0].upper() + row.help[1:] + ".")
            yield from _cells(f"``{row.key}``", row.type, f"``{row.default}``", meaning if row.built else f"{meaning} {_NOT_BUILT}")
        yield ""


def _summary(cls: type[attrs.AttrsInstance]) -> str:
    """The class's first line without the table's name, which is the title already."""
    sentence = (cls.__doc__ or "").partition("\n")[0].partition(": ")[2]
    return sentence[0].upper() + sentence[1:]


def _cells(first: str, *others: str) -> Iterator[str]:
    yield f"   * - {first}"
    for each in others:
        yield f"     - {each}"


def _rest(text: str) -> str:
    """Code in single backticks becomes reST's double ones, which docstrings have already; a lone star is no emphasis."""
    parts = re.split(r"(``[^`]+``|`[^`]*`)", text)
    return "".join(f"``{part.strip('`')}``" if part.startswith("`") else part.replace("*", r"\*") for part in parts)


if __name__ == "__main__":
    print(reference())
