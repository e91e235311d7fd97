"""The access log, JSON logging, and what of a request may be logged at all.

The access line is formatted once per request into a buffer: a ``twisted.logger`` record would cost more than a whole small request.
Everything else goes through ``twisted.logger``; :func:`json_observer` writes those events one JSON object per line.
Every line is ASCII: what a client sent is escaped, so that no byte of it can end a line, begin another, or colour a terminal.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from zope.interface import provider

if TYPE_CHECKING:
    from txsse.dialects.usage import Usage

FLUSH_INTERVAL: Final = 0.5  # seconds
FLUSH_SIZE: Final = 64 * 1024
LONGEST_TARGET: Final = 1024  # characters of a path that are logged
LONGEST_MODEL: Final = 128  # and of a model's name
SHORT: Final = 8
"""Characters that are shown of a stream's id: 48 of its 128 bits. Who knows all of it can read a stream that has no owner."""

Write = Callable[[str], None]
Format = Literal["text", "json"]

_OF_OURS: Final = re.compile(r"\A(/-/[^/]*/)([^/]*)")
_BARE: Final = re.compile(r"[A-Za-z0-9._:/@%?*+,;~$&()\[\]-]+")  # may stand without quotes after `key=`


@attrs.define(eq=False)
class Entry:
    """One request at its end. Durations are in seconds, ``None`` for a phase it never reached."""

    time: float  # when it ended, seconds since the epoch
    peer: str
    method: bytes
    path: bytes  # with its query: the values are taken out here, so that nobody can forget to
    version: bytes
    status: int  # what the client saw, or 499 if it left before that
    route: str
    outcome: str  # as in txsse_requests_total
    request_id: bytes
    upstream: str = ""
    code: str = ""  # of txsse.errors.CODES, "" without a failure
    bytes_in: int = 0
    bytes_out: int = 0
    hold: float | None = None
    first_byte: float | None = None
    total: float = 0.0
    keepalives: int = 0
    cold: bool = False  # it waited for its upstream to become ready
    streaming: bool = False
    cache: str = ""  # what the cache did for it, as in txsse_cache_total; "" where nothing is cached
    usage: Usage | None = None  # what the upstream said that the answer took
    model: str = ""  # and who gave it; logged with the usage


