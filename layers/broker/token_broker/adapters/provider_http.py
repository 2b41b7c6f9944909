"""Sends one request to a provider: TLS only, no redirects, no proxies, public addresses, limited in size and time.

Each exchange opens its own connection. Token requests are minutes apart. If a kept connection failed, we could not tell
whether the server had closed it earlier or had received the request, which spends a refresh token.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from token_broker import __version__
from token_broker.adapters.provider_addresses import AddressNotAllowed, connect
from token_broker.adapters.provider_response import read_response
from token_broker.core.connections import NetworkOptions
from token_broker.core.providers import DEFAULT_PORTS
from token_broker.oauth.exchange import (
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    TransportError,
    Unreachable,
    quoted_query,
)

USER_AGENT = f"token-broker/{__version__}"
_LINE_BREAK = re.compile(r"[\x00\r\n]")


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
        finally:
            self._close()
        if not self.abandoned:
            self.result = result

    def outcome(self) -> HttpResponse:
        if isinstance(self.result, HttpResponse):
            return self.result
        if self.result is not None:
            raise self.result
        raise OutcomeUnknown("time-out") if self.connected else Unreachable("time-out while connecting")

    def abandon(self) -> None:
        """Nobody waits any more. Ends a handshake or a read, and prevents a request that was not sent yet."""
        with self.lock:
            self.abandoned = True
            if self.sock is not None:
                try:
                    # SSLSocket's own shutdown drops TLS first. What is being sent would go on in clear.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
                except OSError:
                    # The server has closed it.
                    return

    def _send(self) -> HttpResponse:
        deadline = time.monotonic() + self.timeout_s
        url = urlsplit(self.request.url)
        is_secure = url.scheme == "https"
        if not is_secure and not (self.loopback and url.scheme == "http"):
            raise Unreachable("only https is allowed")
        message = self._message(url)
        sock = connect(
            url.hostname or "",
            url.port or DEFAULT_PORTS[url.scheme],
            private=self.network.private,
            loopback=self.loopback,
            deadline=deadline,
        )
        self._hold(sock, deadline)
        if is_secure:
            context = _tls(self.network.ca_bundle)
            name = (url.hostname or "").rstrip(".")
            secured = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            self._hold(secured, deadline)
            secured.do_handshake()
            sock = secured
        self._allow_sending()
        sock.sendall(message)
        with sock.makefile("rb") as stream:
            return read_response(stream)

    def _message(self, url: SplitResult) -> bytes:
        """The whole request, written once. Raises ValueError where a line break would add a header."""
        request = self.request
        query = "&".join(part for part in (url.query, quoted_query(request.query)) if part)
        headers = {
            "Host": url.netloc,
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if request.method != "GET":
            headers["Content-Length"] = str(len(request.body or b""))
        target = (url.path or "/") + (f"?{query}" if query else "")
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any(_LINE_BREAK.search(line) for line in lines):
            raise ValueError("a header has a line break")
        return "\r\n".join([*lines, "", ""]).encode("iso-8859-1") + (request.body or b"")

    def _hold(self, sock: socket.socket, deadline: float) -> None:
        """Keeps the socket, so that `abandon` can end it. Raises OSError if nobody waits any more."""
        with self.lock:
            self.sock = sock
            # Not 0: that would make the socket non-blocking.
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            if self.abandoned:
                raise OSError("abandoned")

    def _allow_sending(self) -> None:
        """The connection is open and the request may be sent. Raises OSError if nobody waits any more."""
        with self.lock:
            if self.abandoned:
                raise OSError("abandoned")
            self.connected = True

    def _close(self) -> None:
        """Under the lock: `abandon` must not end another connection that got the same file descriptor."""
        with self.lock:
            if self.sock is not None:
                self.sock.close()
                self.sock = None

    def _failed(self, error: Exception) -> TransportError:
        if self.connected:
            return OutcomeUnknown("the connection broke after sending")
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable("the certificate is not trusted", bad_certificate=True)
        if isinstance(error, AddressNotAllowed):
            return Unreachable("the address is not allowed", private_address=True)
        return Unreachable("no connection")


@lru_cache(maxsize=16)
def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer. Certificate and name are always checked. `ca_bundle` replaces the system's CA certificates.

    As curl does, and the same on every Python: a certificate of the bundle is trusted even if it is an intermediate or
    the server's own, and a CA certificate needs no key identifiers. Python 3.11 refuses the first, 3.13 the second.
    """
    context = ssl.create_default_context(cadata=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context
