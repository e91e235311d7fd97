"""From one value of a TOML file, or one word of the command line, to one value of the model.

Each reader takes what was written and the :class:`Option` it is for, and returns the value or raises :class:`Refused`.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from txsse.config.cache import read_member, read_scope, read_store
from txsse.config.endpoints import check_endpoint
from txsse.config.errors import Refused, choices, shown
from txsse.config.fields import Kind, Option, option_of
from txsse.config.model import LONGEST_NODE
from txsse.config.secret import Secret, read_secret, why_unreadable
from txsse.config.units import read_duration, read_size
from txsse.config.urls import read_url, read_url_with_port
from txsse.config.webhooks import read_allowed

_NOT_BUILT: Final = "not built yet in this version; remove it"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # RFC 9110 section 5.6.2
_FIELD_VALUE: Final = re.compile(r"[\x21-\x7e\x80-\U0010ffff](?:[\t\x20-\x7e\x80-\U0010ffff]*[\x21-\x7e\x80-\U0010ffff])?\Z")
_AUTHORITY: Final = re.compile(r"[A-Za-z0-9._\[\]:-]+\Z")
_TARGET: Final = re.compile(r"/[\x21\x22\x24-\x7e]*\Z")  # no space, no control, no fragment
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+\Z", re.IGNORECASE)
_OURS: Final = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "via", "expect")
)


def read(field: attrs.Attribute[Any], value: object) -> Any:
    """The value of *field* for what was written.

    :raises Refused: it is of the wrong kind, not allowed, or belongs to a feature this version does not have.
    """
    option = option_of(field)
    if option.kind is Kind.LATER:
        if value:
            raise Refused(_NOT_BUILT)
        return default_value(field)
    found = _READERS[option.kind](value, option)
    if not option.built and found != default_value(field):
        raise Refused(f"{shown(value)}: {_NOT_BUILT}")
    if option.only and found not in option.only:
        raise Refused(f"{shown(value)}: {_NOT_BUILT}. Allowed now: {', '.join(str(each) for each in option.only)}")
    return found


def default_value(field: attrs.Attribute[Any]) -> Any:
    """What *field* is when nobody says anything."""
    factory = getattr(field.default, "factory", None)
    return field.default if factory is None else factory()


def _string(value: object, option: Option) -> str:
    if not isinstance(value, str):
        raise Refused(f"{shown(value)} is not a string; write it in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"{shown(value)} is not UTF-8") from None
    return value


def _choice(value: object, option: Option) -> str:
    if value not in option.allowed:
        raise Refused(f"{shown(value)} is not allowed; {choices(value, option.allowed)}")
    return str(value)


def _boolean(value: object, option: Option) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{shown(value)} is not allowed; allowed: true, false")
    return value


def _integer(value: object, option: Option) -> int:
    least = max(option.least, 1) if option.positive else option.least
    allowed = f"a whole number of at least {least}" if option.most is None else f"a whole number from {least} to {option.most}"
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (option.most is not None and value > option.most):
        raise Refused(f"{shown(value)} is not allowed; allowed: {allowed}")
    return value


def _number(value: object, option: Option) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise Refused(f"{shown(value)} is not allowed; allowed: a number above 0")
    return float(value)


def _duration(value: object, option: Option) -> float:
    seconds = read_duration(value)
    if option.positive and not seconds:
        raise Refused(f"{shown(value)} is not allowed; allowed: a duration above 0")
    return seconds


def _size(value: object, option: Option) -> int:
    size = read_size(value)
    if option.positive and not size:
        raise Refused(f"{shown(value)} is not allowed; allowed: a size above 0")
    return size


def _name(value: object, option: Option) -> str:
    name = _string(value, option)
    if name and not _NAME.match(name):
        raise Refused(f"{shown(value)} is not a name; allowed: 1 to 64 of the characters A-Z a-z 0-9 _ -")
    return name


def _pattern(value: object, option: Option) -> str:
    pattern = _string(value, option)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"{shown(value)} is not a regular expression of Python's re: {error}") from None
    return pattern


def _url(value: object, option: Option) -> str:
    url = _string(value, option)
    return read_url_with_port(url) if url else ""


def _urls(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, lambda each, _: read_url(_string(each, option)).url, '["http://gpu1:8080", "http://gpu2:8080"]')


def _endpoint(value: object, option: Option) -> str:
    endpoint = _string(value, option)
    if endpoint != "none":
        check_endpoint(endpoint)
    return endpoint


def _header_name(value: object, option: Option) -> str:
    name = _string(value, option)
    if name and not _TOKEN.match(name):
        raise Refused(f"{shown(value)} is not a header name; allowed: letters, digits and !#$%&'*+-.^_`|~")
    return name


def _host(value: object, option: Option) -> str:
    host = _string(value, option)
    if not _AUTHORITY.match(host):
        raise Refused(f"{shown(value)} is not a host; allowed: upstream, preserve, or a literal like 'llama.example:8080'")
    return host


def _glob(value: object, option: Option) -> str:
    glob = _string(value, option)
    if not glob.startswith(("/", "*")):
        raise Refused(f"{shown(value)} would never match, paths begin with a slash; write '/{glob}'")
    return glob


def _path(value: object, option: Option) -> str:
    path = _string(value, option)
    if path and not _TARGET.match(path):
        raise Refused(f"{shown(value)} is not a URL path; write it as in '/health', percent-encoded")
    return path


def _field_value(value: object, option: Option) -> str:
    text = _string(value, option)
    if text and not _FIELD_VALUE.match(text):
        raise Refused(f"{shown(value)} has control characters, or blanks around it")
    return text


def _file(value: object, option: Option) -> str:
    name = _string(value, option)
    if name and option.built:
        try:
            with Path(name).open("rb"):
                pass
        except (OSError, ValueError) as error:
            raise Refused(f"{shown(name)} cannot be read: {why_unreadable(error)}") from None
    return name


def _folder(value: object, option: Option) -> str:
    name = _string(value, option)
    if "\0" in name or Path(name).is_file():
        raise Refused(f"{shown(name)} is not a folder; name one, it is made if it is not there")
    return name


def _store(value: object, option: Option) -> str:
    return read_store(read_secret(value).reveal() if isinstance(value, dict) else _string(value, option))


def _scope(value: object, option: Option) -> str:
    return read_scope(_string(value, option))


def _members(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, lambda each, _: read_member(_string(each, option)), '["user", "metadata"]')


def _strings(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, _string, '["..", ".."]')


def _endpoints(value: object, option: Option) -> tuple[str, ...]:
    found = _each(value, option, _listening, '["tcp:8787:interface=127.0.0.1"]')
    if not found:
        raise Refused("the list is empty; write at least one endpoint")
    return found


def _listening(value: object, option: Option) -> str:
    endpoint = _string(value, option)
    check_endpoint(endpoint)
    return endpoint


def _networks(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, _network, '["10.0.0.0/8", "::1"]')


def _network(value: object, option: Option) -> str:
    text = _string(value, option)
    if text == "unix:":  # whoever connects to a UNIX socket of ours
        return text
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Refused(f"{shown(value)} is not an IP address or network; write it as in '10.0.0.0/8', or 'unix:' for UNIX sockets") from None
    return text


def _origins(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, _origin, '["https://chat.example"]')


def _origin(value: object, option: Option) -> str:
    origin = _string(value, option)
    if origin not in ("*", "null") and not _ORIGIN.match(origin):
        raise Refused(f"{shown(value)} is not an origin; write '*', or scheme and host without a path as in 'https://chat.example'")
    return origin


def _webhooks(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, _webhook, '["https://hooks.example/"]')


def _webhook(value: object, option: Option) -> str:
    text = _string(value, option)
    read_allowed(text)
    return text


def _statuses(value: object, option: Option) -> tuple[int, ...]:
    return _each(value, option, _status, "[200, 204]")


def _status(value: object, option: Option) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 599:
        raise Refused(f"{shown(value)} is not a status; allowed: 100 to 599")
    return value


def _answer_status(value: object, option: Option) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not (value == 0 or 200 <= value <= 599):
        raise Refused(f"{shown(value)} is not the status of an answer; allowed: 200 to 599, and 0 for the default")
    return value


def _path_globs(value: object, option: Option) -> tuple[str, ...]:
    return _each(value, option, _path_glob, '["/favicon.ico", "/assets/**", "*.css"]')


def _path_glob(value: object, option: Option) -> str:
    glob = _string(value, option)
    return _glob(glob, option) if "/" in glob else glob


def _each(value: object, option: Option, read_one: Callable[[object, Option], Any], example: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise Refused(f"{shown(value)} is not a list; write it as in {example}")
    return tuple(read_one(each, option) for each in value)


def _globs(value: object, option: Option) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Refused(f'{shown(value)} is not a table; write it as in {{ X-Tenant = "a*" }}')
    return {_header_name(name, option): _string(glob, option) for name, glob in value.items()}


def _fields(value: object, option: Option) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Refused(f'{shown(value)} is not a table; write it as in {{ Cache-Control = "no-store" }}')
    for name in value:
        if name.lower() in _OURS:
            raise Refused(f"{name} is written by the proxy itself; remove it")
        if name.lower() == "content-type":
            raise Refused(f"{name} has an option of its own; write content_type")
    return {_header_name(name, option): _named(name, _field_value, text, option) for name, text in value.items()}


def _files(value: object, option: Option) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Refused(f'{shown(value)} is not a table; write it as in {{ "/styles.css" = "styles.css" }}')
    for path in value:
        if not path.startswith("/"):
            raise Refused(f"{shown(path)} is not a path; write '/{path}'")
        if not value[path]:
            raise Refused(f"{path}: the name of its file is empty")
    return {path: _named(path, _file, name, option) for path, name in value.items()}


def _peers(value: object, option: Option) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Refused(f'{shown(value)} is not a table; write it as in {{ a = "http://10.0.0.1:8787", b = "http://10.0.0.2:8787" }}')
    return {_node(name, option): _named(name, _url, url, option) for name, url in value.items()}


def _node(value: object, option: Option) -> str:
    name = _name(value, option)
    if len(name) > LONGEST_NODE:
        raise Refused(f"{shown(name)} is too long for the name of a node; at most {LONGEST_NODE} characters")
    return name


def _named(name: str, read_one: Callable[[object, Option], str], value: object, option: Option) -> str:
    """One value of a table; what is wrong with it is told with its name."""
    try:
        return read_one(value, option)
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from None


def _headers(value: object, option: Option) -> Mapping[str, Secret]:
    if not isinstance(value, dict):
        raise Refused('not a table; write it as in { Authorization = { env = "BACKEND_KEY" } }')
    return {_header_name(name, option): _header_value(name, content, option) for name, content in value.items()}


def _header_value(name: str, value: object, option: Option) -> Secret:
    if name.lower() in _OURS:
        raise Refused(f"{name} is written by the proxy itself; remove it" + (" and use the option host" if name.lower() == "host" else ""))
    try:
        secret = read_secret(value)
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from None
    if secret and not _FIELD_VALUE.match(secret.reveal()):
        raise Refused(f"{name}: its value has control characters, or blanks around it")
    return secret


_READERS: Final[dict[Kind, Callable[[object, Option], Any]]] = {
    Kind.STRING: _string,
    Kind.NAME: _name,
    Kind.CHOICE: _choice,
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.DURATION: _duration,
    Kind.SIZE: _size,
    Kind.PATTERN: _pattern,
    Kind.URL: _url,
    Kind.ENDPOINT: _endpoint,
    Kind.HEADER_NAME: _header_name,
    Kind.HOST: _host,
    Kind.GLOB: _glob,
    Kind.PATH: _path,
    Kind.SCOPE: _scope,
    Kind.FILE: _file,
    Kind.FOLDER: _folder,
    Kind.STORE: _store,
    Kind.FIELD_VALUE: _field_value,
    Kind.STATUS: _answer_status,
    Kind.SECRET: lambda value, _: read_secret(value),
    Kind.STRINGS: _strings,
    Kind.MEMBERS: _members,
    Kind.URLS: _urls,
    Kind.ENDPOINTS: _endpoints,
    Kind.NETWORKS: _networks,
    Kind.ORIGINS: _origins,
    Kind.WEBHOOKS: _webhooks,
    Kind.STATUSES: _statuses,
    Kind.PATH_GLOBS: _path_globs,
    Kind.GLOBS: _globs,
    Kind.HEADERS: _headers,
    Kind.FIELDS: _fields,
    Kind.FILES: _files,
    Kind.PEERS: _peers,
}
