"""Addresses of providers: rebound names, unusual spellings, old TLS, certificates of other connections.

See tests/integration/test_provider_http.py and test_provider_http_tls.py for addresses, redirects, sizes and deadlines.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.ports import LoopbackServer, listen
from tests.certificates import Certificate
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


def resolving(monkeypatch: pytest.MonkeyPatch, *responses: list[str]) -> list[str]:
    """Makes names resolve to these addresses, one list per lookup, then the last. Returns the names looked up."""
    looked_up: list[str] = []
    left = list(responses)

    def look_up(host: str, port: int, **_: Any) -> Any:
        looked_up.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return looked_up


def dialling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the addresses that are connected to. Nothing listens there."""
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
    def test_a_name_is_looked_up_once_so_rebinding_has_no_effect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked_up = resolving(monkeypatch, ["1.1.1.1"], ["169.254.169.254"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token")
        assert (looked_up, dialled) == (["vendor.example"], ["1.1.1.1"])

    def test_after_a_failed_address_the_next_checked_one_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked_up = resolving(monkeypatch, ["1.1.1.1", "1.0.0.1"], ["169.254.169.254"])
        dialled = dialling(monkeypatch)
        refused("https://vendor.example/token")
        assert (looked_up, dialled) == (["vendor.example"], ["1.1.1.1", "1.0.0.1"])

    @pytest.mark.parametrize(
        "host",
        [
            *("localhost", "localhost.", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"),
            *("0", "0.0.0.0"),  # noqa: S104  # to be refused
            *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:0]", "[::ffff:169.254.169.254]"),
            *("[fe80::1%251]", "[64:ff9b::7f00:1]", "169.254.169.254", "169.254.169.254.", "0xa9fea9fe"),
        ],
    )
    def test_no_spelling_of_a_private_address_is_connected_to(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Uses the system's own resolver, which accepts numbers in every notation."""
        dialled = dialling(monkeypatch)
        assert isinstance(refused(f"https://{host}/token", NetworkOptions(private=True)), Unreachable)
        assert dialled == []


class TestPrivateNetworks:
    @pytest.mark.parametrize(("setting", "switch"), [(True, True), (True, False), (False, True), (False, False)])
    def test_a_private_address_needs_the_setting_and_the_deployments_option(self, setting: bool, switch: bool) -> None:
        world, private_options = World(), []

        def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
            private_options.append(network.private)
            return world.provider(request, network, timeout)

        name = world.connection("oauth2", private_network=setting)
        world.get_token(world.instance(send=send, deployment=Deployment(private_networks=switch)), name)
        assert private_options == [setting and switch]


class Vendor(Certificate):
    """A certificate of one name, and the names by which clients called its server (SNI)."""

    def __init__(self, directory: Path, name: str = "vendor.example") -> None:
        super().__init__(hosts=(name,))
        self.name = name
        self.called: list[str | None] = []
        self._directory = directory

    def context(self) -> ssl.SSLContext:
        context = self.server_context(self._directory)

        def called(_sock: Any, name: str | None, _context: Any) -> None:
            self.called.append(name)

        context.set_servername_callback(called)
        return context


class _Quiet(LoopbackServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients close the connection, as the tests expect."""


def ok(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"{}")


@contextmanager
def serving(
    context: ssl.SSLContext | None, response: Callable[[BaseHTTPRequestHandler], None] = ok
) -> Iterator[tuple[int, list[str]]]:
    """Runs a server on loopback. Yields its port and the Host headers that it received."""
    hosts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hosts.append(self.headers["Host"])
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            response(self)

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
    def test_name_and_certificate_are_those_of_the_url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The connection is made to an address, but TLS uses the URL's name, without a trailing dot."""
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, hosts):
            for host in ("vendor.example", "vendor.example."):
                assert send(f"https://{host}:{port}/token", NetworkOptions(ca_bundle=vendor.pem)).status == 200
        assert vendor.called == ["vendor.example"] * 2
        assert hosts[0] == f"vendor.example:{port}"

    def test_the_case_of_the_scheme_changes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RFC 3986 section 3.1. Settings accept any case, so ca_bundle must apply there too."""
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, _):
            url = f"HTTPS://vendor.example:{port}/token"
            assert send(url, NetworkOptions(ca_bundle=vendor.pem)).status == 200
            error = refused(url, NetworkOptions(), loopback=True)
        assert isinstance(error, Unreachable)
        assert error.bad_certificate

    def test_the_certificate_of_another_name_is_rejected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        vendor = Vendor(tmp_path)
        resolving(monkeypatch, [LOOPBACK])
        with serving(vendor.context()) as (port, hosts):
            error = refused(f"https://other.example:{port}/token", NetworkOptions(ca_bundle=vendor.pem), loopback=True)
        assert isinstance(error, Unreachable)
        assert error.bad_certificate
        assert hosts == []

    def test_a_ca_bundle_applies_only_to_its_own_connection(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two connections to the same host, in both orders: they share no connection, session or TLS context."""
        vendor, other = Vendor(tmp_path), Vendor(tmp_path)
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
    def test_tls_older_than_1_2_is_rejected(
        self, newest: str, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vendor = Vendor(tmp_path)
        context = vendor.context()
        lenient = ssl.create_default_context(cadata=vendor.pem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this test needs an old version
            for found in (context, lenient):
                found.set_ciphers("ALL:@SECLEVEL=0")
                found.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion[newest]
        with serving(context) as (port, hosts):
            # The server does accept the old version from another client.
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
    def test_a_body_that_decompresses_to_too_much_is_an_unknown_outcome(self) -> None:
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
