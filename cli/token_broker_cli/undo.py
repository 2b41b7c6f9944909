"""Undoes what a command began, if the command fails."""

import signal
from collections.abc import Callable
from typing import Self

from token_broker_cli.screen import Screen


class Undo:
    """A context that collects undo steps. If an error (or Ctrl-C) leaves it, it runs them, the last one first."""

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
        # A second Ctrl-C would leave half of it.
        interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with self._screen.progress("Undoing"):
                self._run_steps()
        finally:
            signal.signal(signal.SIGINT, interrupts)

    def _run_steps(self) -> None:
        for what, step in reversed(self._steps):
            try:
                step()
            except Exception as failed:  # noqa: BLE001  # the other steps still have to run
                self._screen.say(f"{what} could not be removed ({type(failed).__name__}): remove it by hand.")
