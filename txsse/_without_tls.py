"""A process without pyOpenSSL, as long as it has no use for TLS: 12 MiB of memory, 50 ms at every start.

Twisted imports pyOpenSSL with its TCP transports, and treq with its client, wherever it is installed; and it always is, for https
upstreams need it. Where it is not installed both do without, and that is what they are led to believe here.

A reload may bring an https upstream nevertheless: after :func:`show_tls`, TLS is spoken through ``TLSMemoryBIOFactory``. What was
imported before stays without it: ``startTLS``, ``listenSSL``, ``ssl:`` endpoints and ``wrapClientTLS`` do not work in such a process.
"""

from __future__ import annotations

import sys


def hide_tls() -> None:
    """Let nobody import pyOpenSSL from here on. Does nothing if somebody has: with a reactor chosen by hand, or in an embedder's process.

    For the owner of the process only, before it has a reactor.
    """
    sys.modules.setdefault("OpenSSL", None)  # type: ignore[arg-type]  # the import system's own mark for what shall not be found


def show_tls() -> None:
    """Let pyOpenSSL be imported again."""
    if sys.modules.get("OpenSSL", sys) is None:
        del sys.modules["OpenSSL"]
