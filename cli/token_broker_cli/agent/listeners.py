"""Where the agent listens: a Unix socket with mode 0600, or a port on 127.0.0.1 and a file with its password."""

import os
import secrets
import socket
import stat
from pathlib import Path
from typing import Final

from token_broker_cli.problems import Exit, Problem

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 256
PRIVATE: Final = 0o600
OTHERS: Final = 0o077
SHORTEST_PASSWORD: Final = 32
LONGEST_FILE: Final = 1024


def listen_on_socket(path: Path) -> socket.socket:
    """A Unix socket that only this user can open. Replaces one that nobody listens on. Raises Problem."""
    _remove_unused(path)
    listener = socket.socket(socket.AF_UNIX)
    # The mode must be right from the start: bind makes the file.
    before = os.umask(0o777 & ~PRIVATE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise _cannot(path, error) from None
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def listen_on_port(port: int) -> socket.socket:
    """A socket on 127.0.0.1. Raises Problem."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise _cannot(f"port {port}", error) from None


def made_password(path: Path) -> str:
    """The password in the file. Makes file and password if there is no file. Raises Problem."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    except FileExistsError:
        return password_in(path)
    except OSError as error:
        raise _cannot(path, error) from None
    password = secrets.token_urlsafe(SHORTEST_PASSWORD)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{password}\n")
    return password


def password_in(path: Path) -> str:
    """The password in an existing file that only this user can read. Raises Problem."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise _cannot(path, error) from None
    # Kubernetes mounts secrets as root's.
    if stat.S_IMODE(found.st_mode) & OTHERS or found.st_uid not in (os.geteuid(), 0):
        raise Problem(f"Others can read or change {path}.", f"chmod 600 {path}, as its owner.", exit_code=Exit.USAGE)
    password = content.strip()
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_FILE or not _fits_a_header(password):
        what = f"{path} holds no password of at least {SHORTEST_PASSWORD} characters without spaces."
        raise Problem(what, "Delete the file: the agent makes a new one.", exit_code=Exit.USAGE)
    return password.decode("ascii")


def _fits_a_header(password: bytes) -> bool:
    return all(0x21 <= octet <= 0x7E for octet in password)


def _remove_unused(path: Path) -> None:
    """Removes a socket that an ended agent left. Raises Problem if it is in use, or something else."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise Problem(f"{path} is not a socket.", "Give --socket a path that does not exist.", exit_code=Exit.USAGE)
    with socket.socket(socket.AF_UNIX) as attempt:
        if attempt.connect_ex(str(path)) == 0:
            raise Problem(f"Another process listens on {path}.", "Use another --socket.", exit_code=Exit.USAGE)
    path.unlink(missing_ok=True)


def _cannot(what: object, error: Exception) -> Problem:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return Problem(f"The agent cannot use {what}: {reason}.", exit_code=Exit.USAGE)
