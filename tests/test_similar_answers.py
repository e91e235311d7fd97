"""``examples/similar_answers.py``: questions in other words are answered from the cache, other questions are not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from importlib import util
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from txsse import ProxyService
from txsse.config import loads
from txsse.recordings.key import digest
from txsse.recordings.lookup import Question
from txsse.testing import ScriptedUpstream, UpstreamConnection, answer, stream
from txsse.wire.peek import at_once

EXAMPLE = Path(__file__).parent.parent / "examples" / "similar_answers.py"


def the_example() -> Any:
    spec = util.spec_from_file_location("txsse_example_similar_answers", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = the_example()

CONFIGURATION = """
[server]
listen = ["tcp:0:interface=127.0.0.1"]
admin = "none"
access_log = false

[[upstream]]
name = "fake"
url = "{url}"
probe.preset = "none"

[[route]]
cache.mode = "all"
"""

CAPITAL = "What is the capital of France?"
CAPITAL_AGAIN = "Tell me France's capital."
RIVER = "Which river flows through Paris?"
NUMBERS = count()
VECTORS = {CAPITAL: [1.0, 0.1, 0.0], CAPITAL_AGAIN: [2.0, 0.1, 0.1], RIVER: [0.1, 1.0, 0.4]}


async def embed(connection: UpstreamConnection) -> None:
    while True:
        request = await connection.request()
        asked = json.loads(request.body)
        connection.send(answer(json.dumps({"data": [{"index": 0, "embedding": VECTORS[asked["input"]]}]}).encode()))


async def reply(connection: UpstreamConnection) -> None:
    """Every answer is another one, as a stream or as a document."""
    while True:
        body = json.loads((await connection.request()).body)
        choice = {"index": 0, "finish_reason": "stop"}
        text = {"role": "assistant", "content": f"answer {next(NUMBERS)}"}
        if body.get("stream"):
            chunk = json.dumps({"choices": [{**choice, "delta": text}]}).encode()
            connection.send(stream(b"data: %b\n\n" % chunk, b"data: [DONE]\n\n"))
        else:
            connection.send(answer(json.dumps({"choices": [{**choice, "message": text}]}).encode()))


class World:
    """A model, an upstream for embeddings, and a proxy that uses the example."""

    async def open(self, reactor: Any) -> None:
        self.model, self.embeddings = ScriptedUpstream(reactor, reply), ScriptedUpstream(reactor, embed)
        await self.model.open()
        await self.embeddings.open()
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        lookup = example.SimilarAnswers(reactor, example.Embeddings(agent, f"{self.embeddings.url}/v1/embeddings", "bge", "sk-e"))
        self.proxy = ProxyService(loads(CONFIGURATION.format(url=self.model.url)), reactor=reactor, cache_lookup=lookup)
        self.proxy.startService()

    async def close(self) -> None:
        await self.proxy.stopService()
        await self.model.stop()
        await self.embeddings.stop()

    async def ask(self, text: object = CAPITAL, key: str = "sk-1", query: str = "", system: str = "Be brief.", **members: object) -> str:
        """What the cache said to a question, with its answer."""
        address: Any = self.proxy.ports[0].getHost()
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        response = await treq.post(
            f"http://127.0.0.1:{address.port}/v1/chat/completions{query}",
            headers=Headers({"Authorization": [f"Bearer {key}"]}),
            json={"model": "m", "messages": messages, **members},
            persistent=False,
        )
        self.body = await response.content()
        assert response.code == 200
        return str(response.headers.getRawHeaders("X-Txsse-Cache")[0])


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]  # pytest-twisted has no types
async def world() -> AsyncIterator[World]:
    from twisted.internet import reactor

    it = World()
    await it.open(reactor)
    yield it
    await it.close()


async def test_a_question_in_other_words_is_answered_from_the_cache(world: World) -> None:
    assert await world.ask(CAPITAL) == "MISS"
    first = world.body
    assert await world.ask(CAPITAL_AGAIN) == "HIT"
    assert world.body == first
    assert await world.ask(RIVER) == "MISS"
    assert len(world.model.requests) == 2


async def test_a_stream_is_found_as_well(world: World) -> None:
    assert await world.ask(CAPITAL, stream=True) == "MISS"
    first = world.body
    assert await world.ask(CAPITAL_AGAIN, stream=True) == "HIT"
    assert world.body == first and first.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "other",
    [
        {"system": "Be long."},
        {"model": "n"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"temperature": 0.5},
        {"stream": True},
        {"key": "sk-2"},
        {"query": "?api-version=2"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_everything_else_has_to_be_the_same(world: World, other: dict[str, Any]) -> None:
    assert await world.ask(CAPITAL) == "MISS"
    assert await world.ask(CAPITAL_AGAIN, **other) == "MISS"


async def test_only_the_last_text_goes_to_the_embeddings(world: World) -> None:
    await world.ask(CAPITAL)
    (request,) = world.embeddings.requests
    assert json.loads(request.body) == {"model": "bge", "input": CAPITAL}
    assert request.target == b"/v1/embeddings" and request.header("authorization") == b"Bearer sk-e"


async def test_the_same_words_need_no_embedding(world: World) -> None:
    assert [await world.ask(CAPITAL), await world.ask(CAPITAL)] == ["MISS", "HIT"]
    assert len(world.embeddings.requests) == 1


async def test_without_embeddings_upstream_is_asked(world: World) -> None:
    async def fail(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(answer(b'{"error":{}}', "503 Service Unavailable"))

    world.embeddings.script = fail
    assert [await world.ask(CAPITAL), await world.ask(CAPITAL_AGAIN)] == ["MISS", "MISS"]


# -- without sockets


def a_question(text: str, number: int, **members: object) -> Question:
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"messages": messages, **members}).encode()
    summary = at_once(digest(body, frozenset()))
    return Question(bytes([number]) * 32, "chat", "openai-chat", "/v1/chat/completions", body, False, b"", summary, b"here")


async def told(text: str) -> Sequence[float]:
    return VECTORS[text]


def looked_up(lookup: Any, question: Question) -> bytes | None:
    found: list[bytes | None] = []
    Deferred.fromCoroutine(lookup.look_up(question)).addCallback(found.append)
    return found[0]


def test_what_was_of_no_use_for_the_longest_time_is_forgotten() -> None:
    lookup = example.SimilarAnswers(Clock(), told, most=1)
    for number, text in enumerate((CAPITAL, RIVER)):
        question = a_question(text, number)
        assert looked_up(lookup, question) is None
        lookup.stored(question)
    assert looked_up(lookup, a_question(CAPITAL_AGAIN, 2)) is None
    assert looked_up(lookup, a_question(RIVER, 3)) == bytes([1]) * 32


def test_an_answer_that_is_gone_gives_way_to_the_one_that_upstream_gave_instead() -> None:
    lookup = example.SimilarAnswers(Clock(), told)
    first, second = a_question(CAPITAL, 1), a_question(CAPITAL_AGAIN, 2)
    looked_up(lookup, first)
    lookup.stored(first)
    assert looked_up(lookup, second) == first.key
    lookup.stored(second)  # the store had nothing under that key
    assert looked_up(lookup, a_question(CAPITAL, 3)) == second.key


def test_a_long_search_gives_way_to_others() -> None:
    clock, many = Clock(), example.COMPARED_AT_ONCE + 1

    async def direction(text: str) -> list[float]:
        return [float(number == int(text)) for number in range(many)]

    lookup = example.SimilarAnswers(clock, direction)
    for number in range(many):
        question = a_question(str(number), number)
        Deferred.fromCoroutine(lookup.look_up(question))
        clock.advance(0)
        lookup.stored(question)
    found: list[bytes | None] = []
    Deferred.fromCoroutine(lookup.look_up(a_question("3", 255))).addCallback(found.append)
    assert found == []
    clock.advance(0)
    assert found == [bytes([3]) * 32]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": CAPITAL}, {"role": "assistant", "content": "Par"}],
        [{"role": "user", "content": [{"type": "text", "text": CAPITAL}, {"type": "image_url", "image_url": {"url": "data:"}}]}],
        [{"role": "user", "content": [{"type": "tool_result", "content": CAPITAL}]}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": "x" * 1001}],
        [{"role": "user"}],
        "x",
    ],
)
def test_what_is_not_a_short_text_of_the_user_is_not_compared(messages: object) -> None:
    assert example.taken_apart(a_question(CAPITAL, 1, messages=messages)) is None


def test_a_single_part_is_a_text_as_well() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": CAPITAL}]}]
    assert example.taken_apart(a_question(CAPITAL, 1, messages=parts))[1] == CAPITAL
