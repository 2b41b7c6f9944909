"""One exchange over loopback: deadlines by the wall clock, no redirects, no secret in an error."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.ports import LoopbackServer, listen
from local.providers import ProvidersServer
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import (
    MAX_BODY_BYTES,
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    TransportError,
    Unreachable,
)

PASSWORD = "fake#p&ss+100%25 not-real"
SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=5)
OPEN = NetworkOptions()


class Recorder:
    """A server on loopback that records requests and gives a set response."""

    def __init__(self, respond: Callable[[BaseHTTPRequestHandler], None]) -> None:
        recorder = self
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recorder.requests.append((f"{self.command} {self.path}", headers, body))
                respond(self)

            do_GET = do_POST = _any  # noqa: N815  # http.server's names

            def log_message(self, *_: Any) -> None:
                """No access log."""

        self.server = LoopbackServer(listen(0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@contextmanager
def recorder(respond: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Recorder]:
    running = Recorder(respond)
    try:
        yield running
    finally:
        running.close()


def responding(
    body: bytes = b"{}", status: int = 200, headers: dict[str, str] | None = None
) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def login(url: str) -> HttpRequest:
    """A request whose URL holds a password."""
    return HttpRequest("GET", url, query=(("username", "fake.seller"), ("password", PASSWORD)))


def send(request: HttpRequest, timeout: timedelta = LONG, network: NetworkOptions = OPEN) -> HttpResponse:
    return ProviderHttp(loopback=True)(request, network, timeout)


def failing(request: HttpRequest, timeout: timedelta = LONG, network: NetworkOptions = OPEN) -> TransportError:
    """The error of an exchange. Checks that it holds no secret."""
    with pytest.raises(TransportError) as caught:
        send(request, timeout, network)
    texts = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value), repr(vars(caught.value))]
    for secret in (PASSWORD, "not-real", "%26ss", "fake.seller", "username="):
        assert not any(secret in text for text in texts)
    return caught.value


def recorded_connects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that are connected to from now on. Nothing listens there."""
    dialled: list[Any] = []

    def connect(_sock: socket.socket, address: Any) -> None:
        dialled.append(address)
        raise ConnectionRefusedError(111, PASSWORD)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return dialled


class TestRequests:
    def test_the_request_arrives_unchanged(self) -> None:
        with recorder(responding(b'{"a": 1}', headers={"X-Test": "Yes"})) as server:
            headers = {"Content-Type": "application/json", "Authorization": "Basic Zm9v"}
            response = send(HttpRequest("POST", f"{server.url}/prefix/token", headers=headers, body=b"{}"))
        assert (response.status, response.body, response.headers["x-test"]) == (200, b'{"a": 1}', "Yes")
        ((line, headers, body),) = server.requests
        assert (line, body) == ("POST /prefix/token", b"{}")
        assert headers["content-type"] == "application/json"
        assert headers["authorization"] == "Basic Zm9v"
        assert headers["user-agent"].startswith("token-broker/")
        assert headers["accept"] == "application/json"

    def test_query_values_are_percent_encoded_once(self) -> None:
        with recorder(responding()) as server:
            send(login(f"{server.url}/authToken"))
        assert server.requests[0][0].endswith("password=fake%23p%26ss%2B100%2525%20not-real")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_returned_and_not_followed(self, status: int) -> None:
        with recorder(responding()) as elsewhere:
            location = {"Location": f"{elsewhere.url}/caught?code=a%2Bb"}
            with recorder(responding(b"", status, location)) as server:
                response = send(login(f"{server.url}/authToken"))
            assert (response.status, response.headers["location"]) == (status, location["Location"])
            assert elsewhere.requests == []

    def test_every_exchange_has_a_connection_of_its_own(self) -> None:
        ports = []

        def respond(handler: BaseHTTPRequestHandler) -> None:
            ports.append(handler.client_address[1])
            responding()(handler)

        with recorder(respond) as server:
            sender = ProviderHttp(loopback=True)
            for _ in range(2):
                sender(HttpRequest("GET", server.url), OPEN, LONG)
        assert len(set(ports)) == 2


class TestBodies:
    def test_a_body_up_to_the_size_limit_is_read(self) -> None:
        with recorder(responding(b"x" * MAX_BODY_BYTES)) as server:
            assert len(send(HttpRequest("GET", server.url)).body) == MAX_BODY_BYTES

    def test_a_body_over_the_size_limit_is_an_unknown_outcome(self) -> None:
        with recorder(responding(b"x" * (MAX_BODY_BYTES + 1))) as server:
            assert isinstance(failing(login(server.url)), OutcomeUnknown)

    def test_a_body_over_the_size_limit_is_not_read_to_its_end(self, running_providers: ProvidersServer) -> None:
        simulator = running_providers.simulator("oauth2")
        simulator.reset()
        simulator.fail("huge", size=2**30)
        started = time.monotonic()
        assert isinstance(failing(HttpRequest("POST", f"{running_providers.url}/oauth2/token")), OutcomeUnknown)
        assert time.monotonic() - started < 3

    @pytest.mark.parametrize("kind", ["truncate", "reset"])
    def test_a_response_that_breaks_off_is_an_unknown_outcome(
        self, running_providers: ProvidersServer, kind: str
    ) -> None:
        simulator = running_providers.simulator("unicommerce")
        simulator.reset()
        simulator.fail(kind)
        assert isinstance(failing(login(f"{running_providers.url}/unicommerce/authToken")), OutcomeUnknown)


