"""Measures txsse and its peers, interleaved, and writes what came out: JSON, tables, a plot.

    python benchmarks/run.py [--quick] [--rounds N] [--peers a,b] [--workloads W1,W2] [--docs DIR]

``setup.sh`` comes first: it fetches the peers and compiles the load generator. ``make bench`` does both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from peers import HERE, PEERS, Peer
from report import Results, page, summary
from workloads import WORKLOADS, Bench, Figures, Workload, has_perf

DIRECT = Peer("direct", "direct, no proxy", lambda: "", lambda program, place: ())


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    if missing := [name for name in ("load", "upstream") if not (HERE / "build" / name).exists()]:
        sys.exit(f"error: {missing[0]} is not compiled: run benchmarks/setup.sh (make bench does)")
    if not {options.proxy_core, options.load_core} <= os.sched_getaffinity(0):
        sys.exit(f"error: two cores are needed; this process may use {sorted(os.sched_getaffinity(0))}")
    peers = present(options)
    workloads = [one for one in WORKLOADS if one.name in options.workloads]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="txsse-bench-", ignore_cleanup_errors=True) as work:
        bench = Bench(Path(work), options.proxy_core, options.load_core)
        results = Results(machine(options), {peer.name: peer.label for peer in peers}, {w.name: w.what for w in workloads})
        results.lighter = {peer.name: {name: dict(less) for name, less in peer.lighter.items()} for peer in peers}
        results.versions = {peer.name: peer.version_of(program) for peer, program in peers.items()}
        try:
            measure_all(bench, results, peers, options)
        except KeyboardInterrupt:
            tell("\ninterrupted: this is what there is")
    results.machine["minutes"] = round((time.monotonic() - began) / 60, 1)
    tell("")
    print(summary(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    tell(f"\n{options.json}")
    if options.docs:
        for path in page(results, options.docs):
            tell(path)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure txsse and its peers.")
    parser.add_argument("--quick", action="store_true", help="the fast peers, 3 rounds, about 2 minutes")
    parser.add_argument("--rounds", type=int, help="of all peers, interleaved (5; quick: 3)")
    parser.add_argument("--peers", type=_words, help=f"of {','.join(peer.name for peer in PEERS)}")
    parser.add_argument("--workloads", type=_words, default=[one.name for one in WORKLOADS], help="of W0,W1,W2,W3,W4,W5")
    parser.add_argument("--held", type=int, help="streams that wait, 0 for none (8000; quick: 0)")
    parser.add_argument("--syscalls", action="store_true", help="count system calls, with perf or strace")
    parser.add_argument("--instructions", action="store_true", help="count instructions, with valgrind: minutes")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", type=Path, default=HERE / "build" / "results.json")
    parser.add_argument("--docs", type=Path, help="write the page and the plot into this directory")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.quick else 5
    options.memory_rounds = 1 if options.quick else 2
    if options.held is None:
        options.held = 0 if options.quick else 8000
    return options


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def present(options: argparse.Namespace) -> dict[Peer, str]:
    """The peers that are there, each with its program; one line about each that is not."""
    found = {}
    for peer in PEERS:
        if peer.name not in options.peers if options.peers else options.quick and not peer.quick:
            continue
        program = peer.program()
        if program is None:
            tell(f"{peer.name} is left out: it is not here")
        else:
            found[peer] = program
    return found


def measure_all(bench: Bench, results: Results, peers: dict[Peer, str], options: argparse.Namespace) -> None:
    workloads = [one for one in WORKLOADS if one.name in options.workloads]
    order = [DIRECT, *peers]
    with bench.upstream() as upstream:
        for number in range(options.rounds):
            # Each round begins with another peer, so that what changes on the machine meets all of them.
            for peer in order[number % len(order) :] + order[: number % len(order)]:
                tell(f"round {number + 1} of {options.rounds}: {peer.name}", end=" ")
                try:
                    one_round(bench, results, peer, peers.get(peer, ""), upstream, workloads, number, number < options.memory_rounds)
                except (RuntimeError, OSError) as error:
                    tell(f"failed: {error}", end="")
                    tell_log(bench, peer)
                tell("")
        if options.syscalls:
            count_system_calls(bench, results, peers, upstream)
        if options.instructions:
            count_instructions(bench, results, peers, upstream)
    if options.held:
        for peer, program in peers.items():
            if peer.name == "txsse":
                tell(f"{options.held} held streams")
                results.add("held", peer.name, bench.held(peer, program, options.held, 15))


def one_round(
    bench: Bench, results: Results, peer: Peer, program: str, upstream: int, workloads: Sequence[Workload], number: int, memory: bool
) -> None:
    def note(name: str, figures: Figures) -> None:
        results.add(name, peer.name, {**figures, "round": number})
        tell(name, end=" ")
        if figures["bad"]:
            tell(f"{figures['bad']:g} failed or wrong answers", end="")
            tell_log(bench, peer)

    together = [one for one in workloads if not one.fresh]
    if peer is DIRECT:
        for workload in together:
            note(workload.name, bench.measure(workload, peer, None, upstream))
        return
    if together:
        with bench.proxy(peer, program, upstream) as (process, place, started):
            results.add("start", peer.name, {"seconds": started, "bad": 0})
            bench.warm_up(peer, place.port)
            for workload in together:
                note(workload.name, bench.measure(workload, peer, process, place.port))
    for workload in workloads:
        if workload.fresh and memory:
            with bench.proxy(peer, program, upstream) as (process, place, _):
                note(workload.name, bench.measure(workload, peer, process, place.port))


def count_system_calls(bench: Bench, results: Results, peers: dict[Peer, str], upstream: int) -> None:
    if not has_perf() and shutil.which("strace") is None:
        tell("system calls are left out: neither perf, with leave to count them, nor strace is here")
        return
    for peer, program in peers.items():
        with bench.proxy(peer, program, upstream) as (process, place, _):
            bench.warm_up(peer, place.port)
            for workload in WORKLOADS:
                if workload.name in ("W1", "W2", "W5"):
                    calls = bench.system_calls(workload, peer, process, place.port)
                    results.add(workload.name, peer.name, {"system_calls": calls})
                    tell(f"{peer.name} {workload.name}: {calls:.2f} system calls")


def count_instructions(bench: Bench, results: Results, peers: dict[Peer, str], upstream: int) -> None:
    for peer, program in peers.items():
        for workload in WORKLOADS:
            if workload.name in ("W1", "W5"):
                try:
                    count = bench.instructions(workload, peer, program, upstream)
                except (RuntimeError, OSError) as error:
                    tell(f"{peer.name}: instructions are left out: {error}")
                    break
                results.add(workload.name, peer.name, {"instructions": count})
                tell(f"{peer.name} {workload.name}: {count:,.0f} instructions")


def machine(options: argparse.Namespace) -> dict[str, Any]:
    model = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "rounds": options.rounds,
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def tell(what: object, end: str = "\n") -> None:
    print(what, end=end, file=sys.stderr, flush=True)


def tell_log(bench: Bench, peer: Peer) -> None:
    """The last of what a peer said."""
    for line in _lines(bench.work / peer.name / "log")[-5:]:
        tell(f"\n    {line[:200]}", end="")


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
