"""The console's HTTP server, on 127.0.0.1 only. It writes no log: a URL can hold a link's code."""

import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from token_broker_cli.console.messages import Request, Response

LOOPBACK: Final = "127.0.0.1"
LARGEST_BODY: Final = 1024 * 1024
IDLE_S: Final = 30
Respond = Callable[[Request], Response]


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1:`port` (0: any free one). Raises OSError."""
    return socket.create_server((LOOPBACK, port))


class Server:
    """Serves `respond` on a listening socket, with a thread per connection."""

    def __init__(self, listener: socket.socket, respond: Respond) -> None:
        class Handler(_Handler):
            pass

        Handler.respond = staticmethod(respond)
        self._server = _ThreadingServer(listener, Handler)
        # The poll interval only delays the end.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving and frees the port. Idempotent."""
        self._server.shutdown()
        self._server.server_close()


def received(method: str, target: str, headers: Any, body: bytes) -> Request:
    """A request as the site takes it. `target`: path and query as sent. `headers`: http.server's."""
    path, _, query = target.partition("?")
    return Request(method, path, query, tuple(headers.items()), body)


class _ThreadingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type) -> None:
        address: tuple[str, int] = listener.getsockname()
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address

    def handle_error(self, *_: object) -> None:
        """Ignores a browser that hangs up. Of anything else it prints the kind only: the text could hold a value."""
        error = sys.exception()
        if not isinstance(error, OSError):
            print(f"console: {type(error).__name__}", file=sys.stderr)  # noqa: T201  # the server has no other output


class _Handler(BaseHTTPRequestHandler):
    """Reads HTTP/1.1 and writes one response per request."""

    respond: Respond
    protocol_version = "HTTP/1.1"
    server_version = "token-broker-console"
    sys_version = ""
    timeout = IDLE_S
    error_content_type = "text/plain"
    error_message_format = "%(code)d\n"  # http.server's own page would repeat the request
    wbufsize = -1  # buffered: head and body leave in one segment

    def __getattr__(self, name: str) -> Any:
        """Serves every method: http.server looks for do_GET and so on, and sends a page of its own if there is none."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True
            self.send_error(413)
            return
        request = received(self.command, self.path, self.headers, self.rfile.read(int(length)))
        self._write(self.respond(request))

    def _write(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Writes nothing."""
