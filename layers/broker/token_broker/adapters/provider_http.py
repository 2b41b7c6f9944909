"""Sends one request to a provider: TLS only, no redirects, no proxies, public addresses, limited in size and time.

Each exchange opens its own connection. Token requests are minutes apart. If a kept connection failed, we could not tell
whether the server had closed it earlier or had received the request, which spends a refresh token.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.poolmanager import PoolManager

from token_broker import __version__
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import (
    MAX_BODY_BYTES,
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    TransportError,
    Unreachable,
    quoted_query,
)

USER_AGENT = f"token-broker/{__version__}"
CHUNK = 8192
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# IPv4-compatible (RFC 4291 section 2.5.5.1) and NAT64 (RFC 6052 section 2.1, RFC 8215).
EMBEDDING = tuple(ipaddress.IPv6Network(prefix) for prefix in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True)
class ProviderHttp:
    """Send (see ports). `loopback`: allow http and loopback addresses (local stack only)."""

    loopback: bool = False

    def __call__(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        """One exchange within `timeout` by the wall clock. Raises Unreachable before, OutcomeUnknown after sending."""
        exchange = _Exchange(request, network, timeout.total_seconds(), self.loopback)
        # In a thread: a name lookup, or a server that sends byte by byte, cannot be interrupted, only abandoned.
        worker = threading.Thread(target=exchange.run, daemon=True)
        worker.start()
        worker.join(timeout.total_seconds())
        if worker.is_alive():
            exchange.abandon()
        return exchange.outcome()


@dataclass(slots=True)
class _Exchange:
    request: HttpRequest = field(repr=False)
    network: NetworkOptions
    timeout_s: float
    loopback: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    connected: bool = False
    abandoned: bool = False
    sock: socket.socket | None = None
    result: HttpResponse | TransportError | None = None

    def run(self) -> None:
        try:
            result: HttpResponse | TransportError = self._send()
        except TransportError as error:
            result = error
        except Exception as error:  # noqa: BLE001  # its text may hold the URL
            result = self._failed(error)
        if not self.abandoned:
            self.result = result

    def outcome(self) -> HttpResponse:
        if isinstance(self.result, HttpResponse):
            return self.result
        if self.result is not None:
            raise self.result
        raise OutcomeUnknown("time-out") if self.connected else Unreachable("time-out while connecting")

    @property
    def is_secure(self) -> bool:
        return self.request.url.lower().startswith("https://")

    def ready(self, sock: socket.socket) -> None:
        """The connection is open and the request may be sent. Raises OSError if nobody waits any more."""
        with self.lock:
            if self.abandoned:
                raise OSError("abandoned")
            self.connected, self.sock = True, sock

    def abandon(self) -> None:
        """Nobody waits any more. Ends a blocked read, and prevents a request that was not sent yet."""
        with self.lock:
            self.abandoned, sock = True, self.sock
        if sock is not None:
            try:
                # Not `sock.shutdown`: that of a TLS socket turns TLS off first, and the other thread may be sending.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                # It is closed already.
                return

    def _send(self) -> HttpResponse:
        url = self.request.url + (f"?{quoted_query(self.request.query)}" if self.request.query else "")
        with (
            self._session() as session,
            session.request(
                self.request.method,
                url,
                headers={"User-Agent": USER_AGENT, "Accept": "application/json", **self.request.headers},
                data=self.request.body,
                timeout=self.timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            return HttpResponse(
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=self._body(response),
            )

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise OutcomeUnknown("the body is too long")
        return bytes(body)

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        with _Session() as session:
            # No proxy and no .netrc: their credentials do not belong in these requests.
            session.trust_env = False
            adapter = _Adapter(self)
            session.mount("https://", adapter)
            if self.loopback:
                session.mount("http://", adapter)
            else:
                session.adapters.pop("http://", None)
            yield session

    def _failed(self, error: BaseException) -> TransportError:
        if self.connected:
            return OutcomeUnknown("the connection broke after sending")
        causes = list(_causes(error))
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return Unreachable("the certificate is not trusted", bad_certificate=True)
        if any(isinstance(cause, _AddressNotAllowed) for cause in causes):
            return Unreachable("the address is not allowed", private_address=True)
        return Unreachable("no connection")

    def connect(self, host: str, port: int) -> socket.socket:
        """Resolves a name once, checks every address, and connects to the first that accepts."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, address in found:
            if not self._is_allowed(str(address[0])):
                raise _AddressNotAllowed
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(self.timeout_s)
            try:
                sock.connect(address)
            except OSError:
                sock.close()
                continue
            self.sock = sock
            return sock
        raise OSError("nobody listens")

    def _is_allowed(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        if address.is_loopback:
            return self.loopback
        return all(self._is_public(form) for form in _embedded_addresses(address))

    def _is_public(self, address: Address) -> bool:
        if address.is_loopback:
            return self.loopback
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return False
        return address.is_global or (self.network.private and address.is_private)


def _embedded_addresses(address: Address) -> Iterator[Address]:
    """An address, and the IPv4 address that it may stand for: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if embedded is None and any(address in prefix for prefix in EMBEDDING):
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        yield embedded
    if address.ipv4_mapped is None:
        yield address


class _Session(requests.Session):
    """Ignores redirects. Even an unused one makes requests read the whole body and parse the Location."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  # requests' hook
        return None


@lru_cache(maxsize=16)
def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer. Certificate and name are always checked. `ca_bundle` replaces the system's CA certificates."""
    context = ssl.create_default_context(cadata=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _AddressNotAllowed(Exception):
    """A name resolves to an address that the broker may not connect to."""


class _Adapter(HTTPAdapter):
    """Makes urllib3 connect as the exchange does."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        super().__init__(max_retries=0)

    def init_poolmanager(self, *_args: Any, **_kwargs: Any) -> None:
        exchange = self._exchange

        def new_connection(connection: HTTPConnection) -> socket.socket:
            try:
                return exchange.connect(connection.host, connection.port)
            except OSError as error:
                raise NewConnectionError(connection, "no connection") from error

        class Plain(HTTPConnection):
            _new_conn = new_connection

            def connect(self) -> None:
                super().connect()
                exchange.ready(self.sock)

        class Secure(HTTPSConnection):
            _new_conn = new_connection

            def connect(self) -> None:
                super().connect()
                exchange.ready(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager = PoolManager(
            num_pools=1, maxsize=1, ssl_context=_tls(exchange.network.ca_bundle) if exchange.is_secure else None
        )
        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
        self.poolmanager = manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Does nothing: the TLS context has the certificates. requests would replace them with its own."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it wraps. urllib3 keeps causes in `reason` and in the arguments too."""
    visited: set[int] = set()
    pending: list[object] = [error]
    while pending:
        found = pending.pop()
        if isinstance(found, BaseException) and id(found) not in visited:
            visited.add(id(found))
            yield found
            pending += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
