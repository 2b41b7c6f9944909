"""Listening sockets on loopback, taken before anything slow starts, so that a busy port is told at once."""

import os
import socket
from http.server import ThreadingHTTPServer
from typing import Final

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 256


class PortInUse(RuntimeError):
    """Another process listens on the port; the message names the port and the variable that moves it."""


def listen(port: int, variable: str | None = None) -> socket.socket:
    """A socket that listens on 127.0.0.1:`port` (0 takes a free one). Raises PortInUse."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = f": set {variable} to another one" if variable else ""
        raise PortInUse(f"port {port} cannot be used ({reason}){remedy}") from None


def port_of(listener: socket.socket) -> int:
    """The port a listening socket is bound to."""
    port: int = listener.getsockname()[1]
    return port


class LoopbackServer(ThreadingHTTPServer):
    """One thread per connection over a socket that already listens; open connections do not hold up its end."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type) -> None:
        address: tuple[str, int] = listener.getsockname()
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address
