"""Counts that no clock has a part in: system calls and instructions of a proxy; and samples of where txsse spends its time."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from peers import HERE, Peer, Place
from processes import Pinned, free_port, tree, usage, wait_until
from workloads import START_TIMEOUT, Bench, Workload, answers

ROOT: Final = HERE.parent
ATTACH: Final = 0.3  # seconds until a counter is at work
MOST: Final = 40  # functions of a profile that are kept


def can_count_system_calls() -> bool:
    return has_perf() or shutil.which("strace") is not None


def has_perf() -> bool:
    """Whether perf is here, and may count system calls."""
    if shutil.which("perf") is None:
        return False
    tried = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, timeout=20, check=False)
    return tried.returncode == 0 and b"not supported" not in tried.stderr


def system_calls(bench: Bench, workload: Workload, peer: Peer, process: Pinned, port: int) -> float:
    """System calls of a proxy per event, in W1 and W5 per request: from the kernel's tracepoint, else from strace, under which
    a proxy is slower and so finds more to do each time it wakes."""
    told = bench.work / "system-calls"
    told.unlink(missing_ok=True)
    if has_perf():
        threads = [int(task.name) for one in tree(process.pid) for task in Path(f"/proc/{one}/task").iterdir()]
        command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", str(told), "-t", ",".join(map(str, threads))]
    else:
        command = ["strace", "-c", "-f", "-q", "-o", str(told), *(f"-p{one}" for one in tree(process.pid))]
    with Pinned(command, bench.load_core, log=bench.work / "system-calls.log") as counter:
        time.sleep(ATTACH)
        result = bench.load(port, bench.options(workload, peer))
        counter.process.send_signal(signal.SIGINT)
        counter.process.wait(10)
    lines = told.read_text().splitlines()
    counts = [line.split(",")[0] for line in lines if "sys_enter" in line]  # perf
    counts += [line.split()[3] for line in lines if line.endswith(" total")]  # strace
    return int(counts[0]) / int(result[workload.unit])


def instructions(bench: Bench, workload: Workload, peer: Peer, program: str, upstream: int) -> float:
    """Instructions per request: of two runs of different length under valgrind, the difference."""
    short, long = (_instructions(bench, peer, program, upstream, workload, requests) for requests in (100, 400))
    return (long[0] - short[0]) / (long[1] - short[1])


def _instructions(bench: Bench, peer: Peer, program: str, upstream: int, workload: Workload, requests: int) -> tuple[int, int]:
    directory = bench.work / f"{peer.name}-valgrind"
    directory.mkdir(exist_ok=True)
    place = Place(free_port(), upstream, free_port(), directory)
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--trace-children=no"]
    script = [*peer.command(program, place)]
    if peer.distributions and "python" not in Path(program).name:
        script.insert(0, str(Path(program).parent / "python"))  # valgrind would not follow the first line of a script
    log = directory / f"log-{requests}"
    log.unlink(missing_ok=True)
    environment = {**peer.surroundings(program), "PYTHONHASHSEED": "0"}
    with Pinned([*command, *script], bench.proxy_core, log=log, environment=environment, directory=directory) as process:
        wait_until("valgrind", lambda: answers(place.port), START_TIMEOUT, process)
        result = bench.load(place.port, {**workload.options, "clients": 8, "requests": requests, "ramp": 0, "gap": 0})
    # A line for each process of the tree, when it ends.
    counts = re.findall(r"I\s+refs:\s+([\d,]+)", log.read_text(errors="replace"))
    if not counts:
        raise RuntimeError("valgrind gave no count")
    return sum(int(count.replace(",", "")) for count in counts), int(result[workload.unit])


def samples(bench: Bench, workload: Workload, process: Pinned, place: Place, seconds: float) -> dict[str, Any]:
    """Where the time of a proxy that was started as ``sampled`` goes.

    :param seconds: how long the load lasts, about.
    :return: ``unit``, ``us_per_unit``, the ``kernel`` 's share of that, the number of ``samples``, and ``functions``: a list of name and
        share, the largest first; what they call in C and in the kernel counts as theirs.
    """
    file = place.directory / "samples.json"

    def take() -> list[tuple[str, str, int]]:
        file.unlink(missing_ok=True)
        process.process.send_signal(signal.SIGWINCH)
        wait_until("the sampler", file.exists, 10, process)
        found: list[tuple[str, str, int]] = json.loads(file.read_text())
        return found

    gap = workload.options.get("gap")
    options = {**workload.options, **({"events": int(seconds * 1e6 / gap)} if gap else {"seconds": seconds})}
    take()
    before = usage(process.pid)
    result = bench.load(place.port, options)
    spent = usage(process.pid) - before
    found = take()
    total = sum(count for *_, count in found) or 1
    return {
        "unit": workload.unit[:-1],
        "us_per_unit": spent.cpu * 1e6 / result[workload.unit],
        "kernel": spent.kernel_share,
        "samples": total,
        "functions": [(f"{_module(name)} {function}", count / total) for name, function, count in found[:MOST]],
    }


def _module(file: str) -> str:
    path = Path(file)
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return str(path).rpartition("site-packages/")[2].rpartition("/lib/python3")[2]
