"""The command line `python -m local run | demo | invoke | broker`. The make commands of these names call it."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from local.lambda_environments import FunctionError
from local.ports import PortInUse
from local.process import LOGS, StartFailed

logger = logging.getLogger(__name__)


def main() -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args()
    # SIGTERM ends everything that was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _exit_in_order)
    _log_to_file()
    try:
        # Imported here: each command needs other modules, and --help needs none.
        if options.command == "run":
            from local.run import run

            return run(options)
        if options.command == "demo":
            from local.demo import demo

            return demo()
        if options.command == "broker":
            from local.outage import set_broker

            return set_broker(options.state, options.port)
        from local.invoke import invoke

        return invoke(options.function, options.event)
    except PortInUse as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (FunctionError, StartFailed) as error:
        logger.exception("the stack did not start")
        print(f"error: {error}; see {LOGS}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="The token broker on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="the local stack until Ctrl-C",
        description="Runs broker, AWS endpoint and simulated providers until Ctrl-C. Port 0 takes a free one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for option, variable, port, what in (
        ("--port", "PORT", 3000, "the broker"),
        ("--aws-port", "AWS_PORT", 4566, "the AWS endpoint"),
        ("--providers-port", "PROVIDERS_PORT", 4600, "the simulated providers"),
    ):
        value = os.environ.get(variable) or port
        run.add_argument(option, type=int, default=value, metavar="N", help=f"port of {what}; variable {variable}")
    run.add_argument("--environments", type=int, default=8, metavar="N", help="execution environments per API function")
    run.add_argument(
        "--time-scale", type=float, default=1.0, metavar="X", help="multiplies every lifetime and window, at most 1"
    )
    run.add_argument(
        "--simulate-vendors",
        action="store_true",
        help="send requests for https hosts to vendors that are simulated from the catalogue's examples",
    )
    run.add_argument(
        "--providers-dir",
        type=_directory,
        metavar="DIR",
        help="provider files of your own, as a layer has them in token_broker_providers/",
    )
    run.add_argument(
        "--sweep-interval",
        type=float,
        metavar="S",
        help="seconds between sweeps; without it a minute by the time scale",
    )
    run.add_argument(
        "--auth",
        choices=["iam", "none"],
        default=os.environ.get("AUTH") or "iam",
        help="none: calls need no signature; variable AUTH",
    )

    commands.add_parser(
        "demo",
        help="fetch, use and renew a token of each of five providers; exit 0 if all of it worked",
        description="Starts the stack on free ports with short lifetimes and follows a token of each provider.",
    )

    broker = commands.add_parser(
        "broker",
        help="an outage of the broker: down, then up",
        description="While the running stack's broker is down, requests get no response. The providers stay up.",
    )
    broker.add_argument("state", choices=["down", "up"])
    broker.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or 3000,
        metavar="N",
        help="port of the broker; variable PORT",
    )

    invoke = commands.add_parser(
        "invoke",
        help="one function on one event, as Lambda would",
        description="Starts the stack quietly, runs one function on one event, and prints its result as JSON.",
    )
    invoke.add_argument("--function", required=True, metavar="ID", help="its logical id, such as GetTokenFunction")
    invoke.add_argument("--event", required=True, type=Path, metavar="FILE", help="such as events/get_token.json")
    return parser


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


def _exit_in_order(signal_number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


def _log_to_file() -> None:
    """Write the stack's own log into a file beside the functions' logs: standard output is for people."""
    LOGS.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=LOGS / "stack.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it logs where it found credentials


if __name__ == "__main__":
    sys.exit(main())
