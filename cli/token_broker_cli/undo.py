"""Undoes what a command began, if the command fails."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from token_broker_cli.screen import Screen


class Undo:
    """A context that collects undo steps. If an error (or Ctrl-C) leaves it, it runs them, the last one first.

    What could not be undone is said, and noted on the error.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """`what`: what `step` removes. It is named if that fails."""
        self._steps.append((what, step))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            return
        with _without_interrupts(), self._screen.progress("Undoing"):
            self._run_steps(error)

    def _run_steps(self, error: BaseException | None) -> None:
        for what, step in reversed(self._steps):
            try:
                step()
            except Exception as failed:  # noqa: BLE001  # the other steps still have to run
                text = f"{what} could not be removed ({type(failed).__name__}): remove it by hand."
                self._screen.say(text)
                if error is not None:
                    error.add_note(text)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A second Ctrl-C would leave half of it. Only the main thread receives one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupts)
