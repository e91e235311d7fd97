"""How one option describes itself: the metadata each field of the model carries.

Loading, checking, ``--check``, the command line's help and the reference in the docs all read an :class:`Option`, so that a default,
a unit or a list of allowed values is written down once, in :mod:`txsse.config.model`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

import attrs


class Kind(enum.Enum):
    """What an option's value is. The member's value is what the reference calls it."""

    STRING = "string"
    NAME = "name"
    CHOICE = "choice"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"
    PATTERN = "regular expression"
    URL = "URL"
    ENDPOINT = "endpoint"
    HEADER_NAME = "header name"
    HOST = "host"
    GLOB = "glob"
    SECRET = "secret"
    FILE = "file"
    FOLDER = "folder"
    STORE = "file or URL of a store"
    FIELD_VALUE = "header value"
    STATUS = "status"
    PATH = "URL path"
    SCOPE = "scope"
    STRINGS = "list of strings"
    MEMBERS = "list of member names"
    URLS = "list of URLs"
    ORIGINS = "list of origins"
    WEBHOOKS = "list of URLs with globs"
    STATUSES = "list of statuses"
    PATH_GLOBS = "list of globs"
    ENDPOINTS = "list of endpoints"
    NETWORKS = "list of addresses or networks"
    GLOBS = "table of globs"
    HEADERS = "table of secrets"
    FIELDS = "table of header fields"
    FILES = "table of files"
    PEERS = "table of URLs"
    LATER = "table"  # belongs to a feature that is not built: no shape is known yet, only its default loads
    TABLE = "sub-table"
    TABLES = "array of tables"


@attrs.frozen
class Option:
    """One option.

    :param help: a sentence without its full stop; units and special values included.
    :param allowed: the values of a choice.
    :param built: ``False``: this version knows the name and its default and refuses any other value.
    :param only: with a choice, the values this version can do; empty = all that are allowed.
    :param least: the smallest number allowed.
    :param most: the largest one.
    :param positive: zero is refused too.
    :param of: the class of a sub-table, or of each table of an array.
    """

    kind: Kind
    help: str
    allowed: tuple[str, ...] = ()
    built: bool = True
    only: tuple[Any, ...] = ()
    least: int = 0
    most: int | None = None
    positive: bool = False
    of: type[attrs.AttrsInstance] | None = None


_KEY: Final = "txsse.option"


def option_of(field: attrs.Attribute[Any]) -> Option:
    """The description a field of the model carries."""
    found: Option = field.metadata[_KEY]
    return found


def option(default: Any, kind: Kind, help: str, **more: Any) -> Any:
    """A field of the model."""
    return attrs.field(default=default, metadata={_KEY: Option(kind, help, **more)})


def choice(default: str, allowed: tuple[str, ...], help: str, **more: Any) -> Any:
    """A field that takes one of a few words."""
    return option(default, Kind.CHOICE, help, allowed=allowed, **more)


def duration(default: float, help: str, **more: Any) -> Any:
    """A field in seconds."""
    return option(float(default), Kind.DURATION, help, **more)


def size(default: int, help: str, **more: Any) -> Any:
    """A field in bytes."""
    return option(default, Kind.SIZE, help, **more)


def text(default: str, help: str, kind: Kind = Kind.STRING, **more: Any) -> Any:
    """A field of text."""
    return option(default, kind, help, **more)


def flag(default: bool, help: str, **more: Any) -> Any:
    """A field that is true or false."""
    return option(default, Kind.BOOLEAN, help, **more)


def integer(default: int, help: str, **more: Any) -> Any:
    """A field that counts."""
    return option(default, Kind.INTEGER, help, **more)


def several(kind: Kind, help: str, default: tuple[Any, ...] = (), **more: Any) -> Any:
    """A field that is a list."""
    return option(default, kind, help, **more)


def mapping(kind: Kind, help: str, **more: Any) -> Any:
    """A field that is a small table of free keys; empty by default."""
    return attrs.field(factory=dict, metadata={_KEY: Option(kind, help, **more)})


def table(cls: type[attrs.AttrsInstance], help: str) -> Any:
    """A field that is a table of its own, with all its defaults."""
    return attrs.field(factory=cls, metadata={_KEY: Option(Kind.TABLE, help, of=cls)})


def tables(cls: type[attrs.AttrsInstance], help: str) -> Any:
    """A field that is an array of tables; empty by default."""
    return attrs.field(default=(), metadata={_KEY: Option(Kind.TABLES, help, of=cls)})


def tables_of(cls: type[attrs.AttrsInstance], path: str = "", many: bool = False) -> Iterator[tuple[str, type[attrs.AttrsInstance]]]:
    """Every table below *cls*, in the order of the file: its line with brackets (empty for the file itself), and its class."""
    yield (f"[[{path}]]" if many else f"[{path}]") if path else "", cls
    for field in attrs.fields(cls):
        below = option_of(field)
        if below.of is not None:
            yield from tables_of(below.of, f"{path}.{field.name}".lstrip("."), below.kind is Kind.TABLES)
