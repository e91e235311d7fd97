"""Streams that are cut in the middle, read to their end by the examples, by our own client and by the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.threads import deferToThread

from tests.integration.bench import CHAT, Bench, ch, is_cut, last_error
from tests.integration.process import Process
from tests.integration.resuming import CONFIG, CUTS, TEXT, WORDS, read_cut, tell
from tests.test_examples import EXAMPLES, example
from txsse import EventSource
from txsse.testing import HANG, REQUEST, STREAM_HEAD, chunk, events, free_port, steps

__all__ = ["CONFIG"]

ASK = {"model": "m", "stream": True, "messages": []}
OPENAI = (sys.executable, str(EXAMPLES / "resume_openai.py"))
CURL = (str(EXAMPLES / "resume_curl.sh"),)
WATCH = (str(Path(sys.executable).with_name("txsse")), "watch", "--data", json.dumps(ASK))


async def run(*command: str) -> tuple[int, str]:
    """Its exit status and what it printed, or what it said was wrong."""
    done: subprocess.CompletedProcess[bytes] = await deferToThread(
        subprocess.run, command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=150
    )
    return done.returncode, (done.stderr if done.returncode else done.stdout).decode()


def text_of(data: list[str]) -> str:
    """What the events say."""
    chunks = [json.loads(each) for each in data if each != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def test_the_openai_example(bench: Bench) -> None:
    afters = CUTS[::2]  # the SDK takes a second to import
    read = await read_cut(bench, lambda url: run(*OPENAI, f"{url}/v1", "Hi"), afters)
    assert read == dict.fromkeys(afters, (0, f"{TEXT}\n"))


async def test_the_curl_example(bench: Bench) -> None:
    for status, printed in (await read_cut(bench, lambda url: run(*CURL, url, "Hi"))).values():
        assert status == 0, printed
        read = events(printed.encode())
        assert text_of([event.data for event in read]) == TEXT
        assert [int(event.id.rpartition(".")[2]) for event in read] == [*range(1, len(WORDS) + 3)]


async def test_event_source(bench: Bench) -> None:
    async def read(url: str) -> tuple[str, list[str]]:
        source = EventSource(url + CHAT, json=ASK, timeout=60, max_retries=5, reactor=bench.reactor)
        source.retry = 50  # if the stream is cut before it says so itself
        found = [event async for event in source]
        return text_of([event.data for event in found]), [event.id.rpartition(".")[2] for event in found]

    assert await read_cut(bench, read) == dict.fromkeys(CUTS, (TEXT, [str(seq) for seq in range(1, len(WORDS) + 3)]))


async def test_the_event_source_example(bench: Bench) -> None:
    async def read(url: str) -> str:
        shown: list[str] = []
        await example("read_stream_event_source").read(bench.reactor, f"{url}/v1", "Hi", shown.append, lambda _: None)
        return "".join(shown)

    assert await read_cut(bench, read, [60, 333]) == dict.fromkeys([60, 333], TEXT)


async def test_txsse_watch(bench: Bench) -> None:
    for status, printed in (await read_cut(bench, lambda url: run(*WATCH, url + CHAT), [333, 800])).values():
        assert status == 0, printed
        assert text_of(re.findall(r"\[id \S+] (.*)", printed)) == TEXT
        assert printed.count("; again in 0.05 s") == 2
        assert printed.endswith("  end\n")


async def test_the_relay_of_the_examples_is_a_program_too(bench: Bench, tmp_path: Path) -> None:
    await bench.play(tell)
    port = free_port()
    command = [sys.executable, str(EXAMPLES / "cutting_relay.py"), str(port), f"127.0.0.1:{bench.proxy.port}", "--after", "333"]
    relay = Process(command, tmp_path, "relay")
    try:
        relay.wait_until_open(port)
        cut, whole = [await run("curl", "-sSN", "-d", json.dumps(ASK), f"http://127.0.0.1:{port}{CHAT}") for _ in range(2)]
    finally:
        relay.stop()
    assert (cut[0], whole[0]) == (18, 0)
    assert text_of([event.data for event in events(whole[1].encode())]) == TEXT


async def test_who_comes_back_is_kept_alive_and_told_of_a_failure(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD, chunk(ch("a")), HANG))
    asked = await bench.post(headers=["Prefer: respond-async"])
    place = (await asked.complete()).header("location")
    assert place is not None
    client = await bench.get(place.decode())
    await client.until(lambda: client.responses and len(client.comments) >= 2)
    (await bench.client()).request("DELETE", place.decode())
    await is_cut(client)
    assert last_error(client)["code"] == "cancelled"
    assert [event.id.rpartition(".")[2] for event in client.events] == ["1", "2"]


@pytest.mark.parametrize(
    ("command", "base", "status", "said"), [(OPENAI, "/fleeting/v1", 1, "not to be had: 410"), (CURL, "/fleeting", 22, "410")]
)
async def test_a_stream_that_is_not_kept_any_more_is_a_failure(
    bench: Bench, command: tuple[str, ...], base: str, status: int, said: str
) -> None:
    ((ended, printed),) = (await read_cut(bench, lambda url: run(*command, f"{url}{base}", "Hi"), [333], cuts=1)).values()
    assert ended == status
    assert said in printed
