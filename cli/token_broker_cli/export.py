"""`connections export`: the settings of every connection, as `connections apply` takes them."""

import argparse
import json
from collections.abc import Iterator
from typing import Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.settings_files import Json, to_toml
from token_broker_cli.target import Target

KEY_PREFIX: Final = "C#"  # of a connection's item: C#provider/name
EARLIER_VERSION: Final = "V#"  # of an earlier version of its settings


def export(target: Target, options: argparse.Namespace) -> Exit:
    """Prints TOML, or JSON under --json. Settings only: credentials are in the secrets, which it does not read."""
    with target.screen.progress("Reading the connections"):
        found = dict(
            sorted(
                _from_table(target, options.table) if options.table else _from_broker(target, options.provider_filter)
            )
        )
    if not found:
        target.screen.say("There are no connections.")
    as_json: dict[str, Json] = {}
    for (provider, name), settings in found.items():
        as_json.setdefault(provider, {})[name] = settings
    target.screen.show(as_json, to_toml(found).rstrip("\n"))
    return Exit.DONE


def _from_broker(target: Target, provider: str | None) -> Iterator[tuple[tuple[str, str], Json]]:
    for item in target.api.connections(provider=provider, details=True):
        yield (item["provider"], item["connection"]), item["settings"]


def _from_table(target: Target, table: str) -> Iterator[tuple[tuple[str, str], Json]]:
    """The connections of a copy of ConnectionTable. Raises Problem for an item that is no connection."""
    for page in target.aws("dynamodb").get_paginator("scan").paginate(TableName=table):
        for item in page["Items"]:
            key = item.get("pk", {}).get("S", "")
            if key.startswith(EARLIER_VERSION):
                continue
            provider, _, name = key.removeprefix(KEY_PREFIX).partition("/")
            try:
                settings = json.loads(item["settings"]["S"])
            except (KeyError, ValueError):
                settings = None
            if not (key.startswith(KEY_PREFIX) and provider and name and isinstance(settings, dict)):
                what = f"The item {key!r} of {table} is no connection."
                raise Problem(what, "Name a copy of the stack's ConnectionTable.", code="invalid_request")
            yield (provider, name), settings