class TestDeadlines:
    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "hang"},
            {"kind": "delay", "seconds": 30},
            {"kind": "drip", "seconds": 0.05},
            {"kind": "drip", "seconds": 0.05, "part": "all"},
        ],
        ids=lambda fault: "-".join(str(value) for value in fault.values()),
    )
    def test_the_wall_clock_ends_an_exchange(self, running_providers: ProvidersServer, fault: dict[str, Any]) -> None:
        simulator = running_providers.simulator("unicommerce")
        simulator.reset()
        simulator.fail(**fault)
        started = time.monotonic()
        error = failing(login(f"{running_providers.url}/unicommerce/authToken"), SHORT)
        assert isinstance(error, OutcomeUnknown)
        assert 0.2 < time.monotonic() - started < 1.5
        simulator.waits.drop()

    def test_a_server_that_never_accepts_does_not_hold_the_caller(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            started = time.monotonic()
            failing(login(f"http://127.0.0.1:{listener.getsockname()[1]}/authToken"), SHORT)
            assert time.monotonic() - started < 1.5

    def test_nothing_is_sent_after_unreachable_was_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name lookup takes longer than the exchange. By then the broker may have repeated the request."""
        raised, resolve = threading.Event(), socket.getaddrinfo

        def slow(*arguments: Any, **named: Any) -> Any:
            raised.wait(5)
            return resolve(*arguments, **named)

        before = set(threading.enumerate())
        with recorder(responding()) as server:
            monkeypatch.setattr(socket, "getaddrinfo", slow)
            assert isinstance(failing(login(f"{server.url}/authToken"), SHORT), Unreachable)
            left = set(threading.enumerate()) - before - {server._thread}
            raised.set()
            for thread in left:
                thread.join(5)
            assert server.requests == []


class TestAddresses:
    def test_a_refused_connection_is_unreachable(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        assert isinstance(failing(login(f"http://127.0.0.1:{port}/authToken")), Unreachable)

    def test_a_name_that_does_not_resolve_is_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(-2, f"Name or service not known: {PASSWORD}")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert isinstance(failing(login("https://nowhere.example/authToken")), Unreachable)

    def test_http_and_loopback_are_only_for_the_local_stack(self) -> None:
        with recorder(responding()) as server:
            for url in (server.url, server.url.replace("http:", "https:")):
                with pytest.raises(Unreachable):
                    ProviderHttp()(login(url), NetworkOptions(private=True), LONG)
            assert server.requests == []

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"),  # noqa: S104  # to be refused
            *("10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1", "100.64.0.1"),
            *("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254"),
            *("224.0.0.1", "ff02::1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
            # IPv6 forms of an IPv4 address: IPv4-compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
            *("::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:a00:1::"),
        ],
    )
    def test_no_connection_is_made_to_an_address_that_is_not_public(
        self, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        target = (address, 443, 0, 0) if ":" in address else (address, 443)
        found = [(family, socket.SOCK_STREAM, 6, "", target)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        dialled = recorded_connects(monkeypatch)
        with pytest.raises(Unreachable, match="not allowed"):
            ProviderHttp()(login("https://vendor.example/authToken"), OPEN, LONG)
        assert dialled == []

    @pytest.mark.parametrize("private", [True, False])
    def test_a_name_with_one_address_that_is_not_public_is_rejected(
        self, private: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        addresses = ["1.1.1.1", "169.254.169.254" if private else "10.0.0.1"]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        dialled = recorded_connects(monkeypatch)
        with pytest.raises(Unreachable, match="not allowed"):
            ProviderHttp()(login("https://vendor.example/"), NetworkOptions(private=private), LONG)
        assert dialled == []

    @pytest.mark.parametrize(
        ("address", "network"),
        [("1.1.1.1", NetworkOptions()), ("10.0.0.1", NetworkOptions(private=True)), ("10.0.0.1", None)],
    )
    def test_the_checked_address_is_the_one_that_is_connected_to(
        self, address: str, network: NetworkOptions | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lookups: list[str] = []
        dialled = recorded_connects(monkeypatch)

        def look_up(host: str, port: int, **_: Any) -> Any:
            lookups.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(Unreachable):
            ProviderHttp()(login("https://vendor.example:8443/authToken"), network or OPEN, LONG)
        assert lookups == ["vendor.example"]
        assert dialled == ([] if network is None else [(address, 8443)])

    def test_proxies_and_netrc_of_the_environment_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with recorder(responding()) as proxy, recorder(responding()) as server:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            send(login(f"{server.url}/authToken"))
        assert proxy.requests == []
        ((_, headers, _),) = server.requests
        assert "authorization" not in headers
        assert "cookie" not in headers
