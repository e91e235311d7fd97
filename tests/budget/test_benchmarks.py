"""The benchmarks tell the truth: a wrong byte is found on either side, ratios are of one round, a bar that is missed says so."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from txsse.testing import free_port

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("bars", "page", "plot", "report", "results")
TIMEOUT = 60.0

Damage = Callable[[bytes], bytes]

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmarks are no part of a source distribution")


# -- the load generator and the mock


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("load", "upstream"):
        command = [compiler, "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(folder / name), str(BENCHMARKS / f"{name}.c")]
        subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def upstream(built: Path) -> Iterator[int]:
    with subprocess.Popen([built / "upstream", "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])
        process.kill()


@contextmanager
def relay(upstream: int, request: Damage, answer: Damage) -> Iterator[int]:
    """Carries one connection to the mock and back, and damages what it carries."""

    def pump(source: socket.socket, target: socket.socket, damage: Damage) -> None:
        while data := source.recv(65536):
            target.sendall(damage(data))

    def serve() -> None:
        with closing(listener.accept()[0]) as client, socket.create_connection(("127.0.0.1", upstream), TIMEOUT) as backend:
            back = threading.Thread(target=pump, args=(backend, client, answer))
            back.start()
            pump(client, backend, request)
            backend.shutdown(socket.SHUT_WR)
            back.join(TIMEOUT)

    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(TIMEOUT)
        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def same(data: bytes) -> bytes:
    return data


def load(built: Path, port: int, *options: str) -> tuple[int, dict[str, Any]]:
    command = [str(built / "load"), str(port), "clients=1", "requests=1", "limit=5", *options]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


@pytest.mark.parametrize(
    "options",
    [["events=20"], ["events=20", "unique=1"], ["events=0"], ["events=0", "unique=1"], ["pad=512"], ["events=20", "vary=1", "first=7"]],
)
def test_what_is_right_passes(options: list[str], built: Path, upstream: int) -> None:
    with relay(upstream, same, same) as port:
        status, found = load(built, port, *options)
    assert status == 0
    assert found["requests"] == 1 and not found["wrong"] and not found["failed"]


def test_the_same_is_asked_for_again_and_the_mock_counts(built: Path, upstream: int) -> None:
    def asked() -> int:
        with urlopen(f"http://127.0.0.1:{upstream}/", timeout=TIMEOUT) as answer:
            return int(answer.read().split(b"@")[1])

    def kept(data: bytes) -> bytes:
        requests.add(data)
        return data

    before, requests = asked(), set[bytes]()
    with relay(upstream, kept, same) as port:
        status, found = load(built, port, "events=20", "same=1", "requests=3")
    assert (status, found["requests"], len(requests), asked() - before) == (0, 3, 1, 3)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"index":0', b'"index":1'),
        (b"chatcmpl-bench", b"chatcmpl-bencH"),
        (b".000007.", b".000008."),
        (b".000007.", b"-000007."),
        (b"[DONE]", b"[done]"),
        (b"\r\n0\r\n\r\n", b"\r\n0\r\n\n\r"),
        (b"text/event-stream; charset=utf-8", b"text/event-stream; charset=utf-9"),
        (b"openai-processing-ms", b"openai-processing_ms"),
    ],
)
def test_a_wrong_byte_of_a_stream_is_found(right: bytes, wrong: bytes, built: Path, upstream: int) -> None:
    with relay(upstream, same, lambda data: data.replace(right, wrong)) as port:
        status, found = load(built, port, "events=20", "unique=1")
    assert status == 1
    assert found["wrong"]


def test_a_wrong_byte_of_a_json_answer_is_found(built: Path, upstream: int) -> None:
    with relay(upstream, same, lambda data: data.replace(b'"prompt_tokens":8', b'"prompt_tokens":9')) as port:
        assert load(built, port, "events=0")[0] == 1


@pytest.mark.parametrize("wrong", [b"xyx", b"xx"])
def test_a_wrong_byte_of_a_request_is_found(wrong: bytes, built: Path, upstream: int) -> None:
    with relay(upstream, lambda data: data.replace(b"xxx", wrong + b" " * (3 - len(wrong)), 1), same) as port:
        status, found = load(built, port, "events=20", "pad=512")
    assert status == 1
    assert found["failed"]


# -- the tables


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The modules of ``benchmarks/``, as they import each other."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture
def results(modules: Any) -> Any:
    """Ours takes 10 of what nginx takes 5, 10 and 20 in three rounds; and a figure of its own."""
    labels = {"txsse": "txsse", "txsse-stock": "stock", "nginx": "nginx"}
    machine = {"date": "today", "processor": "x", "cores": 2, "kernel": "y", "rounds": 3, "minutes": 1}
    results = modules["results"].Results(machine, labels, {"W2": "streams"})
    for number, theirs in enumerate((5.0, 10.0, 20.0)):
        results.add("W2", "nginx", {"cpu_us_per_event": theirs, "round": number, "bad": 0})
        results.add("W2", "txsse", {"cpu_us_per_event": 10.0, "round": number, "bad": 0, "waited": 0.25, "load_core": 0.99})
        results.add("W0", "direct", {"ttfb_p50_us": 100.0 * number, "round": number})
        results.add("W0", "txsse", {"ttfb_p50_us": 100.0 * number + 400, "round": number, "bad": number})
    results.add("W2", "txsse", {"system_calls": 2.0})
    return results


def test_a_ratio_is_of_one_round(results: Any) -> None:
    ratio = results.ratio("W2", "cpu_us_per_event", "txsse", "nginx")
    assert (ratio.middle, ratio.least, ratio.most) == (1.0, 0.5, 2.0)
    assert results.ratio("W2", "cpu_us_per_event", "txsse-stock", "nginx") is None


def test_verdicts(modules: Any, results: Any) -> None:
    found = {one.bar.what: one for one in modules["bars"].verdicts(results)}
    assert {what: one.met for what, one in found.items()} == {
        "W0 TTFT p50 added for one client, ms": False,
        "W2 CPU per event": True,
        "W2 system calls per event": True,
    }
    assert found["W0 TTFT p50 added for one client, ms"].value.middle == pytest.approx(0.4)
    assert str(found["W0 TTFT p50 added for one client, ms"]).endswith("missed by 33%")
    assert str(found["W2 CPU per event"]) == "1 (0.5-2): met, the aim too"


def test_at_least(modules: Any, results: Any) -> None:
    bar = modules["bars"].Bar("rate", "W2", "cpu_us_per_event", 1.25, "nginx", modules["bars"].Kind.RATIO, least=True)
    verdict = modules["bars"].Verdict(bar, "txsse", bar.value(results, "txsse"))
    assert not verdict.met
    assert verdict.missed_by == pytest.approx(0.2)


def test_what_spoils_a_run_is_told(modules: Any, results: Any) -> None:
    text = modules["report"].summary(results)
    assert "BAD: txsse W0: 3 failed or wrong answers" in text
    assert "Something else had the core of txsse for 25.0% of the time" in text
    assert "the proxy could do more: txsse W2" in text


def test_the_page_is_made_of_the_json(modules: Any, results: Any, tmp_path: Path) -> None:
    again = modules["results"].Results(**json.loads(json.dumps(results.as_json())))
    written = {path.name: path.read_text(encoding="utf-8") for path in modules["page"].write(again, tmp_path)}
    assert {"machine.txt", "workloads.txt", "figures.txt", "ratios.txt", "bars.txt", "left.txt", "txsse.svg"} == set(written)
    assert "* txsse: 2 of 3 met." in written["bars.txt"]
    assert "missed by 33%" in written["left.txt"]
    assert ".. warning::\n\n   txsse W0: 3 failed or wrong answers" in written["figures.txt"]
    assert written["txsse.svg"].count("<circle") == 2  # nginx in the legend, and its dot
