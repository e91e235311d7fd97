"""What a cache tells on a route that keeps streams is a stream as any other: it has a name and ids, and is come back to."""

from __future__ import annotations

import json

import pytest

from tests.integration.bench import DONE, Bench, error_of, is_cut
from tests.integration.caching import READY, STOP, ask, cache, document, operate, question, says, turns, verdict
from tests.integration.process import route, server, upstream
from tests.integration.test_resume import IDS, JSON, OTHER, back, post, resume, sid_of, state, status, told_all
from txsse.testing import LAST_CHUNK, STREAM_HEAD, Gate, RecordingClient, UpstreamConnection, answer, chunk, stream

WORDS = [says(word) for word in ("a", "b", "c")]
PARTS = [*WORDS, STOP, DONE]
TEXT = b"".join(PARTS)

CONFIG = (
    server()
    + upstream(more=READY)
    + route("paced", more=resume('on_disconnect = "cancel"') + cache('replay = "fixed"\ngap = "400ms"'))
    + route("quick", more=resume() + cache('replay = "fixed"\ngap = "50ms"'))
    + route("slow", more=resume() + cache('replay = "fixed"\ngap = "20s"'))
    + route("always", more=resume(mode="always") + cache())
    + route("convert", more=resume() + cache("convert = true"))
    + route("cached", more=cache())
    + route("both", more=resume() + cache())
)


def numbered(sid: str, first: int = 1) -> bytes:
    return b"".join(b"id: %b.%d\n%b" % (sid.encode(), seq, part) for seq, part in enumerate(PARTS[first - 1 :], first))


async def stored(bench: Bench, case: str = "both") -> bytes:
    """A request whose answer the cache has."""
    await bench.play(turns(stream(TEXT)))
    body = question()
    assert verdict(await ask(bench, body, case=case)) == "MISS"
    return body


async def hit(bench: Bench, case: str = "both", *headers: str, body: bytes = b"") -> RecordingClient:
    """The head of one."""
    body = body or await stored(bench, case)
    asked = len(bench.upstream.requests)
    client = await post(bench, body, case, *headers)
    await client.head()
    assert len(bench.upstream.requests) == asked
    return client


async def test_a_hit_has_a_name_and_ids_for_those_who_can_use_them(bench: Bench) -> None:
    body = await stored(bench)
    plain, knowing = [await hit(bench, "both", *headers, body=body) for headers in ([], [IDS])]
    for client in (plain, knowing):
        await client.complete()
        assert verdict(client) == "HIT"
    assert sid_of(plain) != sid_of(knowing)
    assert (plain.body, knowing.body) == (TEXT, numbered(sid_of(knowing)))
    assert knowing.response.header("age") is not None
    await ask(bench, body, case="always")
    always = await hit(bench, "always", body=body)
    await always.complete()
    assert always.body == numbered(sid_of(always))


async def test_it_is_come_back_to_and_comes_to_its_end(bench: Bench) -> None:
    client = await hit(bench)
    await client.complete()
    sid = sid_of(client)
    for cursor, query, first in ((None, "", 1), (f"{sid}.2", "", 3), (None, "?starting_after=4", 5)):
        again = await told_all(bench, sid, cursor, query=query)
        assert again.body == numbered(sid, first)
        assert [again.response.header(f"x-stream-{name}") for name in ("state", "first", "last", "gap")] == [b"done", b"1", b"5", None]
    assert (await back(bench, sid, f"{sid}.5")).response.status == 204
    assert (await told_all(bench, sid, "undefined")).response.status == 400
    found = await state(bench, sid)
    assert (found["state"], found["first"], found["last"], found["status"]) == ("done", 1, 5, 200)
    repeated = await post(bench, question(), "both", f"Last-Event-ID: {sid}.3")
    await repeated.complete()
    assert repeated.body == numbered(sid, 4)
    assert len(bench.upstream.requests) == 1


