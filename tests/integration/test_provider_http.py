"""One exchange over loopback: deadlines by the wall clock, no redirects, no secret in an error."""

from __future__ import annotations

import contextlib
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
    UnreadableResponse,
)

PASSWORD = "fake#p&ss+100%25 not-real"
SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=5)
OPEN = NetworkOptions()
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


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


@contextmanager
def raw_server(respond: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request and responds with raw bytes. Yields its URL."""
    listener = listen(0)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            respond(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(5)
        listener.close()


class TestResponses:
    """How a response is read from its bytes: test_provider_response.py."""

    def test_interim_responses_that_come_before_the_response_are_skipped(self) -> None:
        """RFC 9110 section 15.2. They arrive in packets of their own."""

        def respond(connection: socket.socket) -> None:
            for part in (PROCESSING, EARLY_HINTS, b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"{}"):
                connection.sendall(part)

        with raw_server(respond) as url:
            response = send(login(url))
        assert (response.status, response.body, "link" in response.headers) == (200, b"{}", False)

    def test_a_malformed_header_is_skipped_and_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """urllib3 logs the URL with its query at WARNING when it meets one."""

        def respond(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\n{}more")

        with raw_server(respond) as url:
            assert send(login(url)).body == b"{}"
        assert caplog.records == []

    @pytest.mark.parametrize("part", [PROCESSING, b"X: y\r\n"], ids=["interim responses", "headers"])
    def test_endless_heads_are_unreadable(self, part: bytes) -> None:
        """The server sends on until the broker closes the connection."""

        def respond(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                if part is not PROCESSING:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.sendall(part)

        with raw_server(respond) as url:
            assert isinstance(failing(login(url)), UnreadableResponse)


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


class SilentAddress:
    """An address that does not respond, like a host that is down: the queue of its listener is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._queued = [socket.socket() for _ in range(4)]
        for sock in self._queued:
            sock.setblocking(False)
            sock.connect_ex(self.address)

    def revive(self) -> bytes:
        """Accepts from now on, for 1.5 s: a lost SYN is repeated after one. Returns all that was received."""
        for sock in self._queued:
            sock.close()
        received = b""
        self._listener.settimeout(1.5)
        with contextlib.suppress(TimeoutError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    received += connection.recv(1024)
        return received

    def close(self) -> None:
        for sock in (self._listener, *self._queued):
            sock.close()


def address_of(url: str) -> tuple[str, int]:
    return "127.0.0.1", int(url.rpartition(":")[2])


class TestRacingAddresses:
    """RFC 8305. Names resolve to several addresses, which here differ in their ports."""

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
        """The sockets that were connected from now on, in order."""
        sockets: list[socket.socket] = []
        connect = socket.socket.connect

        def recorded(sock: socket.socket, address: Any) -> None:
            sockets.append(sock)
            connect(sock, address)

        monkeypatch.setattr(socket.socket, "connect", recorded)
        return sockets

    def resolve(self, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    @pytest.fixture
    def silent(self) -> Iterator[SilentAddress]:
        found = SilentAddress()
        yield found
        found.close()

    def test_a_silent_address_delays_the_exchange_by_a_quarter_of_a_second(
        self, monkeypatch: pytest.MonkeyPatch, opened: list[socket.socket], silent: SilentAddress
    ) -> None:
        with recorder(responding()) as server:
            self.resolve(monkeypatch, silent.address, address_of(server.url))
            started = time.monotonic()
            assert send(login("http://vendor.example/authToken")).status == 200
            assert 0.24 < time.monotonic() - started < 1.5
        assert len(server.requests) == 1
        assert [sock.fileno() for sock in opened] == [-1, -1]
        # The address that lost works again, and gets nothing.
        assert silent.revive() == b""

    def test_an_address_that_refuses_delays_nothing(
        self, monkeypatch: pytest.MonkeyPatch, opened: list[socket.socket]
    ) -> None:
        with listen(0) as closed:
            nobody = closed.getsockname()
        with recorder(responding()) as server:
            self.resolve(monkeypatch, nobody, nobody, address_of(server.url))
            started = time.monotonic()
            send(login("http://vendor.example/authToken"))
            assert time.monotonic() - started < 0.24
        # The address that is given twice is tried once.
        assert len(opened) == 2

    def test_the_first_address_is_the_only_one_while_it_works(
        self, monkeypatch: pytest.MonkeyPatch, opened: list[socket.socket]
    ) -> None:
        with recorder(responding()) as server, recorder(responding()) as other:
            self.resolve(monkeypatch, address_of(server.url), address_of(other.url))
            send(login("http://vendor.example/authToken"))
        assert (len(server.requests), len(other.requests), len(opened)) == (1, 0, 1)

    def test_silent_addresses_end_in_time_and_leave_nothing_behind(
        self, monkeypatch: pytest.MonkeyPatch, opened: list[socket.socket], silent: SilentAddress
    ) -> None:
        threads = set(threading.enumerate())
        with contextlib.closing(SilentAddress()) as other:
            self.resolve(monkeypatch, silent.address, other.address)
            started = time.monotonic()
            assert isinstance(failing(login("http://vendor.example/authToken"), SHORT), Unreachable)
            assert time.monotonic() - started < 1.5
        for thread in set(threading.enumerate()) - threads:
            thread.join(1)
        assert set(threading.enumerate()) <= threads
        assert [sock.fileno() for sock in opened] == [-1, -1]

    def test_a_name_with_many_addresses_is_tried_at_16_of_them(
        self, monkeypatch: pytest.MonkeyPatch, opened: list[socket.socket]
    ) -> None:
        with contextlib.ExitStack() as stack:
            nobody = [stack.enter_context(listen(0)).getsockname() for _ in range(50)]
        self.resolve(monkeypatch, *nobody)
        assert isinstance(failing(login("http://vendor.example/authToken")), Unreachable)
        assert len(opened) == 16

    def test_a_family_that_this_host_does_not_have_is_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with recorder(responding()) as server:
            address = address_of(server.url)
            found = [(family, socket.SOCK_STREAM, 6, "", address) for family in (12_345, socket.AF_INET)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            assert send(login("http://vendor.example/authToken")).status == 200

    def test_both_families_are_tried_in_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system may put ten IPv6 addresses first, although IPv6 leads nowhere."""
        sixes = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"2606:4700::{n}", 443, 0, 0)) for n in range(1, 4)]
        fours = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"1.1.1.{n}", 443)) for n in range(1, 3)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*sixes, *fours])
        dialled = recorded_connects(monkeypatch)
        failing(login("https://vendor.example/authToken"))
        order = [address[0] for address in dialled]
        assert order == ["2606:4700::1", "1.1.1.1", "2606:4700::2", "1.1.1.2", "2606:4700::3"]


class TestServersThatDoNotRespond:
    def test_a_handshake_that_is_abandoned_ends(self) -> None:
        """The server accepts, and never says a word. The thread ends with the exchange."""
        threads = set(threading.enumerate())
        with listen(0) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/authToken"
            assert isinstance(failing(login(url), SHORT), Unreachable)
            for thread in set(threading.enumerate()) - threads:
                thread.join(0.2)
            assert set(threading.enumerate()) <= threads
            connection, _ = listener.accept()
            with connection:
                hello = connection.recv(65_536)
                assert connection.recv(1) == b""
        assert b"vendor" not in hello
        assert b"authToken" not in hello


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
