"""All simulated vendors on one loopback port: /<slug>/... is the vendor, /_control/<slug> controls it.

The vendors that are simulated from their examples are at /vendors/<slug>/<host>/..., controlled at
/_control/vendors/<slug>.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from . import control
from .commerce_layer import CommerceLayer
from .delivery import deliver
from .example_vendor import ExampleVendors, example_slugs
from .oauth2 import OAuth2
from .signed_assertions import JwtBearer, PrivateKeyJwt
from .simulator import Simulator
from .ucommerce import Ucommerce
from .unicommerce import Unicommerce
from .unidy import Unidy
from .unified_services import UnifiedServices
from .wire import Reply, Request, json_reply

SIMULATORS: tuple[type[Simulator], ...] = (
    UnifiedServices,
    Unicommerce,
    CommerceLayer,
    Ucommerce,
    Unidy,
    OAuth2,
    PrivateKeyJwt,
    JwtBearer,
)
MAX_REQUEST_BYTES = 1024 * 1024
VENDORS = "vendors/"
ANY_VENDOR = VENDORS + "-"  # /vendors/-/<host>/...: the vendor at this address

Clock = Callable[[], datetime] | Callable[[], float]


class ProvidersServer:
    """The running simulators. `close()` (or the end of the `with` block) ends them at once, waiting faults included."""

    def __init__(self, port: int, time_scale: float, clock: Clock) -> None:
        now = _epoch_seconds(clock)
        self._simulators = {kind.slug: kind(time_scale=time_scale, now=now) for kind in SIMULATORS}
        self._vendors = ExampleVendors(time_scale=time_scale, now=now)
        self._http = _HttpServer(port, self.find, self._vendors)
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="providers", daemon=True
        )
        self._thread.start()

    def simulator(self, slug: str) -> Simulator:
        """The simulator behind /<slug>; `vendors/<slug>`: the one from the provider's examples. Raises KeyError."""
        found = self.find(slug)
        if found is None:
            raise KeyError(slug)
        return found

    def find(self, slug: str) -> Simulator | None:
        """As `simulator`; None if there is none."""
        if slug.startswith(VENDORS):
            return self._vendors.get(slug.removeprefix(VENDORS))
        return self._simulators.get(slug)

    def close(self) -> None:
        for simulator in self._simulators.values():
            simulator.waits.close()
        self._vendors.close()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def start_providers(port: int = 0, *, time_scale: float = 1.0, clock: Clock = time.time) -> ProvidersServer:
    """Starts all simulators on 127.0.0.1 (`port` 0: any free one). Raises OSError if the port is taken.

    `time_scale` multiplies every lifetime and window; `clock` gives aware datetimes or epoch seconds. Logs nothing.
    """
    if time_scale <= 0:
        raise ValueError("time_scale has to be positive")
    return ProvidersServer(port, time_scale, clock)


def _epoch_seconds(clock: Clock) -> Callable[[], float]:
    def now() -> float:
        moment = clock()
        return moment.timestamp() if isinstance(moment, datetime) else moment

    return now


def _slug_and_path(target: str) -> tuple[str, str]:
    """The simulator that a request is for, and the path below its prefix. `target`: without its query."""
    prefix = ""
    rest = target.removeprefix("/")
    if rest.startswith(VENDORS):
        prefix = VENDORS
        rest = rest.removeprefix(VENDORS)
    slug, _, path = rest.partition("/")
    return prefix + slug, "/" + path


class _HttpServer(ThreadingHTTPServer):
    """One thread per connection, and a list of open connections, so that `close` ends those kept alive."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, find: Callable[[str], Simulator | None], vendors: ExampleVendors) -> None:
        self.find = find
        self.vendors = vendors
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Binds without HTTPServer's own step, which looks up a name for 127.0.0.1."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name = "127.0.0.1"
        self.server_port = self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that hangs up. Anything else is a bug and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, finds the simulator, and leaves the socket to `deliver`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_GET(self) -> None:
        target, _, query = self.path.partition("?")
        slug, path = _slug_and_path(target)
        body = self._read_body()
        if body is None:
            return
        if slug == "_control":
            self._send(self._control(path.removeprefix("/"), body))
        elif simulator := self._simulator(slug, request := Request(self.command, path, query, self.headers, body)):
            if not deliver(simulator, request, self.connection):
                self.close_connection = True
        else:
            self._send(json_reply(404, {"error": "no such provider"}, outcome="no such provider"))

    def _simulator(self, slug: str, request: Request) -> Simulator | None:
        return self.server.vendors.for_request(request) if slug == ANY_VENDOR else self.server.find(slug)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a request line can hold a password."""

    def _read_body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            self._send(json_reply(413, {"error": "a body of a stated, small length"}, outcome="body"))
            return None
        return self.rfile.read(int(length))

    def _control(self, slug: str, body: bytes) -> Reply:
        if not slug and self.command == "GET":
            names = [*(kind.slug for kind in SIMULATORS), *(VENDORS + vendor for vendor in example_slugs())]
            return json_reply(200, {"simulators": sorted(names)}, outcome="control")
        simulator = self.server.find(slug)
        if simulator is None:
            return json_reply(404, {"error": "no such simulator"}, outcome="control")
        if self.command == "POST":
            try:
                control.apply(simulator, json.loads(body))
            except ValueError as error:
                return json_reply(400, {"error": str(error)}, outcome="control")
        elif self.command != "GET":
            return json_reply(405, {"error": "GET or POST"}, outcome="control")
        return json_reply(200, simulator.report(), outcome="control")

    def _send(self, reply: Reply) -> None:
        self.connection.sendall(reply.head(now=time.time()) + reply.body)
