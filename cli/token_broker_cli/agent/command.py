"""`token-broker agent`: serves until it is stopped. `--check`: the health of a running one."""

import argparse
import http.client
import logging
import os
import socket
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_client.source import TokenSource

RENEW_EVERY_S: Final = 1.0
RENEW_AHEAD_S: Final = 2.0
CHECK_S: Final = 5.0
logger = logging.getLogger(__name__)


def agent(target: Target, options: argparse.Namespace) -> Exit:
    """Serves on --socket or --port until SIGTERM or Ctrl-C."""
    if options.socket is None and options.port is None:
        raise _usage("Neither --socket nor --port was given.", "--socket PATH, or --port N with --password-file PATH.")
    if options.port is not None and options.password_file is None:
        what = "Every program on this machine can open a port, so its callers need a password."
        raise _usage(what, "Add --password-file PATH. The agent makes the file.")
    if options.check:
        return _check(options)
    allowed = _allowed(options)

    # Imported here: no other command needs a server.
    from token_broker_cli.agent.door import Door
    from token_broker_cli.agent.listeners import listen_on_port, listen_on_socket, made_password
    from token_broker_cli.agent.metrics import CountedGet, Metrics
    from token_broker_cli.agent.routes import Routes
    from token_broker_cli.agent.server import Server

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it logs where it found credentials
    password = None if options.password_file is None else made_password(options.password_file)
    metrics = Metrics()
    source = TokenSource(CountedGet(target.api, metrics))
    if options.port is None:
        listener = listen_on_socket(options.socket)
        door = Door(None, password)
        place = str(options.socket)
    else:
        listener = listen_on_port(options.port)
        port: int = listener.getsockname()[1]
        door = Door(port, password)
        place = f"http://127.0.0.1:{port}"
    server = Server(listener, Routes(source, door, allowed, metrics))
    threading.Thread(target=server.serve_forever, args=(0.1,), name="server", daemon=True).start()
    stop = threading.Event()
    threading.Thread(target=_renew, args=(source, stop), name="renewal", daemon=True).start()
    logger.info("listening on %s for %s", place, "any connection" if allowed is None else ", ".join(sorted(allowed)))
    _tell_systemd()
    try:
        stop.wait()
    except KeyboardInterrupt:
        logger.info("stopping")
    finally:
        stop.set()
        server.stop()
        if options.port is None:
            options.socket.unlink(missing_ok=True)
    return Exit.DONE


def _renew(source: TokenSource, stop: threading.Event) -> None:
    """Renews tokens in use before a caller would have to wait for the broker."""
    while not stop.wait(RENEW_EVERY_S):
        try:
            source.renew_used(RENEW_AHEAD_S)
        except Exception as error:  # noqa: BLE001  # the thread goes on: callers would only wait longer without it
            # A message or a traceback could hold a token.
            logger.error("renewal failed: %s", type(error).__name__)


def _allowed(options: argparse.Namespace) -> Collection[str] | None:
    """The connections that callers get tokens of; None: any."""
    from token_broker_cli.agent.routes import CONNECTION

    named: list[str] = options.allow or []
    if bool(named) == options.allow_any:
        what = "Give either --allow or --allow-any."
        raise _usage(what, "--allow PROVIDER/NAME, once for each connection; or --allow-any for all.")
    for name in named:
        if not CONNECTION.fullmatch(name):
            raise _usage(f"{name} is no connection.", "Write it like --allow unidy/eu-main.")
    return None if options.allow_any else named


def _check(options: argparse.Namespace) -> Exit:
    """Exit code 0 if an agent responds on the socket or port."""
    from token_broker_cli.agent.door import PASSWORD_HEADER
    from token_broker_cli.agent.listeners import password_in

    connection: http.client.HTTPConnection
    if options.port is None:
        connection = UnixConnection(options.socket)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", options.port, timeout=CHECK_S)
    headers = {} if options.password_file is None else {PASSWORD_HEADER: password_in(options.password_file)}
    try:
        connection.request("GET", "/health", headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"No agent responds: {error}.", exit_code=Exit.UNREACHABLE) from None
    finally:
        connection.close()
    if status != 200:
        raise Problem(f"The agent responds with {status}.", exit_code=Exit.UNREACHABLE)
    return Exit.DONE


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CHECK_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _tell_systemd() -> None:
    """Tells systemd that the agent listens (sd_notify(3)), if systemd started it with Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            notify.send(b"READY=1")


def _usage(what: str, todo: str) -> Problem:
    return Problem(what, todo, exit_code=Exit.USAGE)
