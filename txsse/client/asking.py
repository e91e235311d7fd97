"""One attempt: a request, the redirects it meets, and what is read of an answer that is no stream."""

from __future__ import annotations

from typing import Any, Final

from twisted.web.iweb import IAgent, IResponse

from txsse.client.body import Excerpt
from txsse.client.errors import StreamLost, StreamRefused
from txsse.client.http import client_of
from txsse.client.request import Request
from txsse.client.waiting import Wait

MOST_REDIRECTS: Final = 20  # of one attempt (the Fetch standard, "HTTP-redirect fetch")
EXCERPT_WITHIN: Final = 5.0  # seconds in which the body of a refusal has to come


class Asker:
    """Asks on behalf of one source.

    :param timeout: seconds to each response head; ``None``: no limit.
    """

    def __init__(self, agent: IAgent | None, reactor: Any, wait: Wait, timeout: float | None) -> None:
        self._client = client_of(agent, reactor)
        self._reactor = reactor
        self._wait = wait
        self._timeout = timeout

    async def ask(self, request: Request, last_event_id: str) -> tuple[Request, IResponse]:
        """The answer, and the request it answers after redirects. One that makes a GET of a POST is not followed here.

        :raises StreamLost: there is none.
        """
        redirects = 0
        while True:
            asking: Any = self._client.request(
                request.method,
                request.url,
                headers=request.fields(last_event_id),
                data=request.body,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            response: IResponse = await self._wait.until(asking, self._timeout)
            following = request.redirected(response.code, location_of(response))
            if following is None or following.method != request.method or redirects == MOST_REDIRECTS:
                return request, response
            discard(response)
            request = following
            redirects += 1

    async def refusal(self, response: IResponse) -> StreamRefused:
        """An answer that is no stream, with the beginning of its body."""
        excerpt = Excerpt()
        response.deliverBody(excerpt)
        try:
            await self._wait.until(excerpt.complete, EXCERPT_WITHIN)
        except StreamLost:
            pass  # what has come will do
        finally:
            excerpt.abort()
        return StreamRefused(response.code, excerpt.data, response.phrase.decode("latin-1"), response.headers)


def location_of(response: IResponse) -> str | None:
    values = response.headers.getRawHeaders("location")
    return values[-1] if values else None


def discard(response: IResponse) -> None:
    """Read nothing of its body; the connection is reset."""
    excerpt = Excerpt()
    response.deliverBody(excerpt)
    excerpt.abort()
