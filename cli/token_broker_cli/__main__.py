"""`token-broker`, and `python -m token_broker_cli`."""

import signal
import sys
from types import FrameType
from typing import Final

EXTRA: Final = ("rich", "shtab")


def main() -> int:
    """One command; the exit code. Says what to install where the package came without its extra."""
    try:
        from token_broker_cli.app import main as run
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write("error: the command line needs the extra cli: pip install 'token-broker-client[cli]'\n")
        return 3
    # Ended from outside, a command takes back what it began, as with Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    return run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
