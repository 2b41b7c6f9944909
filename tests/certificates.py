"""Certificates and their keys, made for one test."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate:
    """A certificate. Without `issuer` it is self-signed.

    `hosts`: the DNS names and addresses that it is for. `key_identifiers`: RFC 5280 sections 4.2.1.1 and 4.2.1.2; old
    private CAs leave them out.
    """

    def __init__(
        self,
        name: str = "vendor of the tests",
        issuer: Certificate | None = None,
        *,
        hosts: tuple[str, ...] = (),
        is_ca: bool = True,
        key_identifiers: bool = True,
        ended: bool = False,
    ) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(signer._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if ended else 1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        if key_identifiers:
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            ).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer._key.public_key()), critical=False
            )
        self.pem = builder.sign(signer._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def server_context(self, directory: Path, *chain: Certificate) -> ssl.SSLContext:
        """TLS of a server with this certificate, which sends the `chain` along."""
        certificates, key = directory / "certificate.pem", directory / "key.pem"
        certificates.write_text(self.pem + "".join(certificate.pem for certificate in chain))
        key.write_text(self.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates, key)
        return context


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
