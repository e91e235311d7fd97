"""What is kept of a stream that machines share, as values and as bytes."""

from __future__ import annotations

import json
import struct
from array import array
from typing import Final

import attrs

from txsse.recordings.packing import little
from txsse.wire.headers import Headers

_HEAD: Final = struct.Struct("<QI")


@attrs.frozen
class Batch:
    """Pieces *first* to *last* of a stream, numbered from 1.

    :param data: one after the other.
    :param ends: where each ends in *data*; unsigned 32 bits each.
    """

    first: int
    data: bytes
    ends: array[int] = attrs.field(repr=False)

    @property
    def last(self) -> int:
        return self.first + len(self.ends) - 1

    def pieces(self) -> list[bytes]:
        """One by one."""
        data, begins = self.data, [0, *self.ends]
        return [data[begin:end] for begin, end in zip(begins, self.ends, strict=False)]

    def after(self, number: int) -> Batch:
        """Without the pieces up to *number*, which is one of them or less."""
        count = number - self.first + 1
        if count <= 0:
            return self
        cut = self.ends[count - 1]
        return Batch(number + 1, self.data[cut:], array("I", [end - cut for end in self.ends[count:]]))

    def pack(self) -> bytes:
        """Little-endian: the first number (64 bits), how many (32 bits), where each ends (32 bits each); then the data."""
        return b"".join((_HEAD.pack(self.first, len(self.ends)), little(self.ends).tobytes(), self.data))

    @classmethod
    def unpack(cls, packed: bytes) -> Batch:
        """:raises ValueError: that is none."""
        try:
            first, count = _HEAD.unpack_from(packed)
        except struct.error as error:
            raise ValueError("it is too short for a batch") from error
        data_at = _HEAD.size + 4 * count
        ends = little(array("I", packed[_HEAD.size : data_at]))
        if not count or len(ends) != count or ends[-1] != len(packed) - data_at:
            raise ValueError("a batch is not as long as it says")
        return cls(first, packed[data_at:], ends)


@attrs.frozen
class Terminal:
    """How a stream ended.

    :param code: "" if it ended well, else an error code for clients.
    :param status: the one that goes with the code.
    """

    code: str = ""
    message: str = ""
    status: int = 200


DONE: Final = Terminal()
OWNER_LOST: Final = Terminal("owner_lost", "The server that carried this stream has stopped; ask again.", 502)
UNSHARED: Final = Terminal("replay_truncated", "This stream outran the shared store and goes on elsewhere only; ask again.", 502)
GONE: Final = Terminal("stream_gone", "This stream is no longer in the shared store; ask again.", 410)


@attrs.frozen
class Head:
    """How the answer begins that a stream is.

    :param headers: the fields that are told again.
    """

    status: int
    headers: Headers

    def pack(self) -> str:
        return json.dumps([self.status, _as_text(self.headers)])

    @classmethod
    def unpack(cls, text: bytes) -> Head:
        """:raises ValueError: that is none."""
        try:
            status, fields = json.loads(text)
            return cls(int(status), _as_bytes(fields))
        except (TypeError, AttributeError) as error:
            raise ValueError("a stream's head cannot be read") from error


@attrs.frozen
class Meta:
    """What a stream is, as its owner tells it when it begins.

    :param scope: a hash of the credential that it belongs to.
    :param content_type: of the answer; with *status* and *headers*, what its head is taken for where none was written.
    :param started: Unix time in seconds.
    :param ttl: seconds for which it stays after its end.
    """

    route: str
    dialect: str
    scope: bytes = attrs.field(repr=False)
    content_type: bytes
    status: int
    headers: Headers
    started: float
    ttl: float

    def pack(self) -> str:
        scope, content_type = self.scope.hex(), self.content_type.decode("latin-1")
        return json.dumps([self.route, self.dialect, scope, content_type, self.status, _as_text(self.headers), self.started, self.ttl])

    @classmethod
    def unpack(cls, text: bytes) -> Meta:
        """:raises ValueError: that is none."""
        try:
            route, dialect, scope, content_type, status, fields, started, ttl = json.loads(text)
            kind, headers = content_type.encode("latin-1"), _as_bytes(fields)
            return cls(route, dialect, bytes.fromhex(scope), kind, int(status), headers, float(started), float(ttl))
        except (TypeError, AttributeError) as error:
            raise ValueError("a stream's description cannot be read") from error


@attrs.frozen
class Snapshot:
    """A stream at one moment.

    :param owner: the process that writes it.
    :param last: the number of its last piece, 0 if there is none.
    :param terminal: how it ended; ``None`` while it runs.
    :param batches: some of what is kept, in order.
    :param head: ``None``: it has not come; or, once there are pieces, or a good end, an earlier version has not written it.
    """

    owner: str
    last: int
    terminal: Terminal | None
    batches: list[Batch] = attrs.field(factory=list, repr=False)
    head: Head | None = None


def _as_text(headers: Headers) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def _as_bytes(fields: list[list[str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def read_state(st: bytes, code: bytes, message: bytes, status: bytes) -> Terminal | None:
    """How a stream ended, by its hash."""
    if st == b"run":
        return None
    return Terminal(code.decode("utf-8", "replace"), message.decode("utf-8", "replace"), int(status or b"502"))
