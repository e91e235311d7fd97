"""Where txsse spends its CPU time, function by function, in W1, W2 and W5: to be read before and after a change.

    python benchmarks/hotspots.py [--stock] [--workloads W1,W2,W5] [--seconds 3] [--lines 25]

A sampler inside the real process, no profiler that slows each call. ``make bench`` puts the first lines into the documentation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from counters import samples
from peers import PEERS, Peer
from workloads import WORKLOADS, Bench, Upstream

SAMPLED = ("W1", "W2", "W5")


def profile(
    bench: Bench, peer: Peer, program: str, upstream: Upstream, names: Sequence[str] = SAMPLED, seconds: float = 2
) -> dict[str, Any]:
    """What :func:`counters.samples` says of each workload."""
    with bench.proxy(peer, program, upstream.port, "sampled") as (process, place, _):
        bench.await_answer(peer, process, place)
        bench.warm_up(peer, place.port)
        return {one.name: samples(bench, one, process, place, seconds) for one in WORKLOADS if one.name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description="Where txsse spends its time.")
    parser.add_argument("--stock", action="store_true", help="with Twisted's own reactor")
    parser.add_argument("--workloads", default=",".join(SAMPLED))
    parser.add_argument("--seconds", type=float, default=4, help="how long the load lasts, about")
    parser.add_argument("--lines", type=int, default=25)
    options = parser.parse_args()
    peer = next(one for one in PEERS if one.name == ("txsse-stock" if options.stock else "txsse"))
    program = peer.program()
    if program is None:
        sys.exit(f"error: {peer.name} is not here")
    with tempfile.TemporaryDirectory(prefix="txsse-bench-", ignore_cleanup_errors=True) as work:
        bench = Bench(Path(work), 0, 1)
        with bench.upstream() as upstream:
            for name, found in profile(bench, peer, program, upstream, options.workloads.split(","), options.seconds).items():
                unit = found["unit"]
                print(f"\n{peer.name} {name}: {found['us_per_unit']:.1f} us per {unit}, {found['kernel']:.0%} of it in the kernel")
                print(f"{'share':>7} {'us':>7}  {found['samples']} samples")
                for function, share in found["functions"][: options.lines]:
                    print(f"{share:7.1%} {share * found['us_per_unit']:7.2f}  {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
