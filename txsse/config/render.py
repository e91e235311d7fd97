"""A configuration as a TOML file with every default filled in; it loads again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from txsse.config.fields import Kind, option_of
from txsse.config.model import Configuration
from txsse.config.secret import MASK, Secret
from txsse.config.units import write_duration, write_size

_USERINFO: Final = re.compile(r"://[^/]*@")  # of a Redis: the name and the password
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


def render(configuration: Configuration) -> str:
    """The whole of it as TOML; secrets are ``***``, whatever they came from."""
    return "\n".join(_table(configuration, "", "")).lstrip("\n") + "\n"


def _table(value: attrs.AttrsInstance, path: str, header: str) -> Iterator[str]:
    """The lines of one table: its own keys first, for below a sub-table's line they would belong to that."""
    if header:
        yield from ("", header)
    below: list[tuple[str, str, attrs.AttrsInstance]] = []
    for field in attrs.fields(type(value)):
        option, inner = option_of(field), getattr(value, field.name)
        inner_path = f"{path}.{field.name}" if path else field.name
        if option.kind is Kind.TABLE:
            below.append((inner_path, f"[{inner_path}]", inner))
        elif option.kind is Kind.TABLES:
            below.extend((inner_path, f"[[{inner_path}]]", each) for each in inner)
        else:
            yield f"{field.name} = {write(inner, option.kind)}"
    for inner_path, inner_header, inner in below:
        yield from _table(inner, inner_path, inner_header)


def write(value: Any, kind: Kind = Kind.STRING) -> str:
    """One value as TOML; *kind* tells seconds and bytes from other numbers."""
    if kind is Kind.DURATION:
        return write_duration(value)
    if kind is Kind.STORE:
        return _string(_USERINFO.sub(f"://{MASK}@", value))
    if kind is Kind.SIZE:
        return write_size(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Secret)):
        return _string(str(value))
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {write(each)}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(write(each) for each in value)}]"
    return repr(value)


def _string(text: str) -> str:
    # JSON's escapes are a subset of TOML's basic string, which also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _string(name)
