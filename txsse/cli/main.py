"""The console script ``txsse``: what is common to its commands. The proxy itself is started by ``twistd sse-proxy``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import txsse
from txsse.cli.errors import CommandError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="txsse",
        description="Tools around the txsse proxy. The proxy itself runs as: twistd -n sse-proxy --upstream URL",
    )
    made.add_argument("--version", action="version", version=f"txsse {txsse.__version__}")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "demo",
        help="show what a client sees while a sleeping model wakes up behind the proxy (about 20 s)",
        description="Starts a fake model that sleeps, and the proxy before it, on free loopback ports; sends one streaming request "
        "and shows live what comes, and when. Ends by itself after about 20 s.",
    )
    watch = commands.add_parser(
        "watch",
        help="print a stream's events with their arrival times",
        description="A streaming client: prints events with the seconds since the start, comments dimly, keepalives of txsse as dots. "
        "A GET that was cut, and a POST whose answer named a Location, is taken up again with Last-Event-ID until the server answers 204. "
        "Ctrl-C ends it (exit status 130).",
    )
    watch.add_argument("url", metavar="URL", help="http:// or https://")
    watch.add_argument("--data", metavar="JSON", help="POST this JSON, or with @FILE what is in the file")
    watch.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[], help="send this header field too; repeatable")
    check = commands.add_parser(
        "check",
        help="validate a configuration file",
        description="Validates a TOML configuration and prints it with every default filled in, secrets as ***. "
        "Exit status 0, or 2 with what is wrong on stderr.",
    )
    check.add_argument("file", metavar="FILE", help="a TOML file, or - for standard input")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for what went wrong, 2 for wrong usage, 130 after Ctrl-C."""
    arguments = parser().parse_args(argv)
    try:
        return _run(arguments)
    except CommandError as error:
        print(f"txsse {arguments.command}: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader (head, less) has gone, and that is no error; but Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    # Each imports what it needs and nothing more: "check" has no use for a reactor.
    if arguments.command == "check":
        from txsse.cli.check import check

        return check(arguments.file)
    from txsse.cli.running import run
    from txsse.cli.terminal import Terminal

    terminal = Terminal(sys.stdout)
    if arguments.command == "watch":
        from txsse.cli.watch import Target, watch

        target = Target.parse(arguments.url, arguments.data, arguments.header)
        return run(lambda reactor: watch(reactor, target, terminal))
    from txsse.cli.demo import demo

    return run(lambda reactor: demo(reactor, terminal))


if __name__ == "__main__":
    sys.exit(main())
