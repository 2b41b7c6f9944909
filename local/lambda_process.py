"""The process of one Lambda execution environment: `python -m local.lambda_process`, one handler, one event at a time.

Events and results go through a private pipe; standard output and error are the function's log. This module imports the
standard library alone, so that a handler finds only those packages imported that it imported itself.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

VENDORS = "TOKEN_BROKER_SIMULATED_VENDORS"  # the address of the simulated providers; read by this module alone
Handler = Callable[[Any, "LambdaContext"], Any]


@dataclass(frozen=True)
class LambdaContext:
    """The context object that Lambda gives a Python handler."""

    function_name: str
    memory_limit_in_mb: str
    invoked_function_arn: str
    aws_request_id: str
    log_group_name: str
    log_stream_name: str
    deadline: float
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None
    _clock: Callable[[], float] = field(default=time.time, repr=False)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation, never below 0."""
        return max(0, int((self.deadline - self._clock()) * 1000))


def error_object(error: BaseException) -> dict[str, Any]:
    """Lambda's error object for a handler that raised: {errorMessage, errorType, stackTrace}."""
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def load(handler: str) -> Handler:
    """The function that `package.module.function` names."""
    module, _, function = handler.rpartition(".")
    loaded: Handler = getattr(importlib.import_module(module), function)
    return loaded


def simulate_vendors(address: str) -> None:
    """Lets the broker of this process send requests for any https host to the simulator of vendors at `address`."""
    bootstrap: Any = importlib.import_module("token_broker.bootstrap")
    make_sender = bootstrap._sender

    def sender(settings: Any) -> Callable[..., Any]:
        send = make_sender(settings)

        def redirected(request: Any, *rest: Any) -> Any:
            return send(replace(request, url=request.url.replace("https://", f"{address}/vendors/-/", 1)), *rest)

        return redirected

    bootstrap._sender = sender


def run(handler: Handler, message: dict[str, Any]) -> str:
    """Run the handler on one message {event, request_id, deadline}: {"result"} or {"error"} as JSON."""
    name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    arn = f"arn:aws:lambda:{os.environ['AWS_REGION']}:{message['account_id']}:function:{name}"
    context = LambdaContext(
        function_name=name,
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        invoked_function_arn=arn,
        aws_request_id=message["request_id"],
        log_group_name=os.environ["AWS_LAMBDA_LOG_GROUP_NAME"],
        log_stream_name=os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
        deadline=message["deadline"],
    )
    try:
        return json.dumps({"result": handler(message["event"], context)})
    except Exception as error:  # noqa: BLE001  # whatever a handler raises is its result
        traceback.print_exc()
        return json.dumps({"error": error_object(error)})


def serve(pipe: Connection, handler_name: str) -> None:
    """Load the handler, report that it is ready, then run it on each event until the pipe closes.

    If it does not load, report the error and return.
    """
    try:
        handler = load(handler_name)
        if VENDORS in os.environ:
            simulate_vendors(os.environ[VENDORS])
    except Exception as error:  # noqa: BLE001  # whatever an import raises is the function's result
        traceback.print_exc()
        pipe.send_bytes(json.dumps({"error": error_object(error)}).encode())
        return
    pipe.send_bytes(b'{"result": "ready"}')
    while True:
        try:
            message = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(run(handler, message).encode())


def main() -> None:
    """Read the pipe, the handler and the code's directories from the command line, all else from the environment."""
    parser = argparse.ArgumentParser(prog="python -m local.lambda_process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited pipe for events and results")
    parser.add_argument("--handler", required=True, help="package.module.function")
    parser.add_argument("--path", action="append", required=True, help="a directory of code, first one first")
    options = parser.parse_args()
    # The handler finds its own code and the layers, as in Lambda, and not this repository's root.
    sys.path[:1] = options.path
    os.chdir(options.path[0])
    # A log file would be block-buffered, and lines of several environments would mix.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # standard output is a real text file here
    serve(Connection(options.fd), options.handler)


if __name__ == "__main__":
    main()
