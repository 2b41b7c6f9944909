"""Runs a command on a pseudo-terminal, reads its prompts and answers them."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, Self

from local.process import ROOT

QUIET_S: Final = 90.0
PYTHONPATH: Final = (ROOT / "cli", ROOT / "layers" / "client", ROOT / "layers" / "broker")
ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A prompt is at the end of the output. Brackets or parentheses after the name hold a note.
PROMPT: Final = re.compile(r"(?:^|\n)(\w[\w ]*?)(?: [\[(][^\n]*[\])])?: $")


# Starts the program like a shell does. Ctrl-C reaches it only from its controlling terminal, and only if SIGINT is not
# ignored, as it is in background jobs.
ON_ITS_TERMINAL: Final = """
import fcntl, runpy, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("token_broker_cli", run_name="__main__")
"""


class Terminal:
    """A running command. `output`: everything that it printed, without colours."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._screen, theirs = os.openpty()
        # Tall enough for a whole live table: rich cuts it off at the end of the screen.
        screen = {"TERM": "xterm", "COLUMNS": "200", "LINES": "500"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": ":".join(map(str, PYTHONPATH)), **screen},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.output = ""
        self.asked: list[str] = []

    def answer(self, answers: Mapping[str, str | Sequence[str]]) -> int:
        """Answers each prompt by its name until the command ends. Returns the exit code.

        A list holds the answers for repeated prompts. A prompt without an answer gets Enter.
        """
        remaining = {name: [given] if isinstance(given, str) else list(given) for name, given in answers.items()}
        read_until = 0
        while self._read():
            prompt = PROMPT.search(self.output[read_until:])
            if prompt:
                read_until = len(self.output)
                name = prompt[1]
                self.asked.append(name)
                given = remaining.get(name, [])
                self.type(given.pop(0) if given else "")
        assert not any(remaining.values()), f"never asked for: {remaining.keys()}; {self.output}"
        return self._process.wait(QUIET_S)

    def until(self, text: str, times: int = 1) -> None:
        """Reads until the text was printed so often, with a time limit, because a live table never ends."""
        deadline = time.monotonic() + QUIET_S
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, f"{text} did not appear: {self.output[-4000:]}"
            assert self._read(), self.output

    def type(self, line: str) -> None:
        os.write(self._screen, line.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """Presses one key, such as Ctrl-C (\\x03)."""
        os.write(self._screen, key)

    def end(self) -> int:
        """Reads to the end. Returns the exit code."""
        while self._read():
            pass
        return self._process.wait(QUIET_S)

    def _read(self) -> bool:
        """Reads more output. False at its end."""
        ready, _, _ = select.select([self._screen], [], [], QUIET_S)
        assert ready, f"no more output: {self.output}"
        try:
            data = os.read(self._screen, 65536)
        except OSError:
            return False  # Linux reports the end of a pseudo-terminal as EIO
        self.output = ESCAPES.sub("", self.output + data.decode(errors="replace").replace("\r\n", "\n"))
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._screen)
