"""Where a provider's address leads: names that are rebound or oddly spelt, old TLS, certificates of other connections.

Single addresses, redirects, caps and deadlines: tests/integration/test_sender.py, test_sender_tls.py.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.ports import LoopbackServer, listen
from tests.fakes import World
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import (
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    TransportError,
    Unreachable,
)
from token_broker.service.context import Deployment

TIME = timedelta(seconds=5)
LOOPBACK = "127.0.0.1"


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to these addresses, one list per look-up, the last for good. The names that were looked up."""
    looked_up: list[str] = []
    left = list(answers)

    def look_up(host: str, port: int, **_: Any) -> Any:
        looked_up.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return looked_up


def dialling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are dialled; nobody listens at any."""
    dialled: list[str] = []

    def connect(_sock: socket.socket, address: Any) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return dialled


def refused(url: str, network: NetworkOptions | None = None, *, loopback: bool = False) -> TransportError:
    with pytest.raises(TransportError) as caught:
        ProviderHttp(loopback=loopback)(HttpRequest("POST", url, body=b"{}"), network or NetworkOptions(), TIME)
    return caught.value


class TestNames:
    def test_a_name_is_looked_up_once_so_that_it_cannot_be_rebound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked_up = resolving(monkeypatch, ["1.1.1.1"], ["169.254.169.254"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token")
        assert (looked_up, dialled) == (["vendor.example"], ["1.1.1.1"])

    def test_the_next_exchange_checks_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        resolving(monkeypatch, ["1.1.1.1"], ["169.254.169.254"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token")
        error = refused("https://vendor.example/token")
        assert isinstance(error, Unreachable)
        assert error.private_address
        assert dialled == ["1.1.1.1"]

    def test_where_one_address_does_not_answer_the_next_checked_one_is_dialled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_up = resolving(monkeypatch, ["1.1.1.1", "1.0.0.1"], ["169.254.169.254"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token")
        assert (looked_up, dialled) == (["vendor.example"], ["1.1.1.1", "1.0.0.1"])

    @pytest.mark.parametrize("host", ["vendor.example.", "vendor.example", "VENDOR.example"])
    def test_a_trailing_dot_or_another_case_is_checked_alike(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        resolving(monkeypatch, ["10.0.0.1"])
        dialled = dialling(monkeypatch)
        error = refused(f"https://{host}/token")
        assert isinstance(error, Unreachable)
        assert error.private_address
        assert dialled == []

    @pytest.mark.parametrize(
        "host",
        [
            *("localhost", "localhost.", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"),
            *("0", "0.0.0.0"),  # noqa: S104  # to be refused
            *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:0]", "[::ffff:169.254.169.254]"),
            *("[fe80::1%251]", "[64:ff9b::7f00:1]", "169.254.169.254", "169.254.169.254.", "0xa9fea9fe"),
        ],
    )
    def test_no_spelling_of_an_inner_address_is_dialled(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the system's own resolver, which reads numbers in every notation."""
        dialled = dialling(monkeypatch)
        assert isinstance(refused(f"https://{host}/token", NetworkOptions(private=True)), Unreachable)
        assert dialled == []


