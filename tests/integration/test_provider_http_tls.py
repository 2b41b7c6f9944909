"""TLS to providers: certificate and name are always checked, and a connection's own CA replaces the system's."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.ports import LoopbackServer, listen
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError, Unreachable

LONG = timedelta(seconds=5)


class Certificate:
    """A self-signed certificate of one address, as files and as PEM."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", ended: bool = False) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vendor of the tests")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if ended else 1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.certificate_file, self.key_file = directory / "certificate.pem", directory / "key.pem"
        self.certificate_file.write_text(self.pem)
        self.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class _Vendor(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """No access log."""


class _Server(LoopbackServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients close the connection because of the certificate, as the tests expect."""


@contextmanager
def https(certificate: Certificate, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[str]:
    """Runs a server with this certificate. Yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    context.maximum_version = newest
    listener = listen(0)
    server = _Server(listener, _Vendor)
    server.socket = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path)


def send(url: str, network: NetworkOptions, timeout: timedelta = LONG) -> HttpResponse:
    request = HttpRequest("GET", f"{url}/authToken", query=(("password", "fake-not-real"),))
    return ProviderHttp(loopback=True)(request, network, timeout)


def refused(url: str, network: NetworkOptions) -> TransportError:
    with pytest.raises(TransportError) as caught:
        send(url, network)
    assert "not-real" not in repr(caught.value)
    return caught.value


def test_an_untrusted_certificate_is_a_bad_certificate(certificate: Certificate) -> None:
    with https(certificate) as url:
        error = refused(url, NetworkOptions())
    assert isinstance(error, Unreachable)
    assert error.bad_certificate


def test_a_ca_bundle_makes_it_trusted(certificate: Certificate) -> None:
    with https(certificate) as url:
        assert send(url, NetworkOptions(ca_bundle=certificate.pem)).status == 200


def test_another_ca_bundle_does_not(certificate: Certificate, tmp_path: Path) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    other = Certificate(directory)
    with https(certificate) as url:
        error = refused(url, NetworkOptions(ca_bundle=other.pem))
    assert isinstance(error, Unreachable)
    assert error.bad_certificate


@pytest.mark.parametrize("flaw", [{"address": "127.0.0.2"}, {"ended": True}], ids=["another name", "ended"])
def test_a_trusted_certificate_of_another_name_or_an_expired_one_is_bad(tmp_path: Path, flaw: dict[str, Any]) -> None:
    certificate = Certificate(tmp_path, **flaw)
    with https(certificate) as url:
        error = refused(url, NetworkOptions(ca_bundle=certificate.pem))
    assert isinstance(error, Unreachable)
    assert error.bad_certificate


def test_environment_variables_cannot_name_other_certificates(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests reads these two variables. They must not add trusted certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate.certificate_file))
    with https(certificate) as url:
        error = refused(url, NetworkOptions())
    assert isinstance(error, Unreachable)
    assert error.bad_certificate


def test_a_server_without_tls_is_unreachable() -> None:
    server = _Server(listen(0), _Vendor)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        assert isinstance(refused(f"https://127.0.0.1:{server.server_port}", NetworkOptions()), Unreachable)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_request_that_is_abandoned_while_it_is_sent_never_goes_out_in_clear(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSLSocket.shutdown` takes TLS off the socket before it closes it. The time between the two is widened here."""
    may_send = threading.Event()
    sent = threading.Event()
    wire = bytearray()

    class SlowSocket(ssl.SSLSocket):
        """A client's socket that starts to send when TLS is off or when the exchange was abandoned."""

        def send(self, data: Any, flags: int = 0) -> int:
            may_send.wait(10)
            try:
                return super().send(data, flags)
            finally:
                sent.set()

        def __setattr__(self, name: str, value: object) -> None:
            had_tls = name == "_sslobj" and getattr(self, "_sslobj", None) is not None
            super().__setattr__(name, value)
            if had_tls and value is None and not self.server_side:
                may_send.set()
                sent.wait(10)

    def record(listener: socket.socket) -> None:
        """Does the handshake, then reads what is on the wire below TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate_file, certificate.key_file)
        with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            while received := socket.socket.recv(connection, 65536):
                wire.extend(received)

    monkeypatch.setattr(ssl.SSLContext, "sslsocket_class", SlowSocket)
    with listen(0) as listener:
        recorder = threading.Thread(target=record, args=(listener,), daemon=True)
        recorder.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(OutcomeUnknown, match="time-out"):
            send(url, NetworkOptions(ca_bundle=certificate.pem), timedelta(seconds=1))
        may_send.set()
        assert sent.wait(10)
        recorder.join(10)
    assert not recorder.is_alive()
    assert b"not-real" not in wire
