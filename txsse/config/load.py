"""From a TOML file to a checked :class:`~txsse.config.model.Configuration`; every problem found is told, not only the first."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from txsse.config.check import complete
from txsse.config.errors import ConfigError, Problem, Refused, choices, nearest, shown
from txsse.config.fields import Kind, option_of, tables_of
from txsse.config.model import Configuration, Route
from txsse.config.predictions import with_kind
from txsse.config.reading import read
from txsse.config.secret import why_unreadable
from txsse.config.styled import with_style

_Path = tuple[str | int, ...]


def load(path: str | os.PathLike[str]) -> Configuration:
    """The configuration in the file *path*, checked, with all names filled in.

    Secrets that name a file or an environment variable are read now. Relative paths start at the working directory.

    :raises ConfigError: it cannot be read, or anything in it is wrong.
    """
    return complete(read_file(path))


def loads(text: str, *, where: str = "configuration") -> Configuration:
    """The same for a text; *where* stands for the file's name in errors of syntax.

    :raises ConfigError: anything in it is wrong.
    """
    return complete(read_text(text, where=where))


def read_file(path: str | os.PathLike[str]) -> Configuration:
    """What the file says, each value checked for itself, nothing checked against another and nothing filled in.

    :raises ConfigError: it cannot be read, or a key or value in it is wrong.
    """
    name = os.fspath(path)
    if not name:
        raise ConfigError(["the name of the configuration file is empty; give a path"])
    try:
        content = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError([f"{name}: cannot be read: {why_unreadable(error)}"]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}: not UTF-8 (at line {line}); save it as UTF-8"]) from None
    return read_text(text, where=name)


def read_text(text: str, *, where: str) -> Configuration:
    """:func:`read_file` for a text."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{where}: not TOML that can be read: nested too deeply"]) from None
    except ValueError as error:  # TOMLDecodeError is one; an integer of 5,000 digits is another
        raise ConfigError([f"{where}: not TOML: {error}"]) from None
    try:
        return _CONVERTER.structure(document, Configuration)
    except cattrs.ClassValidationError as error:
        raise ConfigError(str(problem) for problem in _problems(error, (), document)) from None


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook_factory(attrs.has, partial(_table_hook, converter))
    return converter


def _table_hook(converter: cattrs.Converter, cls: type[attrs.AttrsInstance]) -> Callable[[object, Any], Any]:
    """How a table becomes an object of *cls*: sub-tables by cattrs, values by the reader of their kind, other keys refused."""
    hooks: dict[str, Any] = {field.name: override(struct_hook=_field_hook(converter, field)) for field in attrs.fields(cls)}
    inner = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **hooks)

    def structure(value: object, _: Any) -> Any:
        if not isinstance(value, dict):
            raise Refused(f"{shown(value)} is not a table; write its keys below a line of its name in brackets")
        return inner(with_kind(with_style(value)) if cls is Route else value, cls)

    return structure


def _field_hook(converter: cattrs.Converter, field: attrs.Attribute[Any]) -> Callable[[object, Any], Any]:
    option = option_of(field)
    if option.of is None:
        return lambda value, _: read(field, value)
    return partial(_structure_tables, converter, field.name) if option.kind is Kind.TABLES else converter.structure


def _structure_tables(converter: cattrs.Converter, name: str, value: object, type_: Any) -> Any:
    if not isinstance(value, list):
        raise Refused(f"not an array of tables; write [[{name}]], with two pairs of brackets")
    return converter.structure(value, type_)


_CONVERTER: Final = _make_converter()


def _problems(error: BaseException, path: _Path, document: Any) -> Iterator[Problem]:
    """The leaves of a tree of cattrs errors, each with the option it belongs to."""
    if isinstance(error, (cattrs.ClassValidationError, cattrs.IterableValidationError)):
        noted, bare = error.group_exceptions()
        for inner, note in noted:
            step = note.index if isinstance(note, cattrs.IterableValidationNote) else note.name
            yield from _problems(inner, (*path, step), document)
        for inner in bare:
            yield from _problems(inner, path, document)
    elif isinstance(error, cattrs.ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield Problem(_where((*path, key), document), _unknown_key(key, error.cl))
    elif isinstance(error, Refused):
        yield Problem(_where(path, document), error.reason)
    else:
        raise error  # a slip of ours, not of the file's author


def _where(path: _Path, document: Any) -> str:
    """The dotted key as the reference writes it, and for arrays of tables which of them: ``route.hold.timeout (route 2, "chat")``."""
    which: list[str] = []
    array, entry = "", document
    for step in path:
        if isinstance(step, int):
            entry = entry[step]
            which.append(f"{array} {step + 1}")
            if isinstance(entry, dict) and entry.get("name"):
                which.append(shown(entry["name"]))
        else:
            array, entry = step, entry.get(step) if isinstance(entry, dict) else None
    return ".".join(step for step in path if isinstance(step, str)) + (f" ({', '.join(which)})" if which else "")


def _unknown_key(key: str, cls: type[Any]) -> str:
    names = [field.name for field in attrs.fields(cls)]
    if nearest(key, names) is None and (homes := _homes_of(key)):
        return f"unknown key here; it belongs into {' or '.join(homes)}"
    return f"unknown key; {choices(key, names)}"


def _homes_of(key: str) -> list[str]:
    """The tables that have *key*, in brackets."""
    return [header for header, cls in tables_of(Configuration) if header and key in attrs.fields_dict(cls)]