class TestPrivateNetworks:
    @pytest.mark.parametrize(("setting", "switch"), [(True, True), (True, False), (False, True), (False, False)])
    def test_a_private_address_takes_the_setting_and_the_deployments_switch(self, setting: bool, switch: bool) -> None:
        world, seen = World(), []

        def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
            seen.append(network.private)
            return world.provider(request, network, timeout)

        name = world.connection("oauth2", private_network=setting)
        world.ask(world.instance(send=send, deployment=Deployment(private_networks=switch)), name)
        assert seen == [setting and switch]

    @pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"])  # noqa: S104
    def test_the_machine_itself_and_its_metadata_are_never_private_networks(
        self, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolving(monkeypatch, [address])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token", NetworkOptions(private=True))
        assert dialled == []

    @pytest.mark.parametrize(("private", "dials"), [(True, ["10.1.2.3"]), (False, [])])
    def test_a_private_address_is_dialled_where_it_is_allowed(
        self, private: bool, dials: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolving(monkeypatch, ["10.1.2.3"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token", NetworkOptions(private=private))
        assert dialled == dials


class Vendor:
    """A certificate of one name, and what a server with it was called by its clients (SNI)."""

    def __init__(self, directory: Path, name: str = "vendor.example") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.name = name
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.called: list[str | None] = []
        directory.mkdir(exist_ok=True)
        self._files = directory / "certificate.pem", directory / "key.pem"
        self._files[0].write_text(self.pem)
        self._files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)

        def called(_sock: Any, name: str | None, _context: Any) -> None:
            self.called.append(name)

        context.set_servername_callback(called)
        return context


class _Quiet(LoopbackServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what the tests want."""


def ok(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"{}")


@contextmanager
def serving(
    context: ssl.SSLContext | None, answer: Callable[[BaseHTTPRequestHandler], None] = ok
) -> Iterator[tuple[int, list[str]]]:
    """A server on loopback; its port, and the Host headers that it was sent."""
    hosts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hosts.append(self.headers["Host"])
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer(self)

        def log_message(self, *_: Any) -> None:
            """No access log."""

    listener = listen(0)
    server = _Quiet(listener, Handler)
    if context is not None:
        server.socket = context.wrap_socket(listener, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port, hosts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(url: str, network: NetworkOptions) -> HttpResponse:
    return ProviderHttp(loopback=True)(HttpRequest("POST", url, body=b"{}"), network, TIME)


class TestTls:
    def test_the_checked_address_is_dialled_under_the_name_of_the_url(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Name and certificate are the URL's though an address is dialled; a trailing dot is no part of either."""
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, hosts):
            for host in ("vendor.example", "vendor.example."):
                assert send(f"https://{host}:{port}/token", NetworkOptions(ca_bundle=vendor.pem)).status == 200
        assert vendor.called == ["vendor.example"] * 2
        assert hosts[0] == f"vendor.example:{port}"

    def test_the_case_of_the_scheme_changes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RFC 3986 section 3.1. Settings admit it, so the connection's own authority must count there too."""
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, _):
            url = f"HTTPS://vendor.example:{port}/token"
            assert send(url, NetworkOptions(ca_bundle=vendor.pem)).status == 200
            error = refused(url, NetworkOptions(), loopback=True)
        assert isinstance(error, Unreachable)
        assert error.bad_certificate

    def test_the_certificate_of_another_name_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, hosts):
            error = refused(f"https://other.example:{port}/token", NetworkOptions(ca_bundle=vendor.pem), loopback=True)
        assert isinstance(error, Unreachable)
        assert error.bad_certificate
        assert hosts == []

    def test_what_one_connection_trusts_no_other_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Same host, one after the other, in every order: no connection, session or context of TLS is shared."""
        vendor, other = Vendor(tmp_path / "a"), Vendor(tmp_path / "b")
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, _):
            url = f"https://vendor.example:{port}/token"
            for _ in range(2):
                assert send(url, NetworkOptions(ca_bundle=vendor.pem)).status == 200
                for network in (NetworkOptions(), NetworkOptions(ca_bundle=other.pem)):
                    error = refused(url, network, loopback=True)
                    assert isinstance(error, Unreachable)
                    assert error.bad_certificate

    @pytest.mark.parametrize(("newest", "accepted"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
    def test_tls_1_2_is_the_least(
        self, newest: str, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vendor = Vendor(tmp_path)
        context = vendor.context()
        lenient = ssl.create_default_context(cadata=vendor.pem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # naming an old version is what this test is about
            for found in (context, lenient):
                found.set_ciphers("ALL:@SECLEVEL=0")
                found.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion[newest]
        with serving(context) as (port, hosts):
            # The server does speak it, to whoever is content with that.
            with (
                socket.create_connection((LOOPBACK, port)) as plain,
                lenient.wrap_socket(plain, server_hostname=vendor.name) as sock,
            ):
                assert sock.version() == newest.replace("_", ".")
            resolving(monkeypatch, [LOOPBACK])
            if accepted:
                assert send(f"https://vendor.example:{port}/token", NetworkOptions(ca_bundle=vendor.pem)).status == 200
            else:
                error = refused(
                    f"https://vendor.example:{port}/token", NetworkOptions(ca_bundle=vendor.pem), loopback=True
                )
                assert isinstance(error, Unreachable)
                assert hosts == []


class TestAnswers:
    def test_headers_without_end_are_no_answer(self) -> None:
        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            for number in range(2000):
                handler.send_header(f"X-Header-{number}", "x" * 100)
            handler.end_headers()

        with serving(None, endless) as (port, _):
            error = refused(f"http://{LOOPBACK}:{port}/token", loopback=True)
        assert isinstance(error, OutcomeUnknown)

    def test_a_body_that_unpacks_to_more_than_the_cap_is_no_answer(self) -> None:

        packed = gzip.compress(b"x" * (16 * 1024 * 1024))

        def bomb(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Encoding", "gzip")
            handler.send_header("Content-Length", str(len(packed)))
            handler.end_headers()
            handler.wfile.write(packed)

        assert len(packed) < 64 * 1024
        with serving(None, bomb) as (port, _):
            error = refused(f"http://{LOOPBACK}:{port}/token", loopback=True)
        assert isinstance(error, OutcomeUnknown)
