"""Who makes predictions, as far as the HTTP API has to know."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import attrs
from twisted.web.server import Request

from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.predictions.job import Job, Work
from txsse.wire.headers import Headers

Health: TypeAlias = Literal["STARTING", "READY", "BUSY", "SETUP_FAILED"]
"""In replicate/cog's words: not ready, ready, ready but at its limit, could not be started."""


@attrs.define(eq=False)
class Invalid(Exception):
    """A request cannot be understood (422): *message* says why, in a part of it that *location* leads to."""

    location: tuple[str, ...]
    message: str
    kind: str = "value_error"


class Model(Protocol):
    """Makes predictions for one request."""

    @property
    def name(self) -> str:
        """Unique among those that share a table of jobs."""

    @property
    def scope(self) -> bytes:
        """Hash of the credential that the request came with."""

    @property
    def resume(self) -> Resume:
        """How much is kept and for how long, and what becomes of predictions whose clients leave."""

    @property
    def streams(self) -> bool:
        """It can be asked for events."""

    @property
    def fields(self) -> Headers:
        """Of every response to the request."""

    @property
    def interval(self) -> float:
        """Of keepalives, in seconds."""

    @property
    def stall_timeout(self) -> float:
        """Seconds after which a reader is given up that takes no byte."""

    def health(self) -> Health: ...

    @property
    def full(self) -> bool:
        """There is no slot for another one."""

    async def check(self, given: bytes | None) -> Any:
        """What is to be made of the JSON object *given*, the member ``input``, for :meth:`begin`.

        :raises Invalid: nothing.
        """

    def begin(self, given: Any, job: Job) -> Work:
        """Go to work for *job*.

        :raises ProxyError: not now.
        """

    def answered(self, status: int, size: int, error: ProxyError | None) -> None:
        """The request was answered without work for it. For the account."""


class Models(Protocol):
    """Whom the API serves."""

    def find(self, request: Request) -> Model:
        """Whose predictions *request* is about.

        :raises ProxyError: nobody's, or not for who asks.
        """
