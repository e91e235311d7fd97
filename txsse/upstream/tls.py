"""TLS towards a backend: whom we trust, whom we expect, and who we are.

The peer is always verified. Twisted 26.10 takes a trusted certificate without subjectAltName, or with an invalid one, for any host
(its callback catches VerificationError only, logs the CertificateError and goes on); so the name is checked here, closed on every doubt.

Imports pyOpenSSL, so it is itself imported only where an upstream is https.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from txsse.config.errors import Refused
from txsse.config.urls import is_ip
from txsse.upstream.tls_errors import tls_reason


class Refusable(Protocol):
    """Whoever wants to know what became of a peer's certificate."""

    refusal: str  # why it was refused, or ""
    verified: bool  # it was looked at and found good: a handshake that ends without this must not be trusted


@attrs.frozen(eq=False)
class ClientTLS:
    """The TLS side of one target; its OpenSSL context is made once and shared by all connections."""

    name: str  # the host name or IP address the certificate must be for; a host name is also sent as SNI
    _options: CertificateOptions

    @classmethod
    def load(cls, name: str, *, ca_file: str = "", cert: str = "", key: str = "") -> ClientTLS:
        """Read the PEM files; an empty *ca_file* means the system's authorities.

        :param cert: our own certificate, then its chain, for backends that ask for one.
        :param key: its unencrypted private key; empty if it is in the same file.
        :raises Refused: a file is missing or holds no usable PEM; the text names the configuration key.
        """
        if key and not cert:
            raise Refused("tls.key: given without tls.cert")
        own: dict[str, Any] = {}
        if cert:
            first, *chain = _certificates("tls.cert", cert)
            own = {"certificate": first, "extraCertChain": chain, "privateKey": _private_key(key or cert)}
        options = CertificateOptions(trustRoot=_authorities(ca_file) if ca_file else platformTrust(), **own)
        try:
            options.getContext()  # else a key that does not fit is found out by the first connection
        except SSL.Error as error:
            raise Refused(f"tls.key: {key or cert} is not the key of the certificate in {cert}: {tls_reason(error)}") from error
        return cls(name, options)

    def creator(self, refusable: Refusable) -> IOpenSSLClientConnectionCreator:
        """What makes the OpenSSL connection of one attempt; *refusable* learns the verdict."""
        return _StrictCreator(self, refusable)

    def wrap(self, factory: Factory[Any], refusable: Refusable, clock: IReactorTime) -> TLSMemoryBIOFactory:
        """What to connect with in place of *factory*, whose protocol then speaks TLS.

        Twisted's ``wrapClientTLS`` does the same to an endpoint, but not in every process of ours: see :mod:`txsse._without_tls`.
        """
        return TLSMemoryBIOFactory(self.creator(refusable), True, factory, clock=clock)


@implementer(IOpenSSLClientConnectionCreator)
class _StrictCreator:
    """What optionsForClientTLS makes, with a verification callback of our own."""

    def __init__(self, tls: ClientTLS, refusable: Refusable) -> None:
        self._tls = tls
        self._refusable = refusable

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        name, refusable = self._tls.name, self._refusable

        def verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
            if not ok:
                refusable.refusal = refusable.refusal or "certificate not trusted: " + _openssl_reason(error)
                return False
            if depth == 0:
                refusable.refusal = identity_problem(certificate.to_cryptography(), name)
                refusable.verified = not refusable.refusal
            return not refusable.refusal

        connection: SSL.Connection = self._tls._options.clientConnectionForTLS(tlsProtocol)
        if not is_ip(name):  # RFC 6066 section 3
            connection.set_tlsext_host_name(name.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection


def identity_problem(certificate: x509.Certificate, name: str) -> str:
    """Why *certificate* does not speak for *name* (RFC 9525: subjectAltName only), or an empty text."""
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        if is_ip(name):
            verify_certificate_ip_address(certificate, name)
        else:
            verify_certificate_hostname(certificate, name)
    except x509.ExtensionNotFound:
        return "certificate has no subjectAltName"
    except VerificationError:
        return "certificate is for another host"
    except (CertificateError, ValueError):
        return "certificate has an invalid subjectAltName"
    return ""


_REASONS = {
    10: "expired",
    9: "not yet valid",
    18: "self-signed",
    19: "unknown authority",
    20: "unknown authority",
    21: "unknown authority",
    23: "revoked",
    24: "invalid authority",
    26: "not for servers",
}


def _openssl_reason(error: int) -> str:
    # pyOpenSSL does not wrap X509_verify_cert_error_string; the numbers are fixed by <openssl/x509_vfy.h>.
    return _REASONS.get(error, f"error {error}")


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Refused(f"{option}: cannot read {path}: {error.strerror}") from error


def _certificates(option: str, path: str) -> list[x509.Certificate]:
    pem = _read(option, path)
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Refused(f"{option}: {path} holds no PEM certificate") from error


def _authorities(path: str) -> Any:
    found = _certificates("tls.ca_file", path)
    return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(each)) for each in found])


def _private_key(path: str) -> object:
    pem = _read("tls.key", path)
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Refused(f"tls.key: {path} holds no unencrypted PEM private key") from error
