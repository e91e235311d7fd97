"""What a request asks for."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from twisted.web.test.requesthelper import DummyRequest

from txsse.web.negotiation import BadInput, Wish, answer_json, input_of, wish_of


def request(body: bytes = b"", fields: dict[str, str] | None = None) -> Any:
    made: Any = DummyRequest([b""])
    made.content = BytesIO(body)
    for name, value in (fields or {}).items():
        made.requestHeaders.setRawHeaders(name, value.split("|"))
    return made


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, Wish(events=False, background=False)),
        ({"accept": "text/event-stream"}, Wish(events=True, background=False)),
        ({"accept": "application/json, Text/Event-Stream;q=0.1"}, Wish(events=True, background=False)),
        ({"accept": "application/json|text/event-stream"}, Wish(events=True, background=False)),
        ({"accept": "text/event-stream;q=0, */*"}, Wish(events=False, background=False)),
        ({"accept": "*/*"}, Wish(events=False, background=False)),
        ({"prefer": "respond-async"}, Wish(events=False, background=True)),
        ({"prefer": "wait=10, Respond-Async"}, Wish(events=False, background=True)),
        ({"prefer": "wait=10|respond-async"}, Wish(events=False, background=True)),
        ({"prefer": "Respond-Async ; x=1, wait=10"}, Wish(events=False, background=True)),
        ({"prefer": "respond-async", "accept": "text/event-stream"}, Wish(events=True, background=True)),
    ],
)
def test_what_the_head_asks_for(fields: dict[str, str], wish: Wish) -> None:
    assert wish_of(request(fields=fields)) == wish


@pytest.mark.parametrize(
    ("body", "given"),
    [(b"", {}), (b"{}", {}), (b'{"input":{"a":1},"id":"x"}', {"a": 1}), (b'{"input":"text"}', "text"), (b'{"input":null}', None)],
)
def test_the_input_of_a_body(body: bytes, given: object) -> None:
    assert input_of(request(body)) == given


@pytest.mark.parametrize("body", [b"input=1", b"[1]", b'"x"', b'{"input":', b"\xff", b"[" * 100_000])
def test_a_body_that_has_none(body: bytes) -> None:
    with pytest.raises(BadInput, match="The body is not"):
        input_of(request(body))


def test_a_document_has_its_length_in_bytes() -> None:
    made = request()
    assert answer_json(made, {"a": "ü"}, 202) == '{"a":"ü"}'.encode()
    assert made.responseCode == 202
    assert made.responseHeaders.getRawHeaders(b"content-length") == [b"10"]
