"""The console of `make run`, at / beside the API: the one of `token-broker console`, with the same door."""

import argparse
from pathlib import Path

from token_broker_cli.console.context import ConsoleContext
from token_broker_cli.console.door import Door
from token_broker_cli.console.pages import Renderer
from token_broker_cli.console.site import Site
from token_broker_cli.screen import Screen
from token_broker_cli.target import Target
from token_broker_cli.usage import DEFAULTS


def console(url: str, endpoint_url: str, log_dir: Path) -> Site:
    """The console over the stack at `url`. It signs as `token-broker --local` does."""
    options = argparse.Namespace(**{**DEFAULTS, "local": True, "url": url, "aws_endpoint": endpoint_url})
    context = ConsoleContext(Target(options, Screen(as_json=True)), Renderer(), log=log_dir)
    return Site(context, Door(url))
