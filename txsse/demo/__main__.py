"""``python -m txsse.demo``: the demo backend alone, to put a proxy in front of by hand."""

from __future__ import annotations

import argparse

from txsse.demo.backend import DemoBackend
from txsse.demo.settings import FAILURES, DemoSettings


def settings_of(arguments: argparse.Namespace) -> DemoSettings:
    """The settings that a parsed command line asks for."""
    return DemoSettings(
        wake_seconds=arguments.wake,
        from_start=arguments.from_start,
        closed=arguments.closed,
        prefill_seconds=arguments.prefill,
        pace=arguments.pace,
        text=arguments.text,
    )


def parser() -> argparse.ArgumentParser:
    default = DemoSettings()
    ways = "\n".join(f"  {name:20} {meaning}" for name, meaning in FAILURES.items())
    made = argparse.ArgumentParser(
        prog="python -m txsse.demo",
        description="A fake OpenAI-compatible model server that wakes slowly, streams words and fails on request.",
        epilog=f"A request fails on request header X-Demo-Fail (or query ?fail=):\n{ways}\n"
        "Other request headers: X-Demo-Prefill, -First, -Pace, -Gap, -Stall (seconds), X-Demo-Words.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--port", type=int, default=8001, help="loopback port (8001; 0: any free one)")
    made.add_argument("--wake", type=float, default=default.wake_seconds, metavar="SECONDS", help="from asleep to awake (%(default)s)")
    made.add_argument("--from-start", action="store_true", help="begin to wake at the start, not with the first request")
    made.add_argument("--closed", action="store_true", help="keep the port closed until awake, from the start")
    made.add_argument("--prefill", type=float, default=default.prefill_seconds, metavar="SECONDS", help="before the head (%(default)s)")
    made.add_argument("--pace", type=float, default=default.pace, metavar="SECONDS", help="from word to word (%(default)s)")
    made.add_argument("--text", default=default.text, help="what it says")
    return made


def main() -> None:
    arguments = parser().parse_args()
    from twisted.internet import reactor

    backend = DemoBackend(reactor, settings_of(arguments))
    backend.listen(arguments.port)
    print(f"demo backend on {backend.url}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
