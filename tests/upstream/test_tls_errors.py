from __future__ import annotations

import subprocess
import sys

from OpenSSL import SSL, crypto

from txsse.upstream.tls_errors import tls_reason


def test_the_reason_of_an_openssl_error_is_its_last() -> None:
    assert tls_reason(SSL.Error([("a", "", "first"), ("SSL routines", "", "wrong version number")])) == "wrong version number"
    assert tls_reason(crypto.Error([("PEM routines", "", "no start line")])) == "no start line"
    assert tls_reason(SSL.ZeroReturnError()) == "handshake failed"


def test_other_errors_have_none() -> None:
    assert tls_reason(OSError("no such file")) is None
    assert tls_reason(None) is None


def test_asking_imports_nothing() -> None:
    code = "import sys\nfrom txsse.upstream.tls_errors import tls_reason\ntls_reason(OSError())\nsys.exit('OpenSSL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
