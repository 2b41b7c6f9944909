"""`make run`: the local stack until Ctrl-C."""

import argparse
import threading
from typing import Final

from rich.console import Console

from local import sam_local
from local.aws import REGION
from local.connections import DEMO_PROVIDERS, NAME
from local.process import LOGS, ROOT
from local.stack import Options, Stack

console: Final = Console(highlight=False)


def run(arguments: argparse.Namespace) -> int:
    """Start the stack on the ports asked for, say where everything is, and serve until a signal comes."""
    options = Options(
        port=arguments.port,
        aws_port=arguments.aws_port,
        providers_port=arguments.providers_port,
        api_environments=arguments.environments,
        time_scale=arguments.time_scale,
        sweep_interval_s=arguments.sweep_interval,
        verify_signatures=arguments.auth == "iam",
        docs=True,
    )
    with console.status("starting") as status, Stack(options, lambda step: status.update(f"starting: {step}")) as stack:
        status.stop()
        _introduce(stack)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.print("\nstopping")
    return 0


def _introduce(stack: Stack) -> None:
    key = stack.options.caller.access_key
    sign = f"--aws-sigv4 aws:amz:{REGION}:execute-api --user {key}:{stack.options.caller.secret_key} "
    signature = sign if stack.options.verify_signatures else ""
    console.print(f"[bold]Token broker[/]        {stack.url}")
    console.print(f"Documentation       {stack.url}/docs")
    console.print(f"AWS endpoint        {stack.endpoint_url}")
    console.print(f"Simulated providers {stack.providers_url}")
    console.print(f"Logs                {LOGS.relative_to(ROOT)}/*.log")
    if sam_local.write(stack):
        console.print(f"For sam local       {sam_local.DIRECTORY.relative_to(ROOT)}/template.yaml and env.json")
    console.print(f"\nConnections, open to {stack.options.caller.arn}:")
    for provider in DEMO_PROVIDERS:
        console.print(f"  {provider}/{NAME}")
    console.print("\nAsk for a token:")
    # Unwrapped, so that it can be copied whatever the terminal's width.
    console.print(f"  curl {signature}{stack.url}/v1/tokens/{DEMO_PROVIDERS[-1]}/{NAME}", soft_wrap=True, markup=False)
    console.print("\nCtrl-C ends it.")
