from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.upstream.certificates import Authority, names
from txsse.config.errors import Refused
from txsse.upstream.tls import ClientTLS, identity_problem


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(
    ("san", "name", "problem"),
    [
        (names("llama.example"), "llama.example", ""),
        (names("*.models.example"), "llama.models.example", ""),
        (names("other", "127.0.0.1"), "127.0.0.1", ""),
        (names("::1"), "::1", ""),
        (names("llama.example"), "llama.example.org", "certificate is for another host"),
        (names("127.0.0.1"), "127.0.0.2", "certificate is for another host"),
        (names("llama.example"), "127.0.0.1", "certificate is for another host"),
        (None, "llama.example", "certificate has no subjectAltName"),
        (names("*.*.example"), "llama.example", "certificate has an invalid subjectAltName"),
        (names("*"), "llama.example", "certificate has an invalid subjectAltName"),
    ],
)
def test_only_the_subject_alt_name_speaks_for_a_host(
    authority: Authority, san: x509.SubjectAlternativeName | None, name: str, problem: str
) -> None:
    certificate, _ = authority.issue("llama.example", san)
    assert identity_problem(certificate, name) == problem


def test_a_missing_or_wrong_file_is_told_by_its_option(authority: Authority, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    with pytest.raises(Refused, match=r"tls\.ca_file: cannot read .*nowhere"):
        ClientTLS.load("x", ca_file=str(tmp_path / "nowhere"))
    with pytest.raises(Refused, match=r"tls\.ca_file: .*junk holds no PEM certificate"):
        ClientTLS.load("x", ca_file=str(junk))
    with pytest.raises(Refused, match=r"tls\.cert: .*junk holds no PEM certificate"):
        ClientTLS.load("x", cert=str(junk))
    with pytest.raises(Refused, match=r"tls\.key: .*junk holds no unencrypted PEM private key"):
        ClientTLS.load("x", cert=authority.ca_file, key=str(junk))
    with pytest.raises(Refused, match=r"tls\.key: given without"):
        ClientTLS.load("x", key=str(junk))


def test_a_key_that_does_not_fit_is_found_out_at_once(authority: Authority) -> None:
    _, one = authority.issue("one", names("one"))
    _, two = authority.issue("two", names("two"))
    ClientTLS.load("x", cert=one)
    with pytest.raises(Refused, match=r"tls\.key: .*two.* is not the key of the certificate in .*one"):
        ClientTLS.load("x", cert=one, key=two)
