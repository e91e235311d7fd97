"""Read a streamed answer with the openai package, over as many connections as it takes.

Needs ``pip install openai`` (3) and a proxy whose route has ``resume.mode``, as in ``resume.toml``. Run it as::

    python examples/resume_openai.py http://127.0.0.1:8787/v1 "Good morning?"

What goes on with a stream that was cut is a transport of httpx, below the SDK, which does not notice. It serves other SDKs that are built
on it as well.
"""

from __future__ import annotations

import re
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Final

import httpx2 as httpx  # openai 2 is built on httpx: import httpx
import openai

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ID: Final = re.compile(rb"^id: ?([^\r\n]*)", re.MULTILINE)
_CREDENTIALS: Final = ("authorization", "cookie", "x-api-key", "api-key")


class ResumingTransport(httpx.BaseTransport):
    """Goes on with streams of a txsse proxy when their connections break.

    :param attempts: how often in a row nothing may come of it.
    :param pause: seconds before each.
    """

    def __init__(self, attempts: int = 5, pause: float = 0.5) -> None:
        self.transport = httpx.HTTPTransport()
        self.attempts = attempts
        self.pause = pause

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["X-Txsse-Resume"] = "1"  # we can use ids
        response = self.transport.handle_request(request)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if not is_stream or "x-txsse-stream" not in response.headers:
            return response
        return httpx.Response(
            response.status_code, headers=response.headers, stream=_Resumed(self, request, response), extensions=response.extensions
        )

    def close(self) -> None:
        self.transport.close()


class _Resumed(httpx.SyncByteStream):
    """One stream, in whole events: one that was cut in two comes again."""

    def __init__(self, owner: ResumingTransport, request: httpx.Request, response: httpx.Response) -> None:
        self._owner = owner
        self._response: httpx.Response | None = response
        headers = {name: value for name, value in request.headers.items() if name in _CREDENTIALS}
        where = request.url.join(response.headers["location"])
        self._rest = httpx.Request("GET", where, headers={"Accept": "text/event-stream", **headers}, extensions=request.extensions)

    def __iter__(self) -> Iterator[bytes]:
        failures = 0
        while True:
            try:
                for events in self._whole_events():
                    failures = 0
                    yield events
                return
            except httpx.TransportError:
                failures += 1
                if failures > self._owner.attempts:
                    raise
            self.close()
            time.sleep(self._owner.pause)

    def _whole_events(self) -> Iterator[bytes]:
        response = self._response = self._response or self._go_on()
        assert isinstance(response.stream, httpx.SyncByteStream)
        begun = b""
        for data in response.stream:
            begun += data
            end = max((match.end() for match in _EVENT_END.finditer(begun)), default=0)
            events, begun = begun[:end], begun[end:]
            if ids := _ID.findall(events):
                self._rest.headers["Last-Event-ID"] = ids[-1].decode("ascii")
            if events:
                yield events

    def _go_on(self) -> httpx.Response:
        response = self._owner.transport.handle_request(self._rest)
        if response.status_code not in (200, 204) or "x-stream-gap" in response.headers:  # 204: there is nothing left
            response.read()
            raise httpx.HTTPStatusError(f"the rest is not to be had: {response.status_code}", request=self._rest, response=response)
        return response

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


def read(base_url: str, question: str, model: str = "demo") -> Iterator[str]:
    """The pieces of the answer as they come.

    :raises openai.APIError: it failed.
    :raises httpx.HTTPError: it broke, and cannot be gone on with.
    """
    http = openai.DefaultHttpxClient(transport=ResumingTransport())
    with openai.OpenAI(base_url=base_url, api_key="sk-1", http_client=http) as client:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            stream=True,
            # If the connection breaks before the head has come the SDK asks again, and with this the model is not asked again.
            extra_headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        for chunk in stream:
            for choice in chunk.choices:
                yield choice.delta.content or ""


def main(base_url: str = "http://127.0.0.1:8787/v1", question: str = "Good morning?") -> int:
    try:
        for piece in read(base_url, question):
            print(piece, end="", flush=True)
        print()
    except (openai.APIError, httpx.HTTPError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
