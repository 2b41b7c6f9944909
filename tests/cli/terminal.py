"""A person at a terminal: a command on a pseudo-terminal, its prompts read and answered."""

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
ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A prompt ends the output; what stands in brackets or parentheses behind the name is a note on it.
PROMPT: Final = re.compile(r"(?:^|\n)(\w[\w ]*?)(?: [\[(][^\n]*[\])])?: $")


# As a shell does it: only from its controlling terminal does Ctrl-C reach a program, and only if nobody has it ignored,
# as background jobs have.
ON_ITS_TERMINAL: Final = """
import fcntl, runpy, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("token_broker_cli", run_name="__main__")
"""


class Terminal:
    """A running command. `seen` is all that stood on the screen, without colours."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._screen, theirs = os.openpty()
        # Tall enough for every row of a live table, which rich cuts off at the foot of the screen.
        screen = {"TERM": "xterm", "COLUMNS": "200", "LINES": "500"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT / "layers" / "client"), **screen},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""
        self.asked: list[str] = []

    def answer(self, answers: Mapping[str, str | Sequence[str]]) -> int:
        """Answers each prompt by its name (Enter for those that are not named; the next of a list each time it is
        asked), until the command ends; its exit code."""
        left = {name: [given] if isinstance(given, str) else list(given) for name, given in answers.items()}
        at = 0
        while self._read():
            prompt = PROMPT.search(self.seen[at:])
            if prompt:
                at = len(self.seen)
                name = prompt[1]
                self.asked.append(name)
                waiting = left.get(name, [])
                self.type(waiting.pop(0) if waiting else "")
        assert not any(left.values()), f"never asked for: {left.keys()}; {self.seen}"
        return self._process.wait(QUIET_S)

    def until(self, text: str) -> None:
        """Reads until something is on the screen. A live screen goes on without end: not so this."""
        end = time.monotonic() + QUIET_S
        while text not in self.seen:
            assert time.monotonic() < end, f"{text} never came: {self.seen[-4000:]}"
            assert self._read(), self.seen

    def type(self, line: str) -> None:
        os.write(self._screen, line.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """One key, such as Ctrl-C (\\x03)."""
        os.write(self._screen, key)

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(QUIET_S)

    def _read(self) -> bool:
        """Some more output, or False at its end."""
        ready, _, _ = select.select([self._screen], [], [], QUIET_S)
        assert ready, f"nothing more came: {self.seen}"
        try:
            data = os.read(self._screen, 65536)
        except OSError:
            return False  # Linux tells the end of a pseudo-terminal by EIO
        self.seen = ESCAPES.sub("", self.seen + data.decode(errors="replace").replace("\r\n", "\n"))
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._screen)