async def test_it_is_its_readers_own(bench: Bench) -> None:
    client = await hit(bench)
    await client.complete()
    sid = sid_of(client)
    for key in (OTHER, ""):
        assert (await told_all(bench, sid, key=key)).response.status == 404
        assert (await status(bench, "DELETE", f"/-/streams/{sid}", key=key)).status == 404


async def test_a_paced_one_goes_on_without_its_reader_who_gets_what_was_due_at_once_and_the_rest_in_time(bench: Bench) -> None:
    client = await hit(bench, "paced", IDS)
    await client.contains(PARTS[0])
    sid = sid_of(client)
    client.reset()
    await client.gone()
    while (found := await state(bench, sid))["last"] < 3:
        assert (found["state"], found["readers"]) == ("live", 0), "whatever on_disconnect says"
    again = await back(bench, sid, f"{sid}.1")
    assert again.response.header("x-stream-state") == b"live"
    await again.complete()
    assert again.body == numbered(sid, 2)
    first, *others = [data for _, data in again.body_reads]
    assert first.startswith(numbered(sid, 2)[: len(numbered(sid, 2)) - len(numbered(sid, 4))]), "two events at once"
    assert others, "and not all"
    assert (await back(bench, sid, f"{sid}.5")).response.status == 204


async def test_nobody_waits_for_one_in_the_background(bench: Bench) -> None:
    body = await stored(bench, "quick")
    client = await hit(bench, "quick", "Prefer: respond-async", "Idempotency-Key: later", body=body)
    response = await client.complete()
    assert (response.status, response.header("preference-applied"), json.loads(response.body)["state"]) == (202, b"respond-async", "live")
    sid = sid_of(client)
    again = await post(bench, body, "quick", "Prefer: respond-async", "Idempotency-Key: later")
    assert ((await again.complete()).status, sid_of(again)) == (202, sid)
    reader = await told_all(bench, sid)
    assert reader.body == numbered(sid)


async def test_a_key_leads_to_what_it_was_told(bench: Bench) -> None:
    body = await stored(bench)
    first = await hit(bench, "both", "Idempotency-Key: k", IDS, body=body)
    await first.complete()
    again = await post(bench, body, "both", "Idempotency-Key: k", IDS)
    await again.complete()
    assert (sid_of(again), again.body) == (sid_of(first), first.body)
    other = await post(bench, question(), "both", "Idempotency-Key: k")
    await other.complete()
    assert (other.response.status, error_of(other.body)["code"]) == (422, "idempotency_conflict")


async def test_a_document_is_told_again_too(bench: Bench) -> None:
    await bench.play(turns(answer(document())))
    body = question(stream=False)
    await ask(bench, body, case="both")
    nameless = await hit(bench, "both", body=body)
    assert nameless.response.header("x-txsse-stream") is None, "as any answer that does not stream and has no key"
    client = await hit(bench, "both", "Idempotency-Key: doc", body=body)
    await client.complete()
    again = await told_all(bench, sid_of(client))
    assert again.body == client.body == document()
    assert again.response.header("content-type") == b"application/json"


async def test_it_is_ended_by_who_made_it_and_by_the_operator(bench: Bench) -> None:
    body = await stored(bench, "slow")
    for who in ("owner", "operator"):
        client = await hit(bench, "slow", IDS, body=body)
        await client.contains(PARTS[0])
        sid = sid_of(client)
        (shown,) = [each for each in json.loads((await operate(bench, "/streams")).body)["streams"] if each["id"] == f"{sid[:8]}.."]
        assert (shown["route"], shown["state"], shown["last"], shown["readers"]) == ("slow", "live", 1, 1)
        if who == "owner":
            found = await status(bench, "DELETE", f"/-/streams/{sid}", JSON)
            assert json.loads(found.body)["error"]["code"] == "cancelled"
        else:
            await operate(bench, f"/streams/{sid[:8]}", "DELETE")
        await is_cut(client)
        assert client.events[-1].id == f"{sid}.2"
        assert error_of(client.events[-1].data.encode())["code"] == "cancelled"
        assert (await back(bench, sid, f"{sid}.2")).response.status == 204


