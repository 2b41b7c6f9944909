"""`make run`: runs the local stack until Ctrl-C."""

import argparse
import contextlib
from typing import Final

from rich.console import Console

from local import sam_local
from local.aws import REGION
from local.connections import DEMO_PROVIDERS, NAME
from local.process import LOGS, ROOT
from local.stack import Options, Stack
from token_broker_cli.console.command import wait_for_enter

DEFAULT_PORT: Final = 3000
console: Final = Console(highlight=False)


def run(arguments: argparse.Namespace) -> int:
    """Start the stack on the given ports, print where everything is, and serve until a signal comes."""
    options = Options(
        port=arguments.port,
        aws_port=arguments.aws_port,
        providers_port=arguments.providers_port,
        api_environments=arguments.environments,
        time_scale=arguments.time_scale,
        sweep_interval_s=arguments.sweep_interval,
        verify_signatures=arguments.auth == "iam",
        simulate_vendors=arguments.simulate_vendors,
        provider_files=arguments.providers_dir,
        pages=True,
    )
    with console.status("starting") as status, Stack(options, lambda step: status.update(f"starting: {step}")) as stack:
        status.stop()
        text = introduction(stack, for_sam_local=sam_local.write(stack))
        # Not wrapped, so that its lines can be copied at any width of the terminal.
        console.print(text, soft_wrap=True, markup=False)
        stack.front.log_requests(_print_request)
        try:
            _print_links(stack)
        except KeyboardInterrupt:
            console.print("\nstopping")
    return 0


def _print_links(stack: Stack) -> None:
    """On a terminal, print a new link to the console after each Enter. Never returns."""
    while True:
        wait_for_enter()
        console.print(f"Console: {console_link(stack)}", soft_wrap=True, markup=False)


def console_link(stack: Stack) -> str:
    """A link that opens the console once, within 60 s; empty if the stack has no pages."""
    return stack.console.door.new_link() if stack.console else ""


def introduction(stack: Stack, *, for_sam_local: bool) -> str:
    """What a user needs to know of the running stack. `for_sam_local`: the files for sam local were written."""
    caller = stack.options.caller
    places = {
        "Console": f"{console_link(stack)} (works once, within a minute; Enter prints a new one)",
        "Documentation": f"{stack.url}/docs (each request can be tried there)",
        "Token broker": stack.url,
        "AWS endpoint": stack.endpoint_url,
        "Simulated providers": stack.providers_url,
        "Logs": f"{LOGS.relative_to(ROOT)}/*.log",
    }
    if for_sam_local:
        places["For sam local"] = f"{sam_local.DIRECTORY.relative_to(ROOT)}/template.yaml and env.json"
    lines = [
        *(f"{name:<20}{place}" for name, place in places.items()),
        "",
        f"Connections, open to {caller.arn}:",
        *(f"  {provider}/{NAME}" for provider in DEMO_PROVIDERS),
        "",
        "In another terminal:",
        *(f"  {line}" for line in _shell_lines(stack)),
        "",
        f"An outage of the broker, until it is up again: .venv/bin/python -m local broker down{_port_option(stack)}",
        "Ctrl-C stops the stack. Everything in it is then lost.",
        "",
        "Requests:",
    ]
    return "\n".join(lines)


def _shell_lines(stack: Stack) -> list[str]:
    """What a caller's shell needs, and a request for a token."""
    caller = stack.options.caller
    user = f"{caller.access_key}:{caller.secret_key}"
    signature = f"--aws-sigv4 aws:amz:{REGION}:execute-api --user {user} " if stack.options.verify_signatures else ""
    return [
        f"export TOKEN_BROKER_URL={stack.url}",
        f"export AWS_ACCESS_KEY_ID={caller.access_key}",
        f"export AWS_SECRET_ACCESS_KEY={caller.secret_key}",
        f"export AWS_REGION={REGION}",
        f"curl {signature}{stack.url}/v1/tokens/{DEMO_PROVIDERS[-1]}/{NAME}",
    ]


def _port_option(stack: Stack) -> str:
    return "" if stack.options.port == DEFAULT_PORT else f" --port {stack.url.rpartition(':')[2]}"


def _print_request(line: str) -> None:
    # Nobody may read the output any more (`make run | head`); the request is served all the same.
    with contextlib.suppress(OSError):
        print(f"  {line}\n", end="", flush=True)  # one write: several threads print
