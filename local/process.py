"""Starts child processes that end when their parent ends, even by SIGKILL."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOGS: Final = ROOT / "build" / "logs"
GRACE_S: Final = 3.0


class StartFailed(RuntimeError):
    """A part of the stack did not start. The message says which and why."""


def start_module(
    module: str,
    arguments: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """`python -m module arguments` from the repository's root, printing to `log` (None: this process's standard error).

    It runs in a session of its own, so that a Ctrl-C in the terminal reaches the parent alone, which then ends its
    children in order. Its standard input is a pipe that closes with the parent; `end_with_parent` watches it.
    """
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.PIPE,
            stdout=output or sys.stderr.fileno(),
            stderr=subprocess.STDOUT,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    finally:
        if output:
            output.close()


def end_with_parent() -> None:
    """In a child: end this process when its standard input closes, that is when the parent is gone."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def end(process: "subprocess.Popen[bytes]", *, grace_s: float = GRACE_S) -> None:
    """End the child by SIGTERM, and by SIGKILL after `grace_s` (0: at once). Idempotent."""
    if process.stdin:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM if grace_s else signal.SIGKILL)
        try:
            process.wait(grace_s or None)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