class AccessLog:
    """Writes one line per finished request, many lines at a time.

    :param write: takes whole lines; :func:`destination` finds it.
    :param format: ``text`` (``key=value`` pairs) or ``json`` (one object per line, the same keys).
    :param clock: for the flush, each :data:`FLUSH_INTERVAL` while lines are waiting; nothing ticks on an idle proxy.
    """

    _log = Logger()

    def __init__(self, write: Write, format: Format, clock: IReactorTime) -> None:
        self._write = write
        self._format = _as_json if format == "json" else _as_text
        self._lines: list[str] = []
        self._size = 0
        self._failed = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def add(self, entry: Entry) -> None:
        line = self._format(entry)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_SIZE:
            self.flush()
        elif not self._loop.running:
            self._loop.start(FLUSH_INTERVAL, now=False)

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._lines:
            return
        text = "".join(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            self._write(text)
        except OSError as error:
            # A full disk or a closed pipe must not end a request, and is told once and not twice a second.
            if not self._failed:
                self._log.error("access log lost: {error}", error=error)
            self._failed = True
        else:
            self._failed = False

    def stop(self) -> None:
        """Write what is waiting and tick no more."""
        if self._loop.running:
            self._loop.stop()
        self.flush()

    def _tick(self) -> None:
        if not self._lines:
            self._loop.stop()
        self.flush()


def destination(twistd: Mapping[str, Any] | None) -> Write:
    """Where access lines go: standard output under ``twistd -n``, else into the log that twistd was told to write.

    :param twistd: twistd's own options (``options.parent`` in a plugin's ``makeService``), ``None`` where the proxy is embedded.
    """
    stream = sys.__stdout__  # sys.stdout is twistd's log by now
    if twistd is None or stream is None or not twistd.get("nodaemon") or twistd.get("logfile") or twistd.get("syslog"):
        return _to_logger
    return stream_writer(stream)


def stream_writer(stream: TextIO) -> Write:
    """Lines into *stream*, flushed with each batch."""

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


_access = Logger(namespace="txsse.access")


def _to_logger(text: str) -> None:
    _access.info("{access_lines}", access_lines=text.rstrip("\n"))


def json_observer(stream: TextIO) -> ILogObserver:
    """An observer that writes each event as ``{"time", "level", "namespace", "message"}`` and, for a failure, ``"traceback"``.

    A batch of access lines passes as it is: in this format each of them is such an object already.
    """

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        if "access_lines" in event:
            stream.write(event["access_lines"] + "\n")
            stream.flush()
            return
        level = event.get("log_level", LogLevel.info)
        record = {
            "time": _iso(event.get("log_time") or time.time()),
            "level": getattr(level, "name", str(level)),
            "namespace": str(event.get("log_namespace", "")),
            "message": formatEvent(event),
        }
        failure = event.get("log_failure")
        if failure is not None:
            record["traceback"] = failure.getTraceback()
        stream.write(json.dumps(record, separators=(",", ":")) + "\n")
        stream.flush()

    observer: ILogObserver = observe
    return observer


def shown(sid: str) -> str:
    """The id of a stream as it may be shown: its node, and its beginning."""
    node, mark, rest = sid.rpartition("~")
    return f"{node}{mark}{rest[:SHORT]}.." if len(rest) > SHORT else sid


def redact_target(path: bytes) -> str:
    """A target as it may be logged: without its query, which can hold keys under any name, and not endless."""
    before, mark, _ = path.partition(b"?")
    text = before.decode("latin-1")
    if text.startswith("/-/"):
        text = _OF_OURS.sub(lambda found: found[1] + shown(found[2]), text)
    if len(text) > LONGEST_TARGET:
        text = text[:LONGEST_TARGET] + "..."
    return text + "?..." if mark else text


def _values(entry: Entry) -> dict[str, str | int | float | bool | None]:
    """The line's keys and values, in their order; ``None`` and ``""`` are what does not apply."""
    return {
        "time": _iso(entry.time),
        "peer": entry.peer,
        "method": entry.method.decode("latin-1"),
        "path": redact_target(entry.path),
        "version": entry.version.decode("latin-1"),
        "status": entry.status,
        "route": entry.route,
        "upstream": entry.upstream,
        "outcome": entry.outcome,
        "code": entry.code,
        "streaming": entry.streaming,
        "cold": entry.cold,
        "hold": _rounded(entry.hold),
        "first_byte": _rounded(entry.first_byte),
        "total": _rounded(entry.total),
        "bytes_in": entry.bytes_in,
        "bytes_out": entry.bytes_out,
        "keepalives": entry.keepalives,
        "request_id": entry.request_id.decode("latin-1"),
        "cache": entry.cache,
        **(_usage(entry.usage, entry.model) if entry.usage is not None else {}),
    }


def _usage(usage: Usage, model: str) -> dict[str, str | int | float | bool | None]:
    return {"model": model[:LONGEST_MODEL], "prompt_tokens": usage.prompt, "completion_tokens": usage.completion}


def _as_json(entry: Entry) -> str:
    values = {key: value for key, value in _values(entry).items() if value is not None and value != ""}
    return json.dumps(values, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


# One operation for the whole line: key by key it took 14 us, a third of a small request.
_TEXT: Final = (
    "time=%s peer=%s method=%s path=%s version=%s status=%d route=%s upstream=%s outcome=%s code=%s streaming=%s cold=%s"
    " hold=%s first_byte=%s total=%.3f bytes_in=%d bytes_out=%d keepalives=%d request_id=%s%s\n"
)


def _as_text(entry: Entry) -> str:
    return _TEXT % (
        _iso(entry.time),
        _known(entry.peer),
        _token(entry.method),
        _path(entry.path),
        _token(entry.version),
        entry.status,
        entry.route or "-",
        entry.upstream or "-",
        entry.outcome,
        entry.code or "-",
        "true" if entry.streaming else "false",
        "true" if entry.cold else "false",
        _seconds(entry.hold),
        _seconds(entry.first_byte),
        entry.total,
        entry.bytes_in,
        entry.bytes_out,
        entry.keepalives,
        _word(entry.request_id.decode("latin-1")),
        _recorded(entry) if entry.cache or entry.usage is not None else "",
    )


def _recorded(entry: Entry) -> str:
    """The end of the line where there is something to be told of cache and tokens."""
    cache = f" cache={entry.cache}" if entry.cache else ""
    usage = entry.usage
    if usage is None:
        return cache
    return f"{cache} model={_known(entry.model[:LONGEST_MODEL])} tokens={usage.prompt}+{usage.completion}"


def _word(value: str) -> str:
    if not value:
        return "-"
    return value if _BARE.fullmatch(value) else json.dumps(value).replace("\x7f", "\\u007f")


_known = lru_cache(256)(_word)  # for what comes again: peers, methods, paths


@lru_cache(64)
def _token(value: bytes) -> str:
    return _word(value.decode("latin-1"))


@lru_cache(256)
def _path(path: bytes) -> str:
    return _word(redact_target(path))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _iso(seconds: float) -> str:
    whole = int(seconds)
    return f"{_iso_second(whole)}.{int((seconds - whole) * 1000):03}Z"


@lru_cache(4)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
