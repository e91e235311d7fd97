"""An authority made on the fly, and what it certifies."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

DAY = datetime.timedelta(days=1)


@implementer(IOpenSSLContextFactory)
class ServerContext:
    """The TLS of a backend: shows the certificate in *file*; with *clients* it asks for one of theirs."""

    def __init__(self, file: str, clients: Authority | None = None) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate_chain_file(file)
        self._context.use_privatekey_file(file)
        if clients is not None:
            self._context.load_verify_locations(clients.ca_file)
            self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)

    def getContext(self) -> SSL.Context:
        return self._context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def names(*hosts: str) -> x509.SubjectAlternativeName:
    """A subjectAltName; what looks like an IP address becomes one."""
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


class Authority:
    """A private certificate authority whose files live in *folder*.

    :ivar ca_file: its own certificate.
    """

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), None)
        self.ca_file = str(folder / f"{name}.pem")
        Path(self.ca_file).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, san: x509.SubjectAlternativeName | None, *, age: int = 0) -> tuple[x509.Certificate, str]:
        """A certificate, *age* days old and good for one, and the file that holds it and its key.

        :param san: ``None``: none, as makers of private authorities tend to forget it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(common_name), key, x509.BasicConstraints(ca=False, path_length=None), san, age)
        path = self._folder / f"{common_name}-{certificate.serial_number:x}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, str(path)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        constraints: x509.BasicConstraints,
        san: x509.SubjectAlternativeName | None,
        age: int = 0,
    ) -> x509.Certificate:
        start = datetime.datetime.now(datetime.UTC) - age * DAY - DAY / 24
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + DAY)
            .add_extension(constraints, critical=True)
        )
        if san is not None:
            builder = builder.add_extension(san, critical=False)
        return builder.sign(self._key, hashes.SHA256())
