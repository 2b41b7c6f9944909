"""TLS to providers: certificate and name are always checked, and a connection's own CA replaces the system's."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.ports import LoopbackServer, listen
from tests.certificates import Certificate
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError, Unreachable

LONG = timedelta(seconds=5)
HOST = "127.0.0.1"


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
def https(context: ssl.SSLContext) -> Iterator[str]:
    """Runs a server with this TLS. Yields its URL."""
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
def certificate() -> Certificate:
    """A self-signed certificate of the server's address."""
    return Certificate(hosts=(HOST,))


@pytest.fixture
def context(certificate: Certificate, tmp_path: Path) -> ssl.SSLContext:
    """TLS of a server with that certificate."""
    return certificate.server_context(tmp_path)


def send(url: str, network: NetworkOptions, timeout: timedelta = LONG) -> HttpResponse:
    request = HttpRequest("GET", f"{url}/authToken", query=(("password", "fake-not-real"),))
    return ProviderHttp(loopback=True)(request, network, timeout)


def refused(url: str, network: NetworkOptions) -> TransportError:
    with pytest.raises(TransportError) as caught:
        send(url, network)
    assert "not-real" not in repr(caught.value)
    return caught.value


def bad_certificate(url: str, network: NetworkOptions) -> bool:
    error = refused(url, network)
    return isinstance(error, Unreachable) and error.bad_certificate


def test_an_untrusted_certificate_is_a_bad_certificate(context: ssl.SSLContext) -> None:
    with https(context) as url:
        assert bad_certificate(url, NetworkOptions())
        assert bad_certificate(url, NetworkOptions(ca_bundle=Certificate(hosts=(HOST,)).pem))


class Chain:
    """A server's certificate, the intermediate that issued it, and the root."""

    def __init__(self, *, key_identifiers: bool = True) -> None:
        self.root = Certificate("root", key_identifiers=key_identifiers)
        self.intermediate = Certificate("intermediate", self.root, key_identifiers=key_identifiers)
        self.server = self.issue()
        self.own = Certificate("own", hosts=(HOST,), is_ca=False)

    def issue(self, **changes: Any) -> Certificate:
        return Certificate("server", self.intermediate, hosts=(HOST,), is_ca=False, **changes)


@pytest.mark.parametrize("key_identifiers", [True, False], ids=["key identifiers", "no key identifiers"])
@pytest.mark.parametrize(
    ("bundled", "sent_along", "accepted"),
    [
        (("root",), ("intermediate",), True),
        (("root", "intermediate"), (), True),
        (("root",), (), False),
        (("intermediate",), (), True),
        (("intermediate",), ("intermediate",), True),
        (("intermediate",), ("intermediate", "root"), True),
        (("server",), (), True),
        (("server",), ("intermediate", "root"), True),
        (("own",), ("intermediate", "root"), False),
    ],
)
def test_a_ca_bundle_may_hold_any_certificate_of_the_chain(
    bundled: tuple[str, ...], sent_along: tuple[str, ...], accepted: bool, key_identifiers: bool, tmp_path: Path
) -> None:
    """As with curl, and on every Python: 3.11 by itself refuses partial chains, 3.13 missing key identifiers."""
    chain = Chain(key_identifiers=key_identifiers)
    network = NetworkOptions(ca_bundle="".join(getattr(chain, name).pem for name in bundled))
    context = chain.server.server_context(tmp_path, *(getattr(chain, name) for name in sent_along))
    with https(context) as url:
        if accepted:
            assert send(url, network).status == 200
        else:
            assert bad_certificate(url, network)


@pytest.mark.parametrize("is_ca", [True, False])
def test_a_self_signed_certificate_in_the_ca_bundle_is_trusted(is_ca: bool, tmp_path: Path) -> None:
    certificate = Certificate(hosts=(HOST,), is_ca=is_ca, key_identifiers=False)
    with https(certificate.server_context(tmp_path)) as url:
        assert send(url, NetworkOptions(ca_bundle=certificate.pem)).status == 200


def test_a_server_certificate_in_the_ca_bundle_vouches_for_no_other(tmp_path: Path) -> None:
    chain = Chain()
    with https(chain.issue().server_context(tmp_path)) as url:
        assert bad_certificate(url, NetworkOptions(ca_bundle=chain.server.pem))


@pytest.mark.parametrize("is_ca", [True, False])
@pytest.mark.parametrize("flaw", [{"hosts": ("127.0.0.2",)}, {"ended": True}], ids=["another name", "ended"])
def test_a_trusted_certificate_of_another_name_or_an_expired_one_is_bad(
    tmp_path: Path, flaw: dict[str, Any], is_ca: bool
) -> None:
    certificate = Certificate(**{"hosts": (HOST,), "is_ca": is_ca, **flaw})
    with https(certificate.server_context(tmp_path)) as url:
        assert bad_certificate(url, NetworkOptions(ca_bundle=certificate.pem))


def test_environment_variables_cannot_name_other_certificates(
    context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP libraries read these two variables. They must not add trusted certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "certificate.pem"))
    with https(context) as url:
        assert bad_certificate(url, NetworkOptions())


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
    certificate: Certificate, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
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
