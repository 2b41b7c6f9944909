"""`providers`: the catalogue. `providers show`: what a connection needs. `providers check`: are files valid?

`providers new`: writes the files of another provider.
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from token_broker_cli import screen
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.prompts import optional_note, own_settings
from token_broker_cli.target import Target


def listing(target: Target, _options: argparse.Namespace) -> Exit:
    """`providers`: the catalogue."""
    with target.screen.progress("Reading the catalogue"):
        found = target.api.providers()
    rows = [
        (
            item["slug"],
            item["title"],
            item["grant"],
            item.get("proof", ""),
            " ".join(spec["name"] for spec in item["credentials"]),
        )
        for item in found
    ]
    target.screen.show(found, screen.table(("provider", "title", "grant", "proof", "credentials"), rows))
    return Exit.DONE


def show(target: Target, options: argparse.Namespace) -> Exit:
    """`providers show`: what a connection of a provider needs."""
    found = find_provider(target, options.name)
    own = {spec["name"] for spec in own_settings(found)}
    rows = [
        (
            spec["name"],
            "yes" if spec["required"] else "",
            "" if spec["default"] in (None, []) else str(spec["default"]),
            spec["help"],
        )
        for spec in sorted(found["settings"], key=lambda spec: (spec["name"] not in own, not spec["required"]))
    ]
    credentials = ", ".join(spec["name"] + optional_note(spec) for spec in found["credentials"])
    target.screen.show(
        found,
        f"{found['title']} ({found['grant']}): {found['documentation']}",
        f"Credentials: {credentials}\n",
        screen.table(("setting", "required", "default", "what it is"), rows),
        f"\nAdd a connection: {target.command('connections add ' + found['slug'])} NAME",
    )
    return Exit.DONE


def check(target: Target, options: argparse.Namespace) -> Exit:
    """`providers check`: needs no broker, but the broker's code. That is imported here, so the rest runs without it."""
    return _with_brokers_code("provider_check", "check_path", target, options)


def new(target: Target, options: argparse.Namespace) -> Exit:
    """`providers new`: the same."""
    return _with_brokers_code("provider_new", "new", target, options)


def _with_brokers_code(module: str, function: str, target: Target, options: argparse.Namespace) -> Exit:
    """Runs a function of a module that imports the broker's code. Raises Problem where that is not installed."""
    try:
        found = importlib.import_module(f"token_broker_cli.{module}")
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] != "token_broker":
            raise
        todo = "In a checkout of the broker: pip install ./layers/broker"
        raise Problem("This command needs the package token-broker-core.", todo, exit_code=Exit.USAGE) from None
    run: Callable[[Target, argparse.Namespace], Exit] = getattr(found, function)
    return run(target, options)


def find_provider(target: Target, slug: str) -> dict[str, Any]:
    """The catalogue's entry. Raises Problem with the providers that exist."""
    with target.screen.progress("Reading the catalogue"):
        providers = {provider["slug"]: provider for provider in target.api.providers()}
    if slug not in providers:
        todo = f"Providers: {', '.join(sorted(providers))}."
        raise Problem(f"There is no provider {slug}.", todo, code="unknown_provider")
    return providers[slug]
