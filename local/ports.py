"""Listening sockets on loopback. They are opened before anything slow starts: a busy port is reported at once."""

import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import Any, Final

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 256
HIGHEST_PORT: Final = 65_535
TRIES: Final = 100


class PortInUse(RuntimeError):
    """A port cannot be used. The message names it and the reason, and where it can a command with free ports."""


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1:`port` (0: any free one). Raises PortInUse."""
    if not 0 <= port <= HIGHEST_PORT:
        raise PortInUse(f"port {port} cannot be used (the highest port is {HIGHEST_PORT})")
    try:
        return socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PortInUse(f"port {port} cannot be used ({reason})") from None


def listen_on_all(ports: Mapping[str, int]) -> dict[str, socket.socket]:
    """A listening socket for each variable of `make run` (PORT, AWS_PORT, PROVIDERS_PORT).

    Raises PortInUse that names every port that cannot be used, and the command with free ones in their place.
    """
    listeners: dict[str, socket.socket] = {}
    faults: list[str] = []
    with contextlib.ExitStack() as on_failure:
        for variable, port in ports.items():
            try:
                listeners[variable] = on_failure.enter_context(listen(port))
            except PortInUse as fault:
                faults.append(f"{variable}: {fault}")
        if faults:
            for variable in ports.keys() - listeners.keys():
                listeners[variable] = on_failure.enter_context(_listen_above(ports[variable]))
            free = " ".join(f"{variable}={port_of(listeners[variable])}" for variable in ports)
            raise PortInUse("\n".join([*faults, f"These ports are free: make run {free}"]))
        on_failure.pop_all()
    return listeners


def _listen_above(port: int) -> socket.socket:
    """A socket on the next free port above `port`, or on any free one if the next ones are all taken."""
    for candidate in range(port + 1, min(port + TRIES, HIGHEST_PORT) + 1):
        with contextlib.suppress(PortInUse):
            return listen(candidate)
    return listen(0)


def port_of(listener: socket.socket) -> int:
    """The port of a listening socket."""
    port: int = listener.getsockname()[1]
    return port


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server on a socket that already listens, with a thread per connection.

    Open connections do not delay its end.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type) -> None:
        address: tuple[str, int] = listener.getsockname()
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that hangs up. Anything else is a bug and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
