"""What is sent: a prediction's document, and who says so.

Standard Webhooks, version 1.0.0: ``Webhook-Id``, ``Webhook-Timestamp``, and ``Webhook-Signature``, an HMAC-SHA256 of these two and the
body. Sans-I/O.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from secrets import token_urlsafe
from typing import Final, Literal, TypeAlias, get_args

import attrs

from txsse.web.events import to_json
from txsse.webhooks.allow import Destination

Event: TypeAlias = Literal["start", "output", "logs", "completed"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)

Document: TypeAlias = Callable[[], Mapping[str, object]]
"""Makes the document of a prediction as it is now."""

OVERHEAD: Final = 1024  # bytes that one costs besides its body, for the account of those that wait
_BULKY: Final = ("input", "output", "logs")


@attrs.define(eq=False)
class Letter:
    """One webhook, through all tries to deliver it.

    :param name: of the prediction, for the log.
    :param content: makes the body. That of an update is made when its turn has come.
    :param size: of the body, if it waits with the letter.
    :param id: the same for each try. Without a full stop, for those divide what is signed.
    :ivar sent: reactor seconds when the last try began.
    """

    destination: Destination
    event: Event
    name: str
    content: Callable[[], bytes]
    size: int = 0
    id: str = attrs.field(factory=lambda: "msg_" + token_urlsafe(16))
    sent: float = 0.0

    @property
    def is_last(self) -> bool:
        """It tells of the end, and is worth more than one try."""
        return self.event == "completed"


def body_of(document: Mapping[str, object], limit: int) -> bytes:
    """*document* as JSON. If that is longer than *limit* bytes, as much of it as is surely short, with ``"truncated": true``.

    :raises TypeError, ValueError: JSON has no form for it.
    """
    body = to_json(document)
    if len(body) <= limit:
        return body
    body = to_json({**{name: value for name, value in document.items() if name not in _BULKY}, "truncated": True})
    return body if len(body) <= limit else to_json({"id": document.get("id"), "status": document.get("status"), "truncated": True})


def head_fields(id: str, seconds: int, body: bytes, keys: Iterable[bytes]) -> list[tuple[str, str]]:
    """The header fields that tell one webhook from another and, if there are *keys*, prove who sends it.

    :param seconds: since the epoch, at this try.
    """
    signed = b"%b.%d.%b" % (id.encode(), seconds, body)
    signatures = ["v1," + b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    fields = [("Webhook-Id", id), ("Webhook-Timestamp", str(seconds))]
    return [*fields, ("Webhook-Signature", " ".join(signatures))] if signatures else fields
