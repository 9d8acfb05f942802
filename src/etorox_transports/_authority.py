"""`Authority`: certificates for servers on this machine, signed by an authority that nobody knows.

For demonstrations and tests: `etorox simulate --tls` and the conformance cases use it. Keys are made anew each time.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Authority", "new_server_context"]

_HOUR = datetime.timedelta(hours=1)
_WEEK = datetime.timedelta(days=7)


@final
class Authority:
    """An authority.

    Args:
        name: what it calls itself.

    Attributes:
        certificate: for clients to trust, in PEM.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        root = self._certify(self._key, name, (), until=_WEEK, is_authority=True)
        self.certificate = root.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Sequence[str], *, is_expired: bool = False) -> bytes:
        """A private key and a certificate for these hosts, names or addresses, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._certify(key, names[0], names, until=-_HOUR / 2 if is_expired else _WEEK, is_authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private + leaf.public_bytes(serialization.Encoding.PEM)

    def _certify(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: str,
        hosts: Sequence[str],
        *,
        until: datetime.timedelta,
        is_authority: bool,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _HOUR)
            .not_valid_after(now + until)
            .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if is_authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_host, hosts)]), critical=False)
            purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def new_server_context(chain: bytes) -> ssl.SSLContext:
    """The server's side of TLS with what `Authority.issue` gave."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # readable by us alone, and Python reads keys from files only
        file = Path(folder) / "server.pem"
        file.write_bytes(chain)
        context.load_cert_chain(file)
    return context


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
