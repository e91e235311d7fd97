"""A Klein application that knows which of its handlers stream. Importing this imports Klein, and with it the reactor."""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.web.iweb import IRequest

from txsse.web.handler import handler_of
from txsse.web.negotiation import not_streamable, wish_of


class StreamingApp(Klein):
    """Answers 406 where a client asks for an event stream and the handler is not marked with :func:`~txsse.web.streaming.streaming`.

    A plain ``Klein`` leaves that to its handlers, which do not look. Handlers that return an :class:`~txsse.web.stream.EventStream` or a
    resource that streams have to be marked, too.
    """

    def execute_endpoint(self, endpoint: str, request: IRequest, *args: Any, **kwargs: Any) -> Any:
        """Called by Klein for the handler that a request has matched."""
        if wish_of(request).events and handler_of(self.endpoints[endpoint]) is None:
            return not_streamable(request)
        return super().execute_endpoint(endpoint, request, *args, **kwargs)
