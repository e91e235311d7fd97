"""What a stream ends with when it does not end well."""

from __future__ import annotations

import attrs
from twisted.web.http_headers import Headers

SHOWN = 200  # characters of the body in the exception's text


@attrs.define(eq=False)
class StreamRefused(Exception):
    """The server answered, but not with an event stream, and asking again would not help.

    :param status: 200 where the type is wrong.
    :param body: the first 4 KiB of it.
    """

    status: int
    body: bytes = b""
    phrase: str = ""
    headers: Headers = attrs.field(factory=Headers, repr=False)

    @property
    def content_type(self) -> str:
        return ", ".join(self.headers.getRawHeaders("content-type", []))

    def __str__(self) -> str:
        answer = f"{self.status} {self.phrase}".rstrip()
        if self.status == 200:
            answer += f" is no event stream but {self.content_type or 'of no type'}"
        return f"{answer}: {self.body.decode('utf-8', 'replace')[:SHOWN]}" if self.body else answer


@attrs.define(eq=False)
class StreamLost(Exception):
    """The stream broke, or never began, and cannot be taken up again.

    :param reason: what the last connection ended with: an exception of Twisted's or ``TimeoutError``; ``None``: cleanly, but empty.
    """

    reason: Exception | None = None

    def __str__(self) -> str:
        return "the connection ended with nothing on it" if self.reason is None else str(self.reason) or type(self.reason).__name__
