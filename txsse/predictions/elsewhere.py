"""Predictions of other processes, as far as the HTTP API has to know: :mod:`.shared` finds them through Redis, :mod:`.peers` by asking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import attrs
from twisted.web.resource import IResource

from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.predictions.job import Job, Name
from txsse.web.events import Encoded

if TYPE_CHECKING:
    from txsse.predictions.model import Model


class AnyJob(Protocol):
    """A prediction, wherever it is made; a :class:`~txsse.predictions.job.Job` tells what each member means.

    Each method raises :exc:`~txsse.errors.ProxyError`: nothing can be said of it any more, or now.
    """

    @property
    def name(self) -> Name: ...
    @property
    def sid(self) -> str: ...
    @property
    def resume(self) -> Resume: ...
    @property
    def over(self) -> bool: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def state(self) -> str: ...
    def let_run(self) -> None: ...
    def place(self, after: int) -> tuple[int, int] | None: ...
    def read(self, after: int, *, gap: int = 0) -> AsyncIterator[Encoded]: ...
    async def document(self) -> bytes: ...
    async def outcome(self) -> bytes: ...
    async def end(self) -> None: ...


@attrs.define(eq=False)
class PassedOn(Exception):
    """The request is answered by the process that has the prediction, through *answer*."""

    answer: IResource


@attrs.define(eq=False)
class Claim:
    """The right to make a prediction: whoever has one makes it, or gives the claim up. This one nobody else knows of.

    :param id: of the prediction.
    :param sid: what the ids of its events are to begin with.
    """

    id: str
    sid: str

    def share(self, job: Job) -> None:
        """It is about to begin: others may follow it."""

    def give_up(self, error: ProxyError | None) -> None:
        """It does not begin, or came to nothing at once: whoever asks again makes another. Those who wait for it hear of *error*."""


class Elsewhere(Protocol):
    """Where predictions may be that are not in this process.

    Each method that looks for one raises :exc:`PassedOn`: its process answers; :exc:`~txsse.errors.ProxyError`: nobody can say, or it is
    gone.
    """

    async def find(self, model: Model, id: str) -> AnyJob | None:
        """The one of this name. ``None``: there is none."""

    async def of_sid(self, model: Model, sid: str, body: bytes) -> AnyJob | None:
        """The one whose events have ids that begin with *sid*.

        :param body: of the request, which has been read.
        """

    async def claim(self, model: Model, id: str, body: bytes) -> AnyJob | Claim:
        """As :meth:`find`, for a request that makes it if there is none; then no other does, as far as that can be had."""

    def claim_new(self, model: Model) -> Claim:
        """The same, for a request that names none."""
