"""HTTP/1.1 over a listening socket, with a thread for each connection. Connections stay open."""

import contextlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final

from token_broker_cli.agent.responses import AgentProblem, Response, problem
from token_broker_cli.agent.routes import Request, Routes

IDLE_S: Final = 75.0
STOP_S: Final = 10.0  # how long requests under way may take after `stop`
MAX_CONNECTIONS: Final = 512
LARGEST_BODY: Final = 128 * 1024


class Server(ThreadingMixIn, TCPServer):
    """Serves `routes` on `listener`, a TCP or Unix socket, from `serve_forever` to `stop`."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, routes: Routes) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.routes = routes
        self.stopping = False
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()

    def stop(self) -> None:
        """Accepts no more connections, waits for the requests under way, closes all connections. Idempotent.

        Called in another thread than `serve_forever`.
        """
        self.stopping = True
        self.shutdown()
        self.socket.close()
        with self._changed:
            for connection in self._connections:
                # An idle connection ends. A response under way can still be sent.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._connections, STOP_S)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # the base class's signature
        """Whether one more connection may be served."""
        with self._changed:
            return len(self._connections) < MAX_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Called when a connection has ended."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that hangs up. Anything else is a bug and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes responses. Logs nothing: a path or a header could hold a secret."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "token-broker-agent"
    sys_version = ""
    timeout = IDLE_S
    wbufsize = -1  # buffered: head and body leave in one segment

    def _serve(self) -> None:
        body = self._read_body()
        if body is not None:
            self._write(self.server.routes.respond(Request(self.command, self.path, self.headers, body)))

    def _read_body(self) -> bytes | None:
        """The body; None if the request was answered or the client is gone."""
        length = self.headers.get("Content-Length", "0")
        sized = length.isascii() and length.isdecimal() and len(self.headers.get_all("Content-Length", [])) <= 1
        if "Transfer-Encoding" in self.headers or not sized or int(length) > LARGEST_BODY:
            self.send_error(400, f"send a body of at most {LARGEST_BODY} bytes with one Content-Length")
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def __getattr__(self, name: str) -> Any:
        """Serves every method: http.server looks for do_GET and so on."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002  # as above
        """http.server calls this for what is not HTTP. The message may repeat the request, so only ours is sent."""
        self.close_connection = True
        detail = message if message and message.startswith("send a body") else "The request is not well-formed."
        self._write(problem(AgentProblem(int(code), "invalid_request", detail)))

    def _write(self, response: Response) -> None:
        self.request_version = self.protocol_version  # http.server writes no head to what looks like HTTP/0.9
        if self.server.stopping:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        if response.retry_after is not None:
            self.send_header("Retry-After", str(response.retry_after))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Writes nothing."""
