"""What went wrong in TLS, in words fit for a client. Imports nothing of TLS itself: see :mod:`txsse._without_tls`."""

from __future__ import annotations

import sys


def tls_reason(error: BaseException | None) -> str | None:
    """The last reason of an OpenSSL error ("wrong version number"); ``None`` for an error of anything else."""
    if not isinstance(error, _openssl_errors()):
        return None
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return "handshake failed"


def _openssl_errors() -> tuple[type[Exception], ...]:
    # A module that is not loaded has raised nothing.
    return tuple(sys.modules[name].Error for name in ("OpenSSL.SSL", "OpenSSL.crypto") if name in sys.modules)
