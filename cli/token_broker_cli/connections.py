"""`connections` and what is done to one: show, suspend, resume, remove; and `providers`."""

import argparse
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.live import Live
from rich.table import Table

from token_broker_cli import screen, words
from token_broker_cli.asking import own_settings
from token_broker_cli.onboarding import provider_called
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_client.errors import TokenBrokerError

REFRESH_S: Final = 2.0
COLUMNS: Final = ("connection", "state", "tokens", "ends", "renews", "last failure")


def providers(target: Target, _options: argparse.Namespace) -> Exit:
    """`providers`: the catalogue."""
    with target.screen.working("Reading the catalogue"):
        found = target.api.providers()
    rows = [
        (item["slug"], item["title"], item["grant"], " ".join(spec["name"] for spec in item["credentials"]))
        for item in found
    ]
    target.screen.show(found, screen.table(("provider", "title", "grant", "credentials"), rows))
    return Exit.DONE


def provider(target: Target, options: argparse.Namespace) -> Exit:
    """`providers show`: what a connection of one needs."""
    found = provider_called(target, options.name)
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
    secret = ", ".join(spec["name"] + ("" if spec["required"] else " (optional)") for spec in found["credentials"])
    target.screen.show(
        found,
        f"{found['title']} ({found['grant']}): {found['documentation']}",
        f"Credentials: {secret}\n",
        screen.table(("setting", "required", "default", "what it is"), rows),
        f"\nAdd a connection: {target.line('connections add ' + found['slug'])} NAME",
    )
    return Exit.DONE


def listing(target: Target, options: argparse.Namespace) -> Exit:
    """`connections`: each one's state; with --watch until Ctrl-C."""
    with target.screen.working("Asking for the connections"):
        found = target.api.connections_in_full()
    if not options.watch:
        if not found:
            target.screen.say(f"There are no connections yet: {target.line('connections add PROVIDER NAME')}")
        target.screen.show(found, _overview(found))
        return Exit.DONE
    if not target.screen.interactive:
        raise Problem("--watch needs a terminal.", "Leave it out, or use --json.", exit_code=Exit.USAGE)
    with Live(_overview(found), console=target.screen.out, screen=False) as live:
        while True:
            threading.Event().wait(REFRESH_S)
            try:
                live.update(_overview(target.api.connections_in_full()))
            except TokenBrokerError as error:
                live.console.print(f"{datetime.now(UTC):%H:%M:%S} no answer: {error}")


def show(target: Target, options: argparse.Namespace) -> Exit:
    """`connections show`: settings, deadlines and each token's state."""
    with target.screen.working("Asking for the connection"):
        found = target.api.show(options.provider, options.name)
    now = datetime.now(UTC)
    tokens = [
        (
            token["scope"] or "(none)",
            token["token_id"] or "-",
            words.until(token["expires_at"], now),
            words.until(token["renew_at"], now),
            words.failure(token["failure"], now),
        )
        for token in found["tokens"]
    ]
    settings = [(name, _text(value)) for name, value in found["settings"].items()]
    ends = [f"{deadline['what']} end {words.until(deadline['at'], now)}" for deadline in found["deadlines"]]
    failing = words.failure(found["last_failure"], now)
    target.screen.show(
        found,
        f"{found['provider']}/{found['connection']}: {found['state']}" + (f". {failing}" if failing else ""),
        *ends,
        screen.table(("setting", "value"), settings),
        "",
        screen.table(("scope", "token_id", "ends", "renews", "last failure"), tokens) if tokens else "No tokens.",
    )
    return Exit.DONE


def suspend(target: Target, options: argparse.Namespace) -> Exit:
    """`connections suspend`: nobody gets a token until `resume`."""
    return _switch(target, options, suspended=True)


def resume(target: Target, options: argparse.Namespace) -> Exit:
    """`connections resume`."""
    return _switch(target, options, suspended=False)


def remove(target: Target, options: argparse.Namespace) -> Exit:
    """`connections remove`: settings and tokens, with --secret the secret too."""
    name = f"{options.provider}/{options.name}"
    found = target.api.show(options.provider, options.name)
    with target.screen.working(f"Removing {name}"):
        gone = target.api.delete(options.provider, options.name, version=found["version"])
        secret = target.secret(options.provider, options.name)
        if options.secret:
            secret.delete()
    left = f"The secret {secret.name} was " + ("deleted." if options.secret else "kept; --secret deletes it too.")
    shown = {**gone, "secret": "deleted" if options.secret else "kept"}
    target.screen.show(shown, f"{name} is removed, with {gone['dropped']} tokens.", *_alive(gone), left)
    return Exit.DONE


def revoke(target: Target, options: argparse.Namespace) -> Exit:
    """`revoke`: drops tokens here and ends them at the provider where it can; with --suspend none follow."""
    name = f"{options.provider}/{options.name}"
    if options.suspend:
        _put_suspended(target, options, suspended=True)
    with target.screen.working(f"Dropping and revoking the tokens of {name}"):
        done = target.api.drop_tokens(options.provider, options.name, options.scope)
    after = "is suspended" if options.suspend else "gives out new ones; --suspend would stop that"
    dropped = f"{done['dropped']} dropped, {len(done['revoked'])} revoked at the provider. {name} {after}."
    target.screen.show(done, dropped, *_alive(done))
    return Exit.DONE


def _alive(done: Mapping[str, Any]) -> list[str]:
    return [
        f"{item['token_id']} is not revoked ({item['reason']}) and ends by itself {item['expires_at']}."
        for item in done["not_revoked"]
    ]


def _switch(target: Target, options: argparse.Namespace, *, suspended: bool) -> Exit:
    name = f"{options.provider}/{options.name}"
    changed = _put_suspended(target, options, suspended=suspended)
    shown = {"provider": options.provider, "connection": options.name, "suspended": suspended, "changed": changed}
    word = "suspended: no tokens within 30 s" if suspended else "switched on"
    end = target.line(f"revoke {options.provider} {options.name}")
    more = f"End those that are out: {end}" if suspended else ""
    target.screen.show(
        shown, f"{name} is {word}." if changed else f"{name} was {word} already.", *([more] * bool(more))
    )
    return Exit.DONE


def _put_suspended(target: Target, options: argparse.Namespace, *, suspended: bool) -> bool:
    """Whether that changed anything."""
    with target.screen.working("Changing the settings"):
        found = target.api.show(options.provider, options.name)
        settings = {name: value for name, value in found["settings"].items() if name != "suspended"}
        if bool(found["settings"].get("suspended")) == suspended:
            return False
        wanted = {**settings, "suspended": True} if suspended else settings
        target.api.replace(options.provider, options.name, wanted, version=found["version"])
    return True


def _overview(found: list[dict[str, Any]]) -> Table:
    now = datetime.now(UTC)
    rows = []
    for item in sorted(found, key=lambda item: (item["provider"], item["connection"])):
        live = [token for token in item["tokens"] if token["expires_at"] and not _past(token["expires_at"], now)]
        rows.append(
            (
                f"{item['provider']}/{item['connection']}",
                screen.state(item["state"]),
                str(len(live)),
                words.until(min((token["expires_at"] for token in live), default=None), now),
                words.until(min((token["renew_at"] for token in live), default=None), now),
                words.failure(item["last_failure"], now),
            )
        )
    return screen.table(COLUMNS, rows)


def _past(timestamp: str, now: datetime) -> bool:
    return datetime.fromisoformat(timestamp) <= now


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