async def test_who_joins_under_a_key_is_led_to_the_same_stream_by_it(bench: Bench) -> None:
    gate = Gate()

    async def tell(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD + chunk(PARTS[0]))
        await gate.wait()
        connection.send(chunk(b"".join(PARTS[1:])) + LAST_CHUNK)

    await bench.play(tell)
    body = question()
    first = await post(bench, body, "both", IDS)
    await first.contains(PARTS[0])
    joined = await post(bench, body, "both", IDS, "Idempotency-Key: joined")
    await joined.contains(PARTS[0])
    assert (verdict(joined), sid_of(joined)) == ("COALESCED", sid_of(first))
    gate.open()
    await joined.complete()
    again = await post(bench, body, "both", IDS, "Idempotency-Key: joined")
    await again.complete()
    assert (sid_of(again), again.body) == (sid_of(first), joined.body)
    other = await post(bench, question(n=1), "both", "Idempotency-Key: joined")
    assert (await other.complete()).status == 422


async def test_a_document_with_a_key_does_not_join_one_that_nobody_can_come_back_to(bench: Bench) -> None:
    gate = Gate()

    async def tell(connection: UpstreamConnection) -> None:
        await connection.request()
        await gate.wait()
        connection.send(answer(document().replace(b"stop", b"content_filter")))

    await bench.play(tell)
    body = question(stream=False)
    plain = await post(bench, body, "both")
    await bench.upstream.until(lambda: bench.upstream.requests)
    keyed = await post(bench, body, "both", "Idempotency-Key: document")
    await bench.upstream.until(lambda: len(bench.upstream.requests) == 2)
    gate.open()
    for client in (plain, keyed):
        await client.complete()
    again = await post(bench, body, "both", "Idempotency-Key: document")
    await again.complete()
    assert (again.body, sid_of(again)) == (keyed.body, sid_of(keyed))
    assert len(bench.upstream.requests) == 2


async def test_what_is_purged_is_told_to_nobody_who_comes_back(bench: Bench) -> None:
    client = await hit(bench)
    await client.complete()
    sid = sid_of(client)
    await operate(bench, "/cache", "DELETE")
    again = await told_all(bench, sid)
    assert (again.response.status, error_of(again.body)["code"]) == (410, "stream_gone")
    assert (await status(bench, "GET", f"/-/streams/{sid}", JSON)).status == 410


async def test_but_who_is_reading_it_reads_on(bench: Bench) -> None:
    client = await hit(bench, "quick")
    await client.contains(PARTS[0])
    await operate(bench, "/cache", "DELETE")
    await client.complete()
    assert client.body == TEXT


async def test_one_that_was_converted_is_kept_for_it(bench: Bench) -> None:
    await bench.play(turns(answer(document("good morning"))))
    plain = question(stream=False)
    await ask(bench, plain, case="convert")
    client = await hit(bench, "convert", IDS, body=plain.replace(b'"stream": false', b'"stream": true'))
    await client.complete()
    sid = sid_of(client)
    await operate(bench, "/cache", "DELETE")
    assert (await told_all(bench, sid)).body == client.body


async def test_what_cannot_be_stored_is_come_back_to_all_the_same(bench: Bench) -> None:
    await bench.play(turns(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nCache-Control: no-store\r\n\r\n") + chunk(TEXT) + LAST_CHUNK))
    client = await post(bench, question(), "both", IDS)
    await client.complete()
    assert verdict(client) == "UNCACHEABLE; reason=no_store"
    sid = sid_of(client)
    assert (await told_all(bench, sid)).body == client.body == numbered(sid)


@pytest.mark.parametrize("headers", [[], [IDS], ["Prefer: respond-async"], ["Idempotency-Key: k"]])
async def test_where_nothing_is_come_back_to_a_hit_is_what_it_was(headers: list[str], bench: Bench) -> None:
    client = await hit(bench, "cached", *headers)
    await client.complete()
    assert (client.response.status, client.body) == (200, TEXT)
    assert client.response.header("x-txsse-stream") is client.response.header("location") is None
