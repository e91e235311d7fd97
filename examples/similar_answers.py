"""The cache answers a question that was asked in other words: a ``CacheLookup`` that compares embeddings.

Run it as::

    python examples/similar_answers.py examples/cache.toml http://127.0.0.1:8081/v1/embeddings nomic-embed-text

Only the text of the last message is compared, and only with requests in which everything else is the same: model, tools, system prompt,
earlier messages, parameters, and who asks. Similar is not the same ("in 2019" and "in 2020" are very similar), so measure with your own
questions and your own model before you trust a threshold.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from math import sqrt
from operator import mul
from typing import Any, TypeVar

import attrs
import treq
from twisted.internet.task import deferLater
from twisted.web.client import Agent
from twisted.web.iweb import IAgent

from txsse import ProxyService, load
from txsse.recordings.lookup import CacheLookup, Question

LONGEST_TEXT = 1000  # characters; embedding models cut what is longer, and then only the beginnings would be compared
COMPARED_AT_ONCE = 30  # vectors, before others have their turn of the reactor: 2 ms for 1536 numbers each

T = TypeVar("T")
Embed = Callable[[str], Awaitable[Sequence[float]]]


class Embeddings:
    """Asks an upstream that speaks OpenAI's ``/v1/embeddings``."""

    def __init__(self, agent: IAgent, url: str, model: str, key: str = "") -> None:
        self._client = treq.client.HTTPClient(agent)
        self._url = url
        self._model = model
        self._headers: dict[bytes | str, bytes | str] = {"Authorization": f"Bearer {key}"} if key else {}

    async def __call__(self, text: str) -> Sequence[float]:
        response = await self._client.post(self._url, headers=self._headers, json={"model": self._model, "input": text})
        answer: Any = await response.json()
        if response.code != 200:
            raise ValueError(f"the embeddings upstream answered {response.code}")
        embedding: list[float] = answer["data"][0]["embedding"]
        return embedding


@attrs.frozen(eq=False)
class Known:
    """A question whose answer is stored.

    :param rest: stands for everything but its text.
    :param vector: of length 1, 32-bit floats.
    """

    rest: bytes
    vector: array[float]


@attrs.frozen(eq=False)
class Asked(Known):
    """A question that was looked up.

    :param told: the key that was answered, if any.
    """

    told: bytes | None


class SimilarAnswers:
    """A ``CacheLookup``: finds the most similar question among those whose answers are stored.

    :param threshold: the least cosine of the angle between two questions that have the same answer.
    :param most: questions that are remembered; the ones that were of no use for the longest time are forgotten.
    """

    def __init__(self, reactor: Any, embed: Embed, *, threshold: float = 0.95, most: int = 1000) -> None:
        self._reactor = reactor
        self._embed = embed
        self._threshold = threshold
        self._most = most
        self._known: OrderedDict[bytes, Known] = OrderedDict()  # by key
        self._asked: OrderedDict[bytes, Asked] = OrderedDict()  # upstream is answering these, or nothing of theirs was stored

    async def look_up(self, question: Question) -> bytes | None:
        taken = taken_apart(question)
        if taken is None:
            return None
        rest, text = taken
        vector = normal(await self._embed(text))
        key = await self._nearest(question.key, rest, vector)
        remember(self._asked, question.key, Asked(rest, vector, key), self._most)
        return key

    def stored(self, question: Question) -> None:
        asked = self._asked.pop(question.key, None)
        if asked is None:  # it was not looked up, or that took too long
            return
        if asked.told is not None:  # upstream was asked all the same: that answer is not there any more
            self._known.pop(asked.told, None)
        remember(self._known, question.key, Known(asked.rest, asked.vector), self._most)

    async def _nearest(self, own: bytes, rest: bytes, vector: array[float]) -> bytes | None:
        best, found = self._threshold, None
        same = [(key, known.vector) for key, known in self._known.items() if known.rest == rest and key != own]
        for number, (key, other) in enumerate(same, 1):
            cosine = sum(map(mul, vector, other)) if len(vector) == len(other) else 0.0
            if cosine >= best:
                best, found = cosine, key
            if number % COMPARED_AT_ONCE == 0:
                await deferLater(self._reactor, 0)
        if found is not None and found in self._known:
            self._known.move_to_end(found)
        return found


def taken_apart(question: Question) -> tuple[bytes, str] | None:
    """What stands for all of a request but the text that is compared, and that text. ``None``: there is nothing to compare.

    The last message must be the user's own and a single text; a picture or a tool's result is not like another one.
    """
    body = json.loads(question.body)  # one object without a member given twice, or there would be no question
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    holder, name = last, "content"
    match last.get("content"):
        case [{"type": "text", "text": _} as part]:
            holder, name = part, "text"
    text = holder.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
        return None
    holder[name] = None
    rest = json.dumps(body, sort_keys=True).encode()
    return blake2b(question.context + rest, digest_size=32).digest(), text


def normal(embedding: Sequence[float]) -> array[float]:
    """The vector of length 1 in this direction."""
    length = sqrt(sum(map(mul, embedding, embedding)))
    return array("f", [each / length for each in embedding])


def remember(where: OrderedDict[bytes, T], key: bytes, what: T, most: int) -> None:
    where[key] = what
    where.move_to_end(key)
    if len(where) > most:
        where.popitem(last=False)


def main(path: str, url: str, model: str) -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor  # no interface has all that is used of it
    lookup: CacheLookup = SimilarAnswers(reactor, Embeddings(Agent(any_reactor), url, model))
    proxy = ProxyService(load(path), reactor=reactor, cache_lookup=lookup)
    proxy.startService()
    any_reactor.addSystemEventTrigger("before", "shutdown", proxy.stopService)
    any_reactor.run()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
