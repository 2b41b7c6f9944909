"""`make invoke`: runs one function on one event in an execution environment like Lambda's, without Docker."""

import json
import sys
from pathlib import Path

from local.lambda_environments import FunctionError
from local.process import LOGS
from local.stack import Options, Stack


def invoke(function_id: str, event_file: Path) -> int:
    """Print the function's result as JSON and return 0, or its error object and 1. All else goes to standard error."""
    try:
        event = json.loads(event_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"error: {event_file}: {error}", file=sys.stderr)
        return 2
    with Stack(Options(api_environments=1, worker_environments=1, ticks=False), _progress) as stack:
        if function_id not in stack.pools:
            print(f"error: no function {function_id}; there are {', '.join(sorted(stack.pools))}", file=sys.stderr)
            return 2
        print(f"invoking {function_id} (log: {LOGS / function_id}.log)", file=sys.stderr)
        try:
            result = stack.pools[function_id].invoke(event)
            status = 0
        except FunctionError as error:
            result = error.error
            status = 1
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return status


def _progress(step: str) -> None:
    print(f"starting: {step}", file=sys.stderr)
