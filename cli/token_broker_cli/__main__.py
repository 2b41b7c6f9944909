"""Entry point of `token-broker` and of `python -m token_broker_cli`."""

import signal
import sys
from types import FrameType

from token_broker_cli.app import main as run


def main() -> int:
    """Runs one command. Returns the exit code."""
    # SIGTERM ends a command like Ctrl-C: it undoes what it began.
    signal.signal(signal.SIGTERM, _interrupt)
    return run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
