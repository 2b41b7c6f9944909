"""`connections show`, `suspend`, `resume` and `remove`; `revoke`."""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from token_broker_cli import screen
from token_broker_cli.problems import Exit
from token_broker_cli.target import Target
from token_broker_cli.wording import NOTHING, failure_text, relative


def show(target: Target, options: argparse.Namespace) -> Exit:
    """`connections show`: settings, deadlines and each token's state."""
    with target.screen.progress("Reading the connection"):
        found = target.api.show(options.provider, options.name)
    now = datetime.now(UTC)
    first = f"{found['provider']}/{found['connection']}: {found['state']}"
    if found["last_failure"]:
        first += f". {failure_text(found['last_failure'], now)}"
    deadlines = [
        f"Expiry of the {deadline['what'].replace('_', ' ')}: {relative(deadline['at'], now)}"
        for deadline in found["deadlines"]
    ]
    settings = [(name, _text(value)) for name, value in found["settings"].items()]
    tokens = [
        (
            token["scope"] or "(none)",
            token["token_id"] or NOTHING,
            relative(token["expires_at"], now),
            relative(token["renew_at"], now),
            failure_text(token["failure"], now),
        )
        for token in found["tokens"]
    ]
    target.screen.show(
        found,
        first,
        *deadlines,
        screen.table(("setting", "value"), settings),
        "",
        screen.table(("scope", "token_id", "expires", "renewal", "last failure"), tokens) if tokens else "No tokens.",
    )
    return Exit.DONE


def suspend(target: Target, options: argparse.Namespace) -> Exit:
    """`connections suspend`: callers get no tokens until `resume`."""
    name = f"{options.provider}/{options.name}"
    changed = set_suspended(target, options.provider, options.name, suspended=True)
    lines = [
        f"{name} is suspended. Within 30 s no caller gets a token." if changed else f"{name} is already suspended."
    ]
    if changed:
        lines.append(f"Revoke its tokens: {target.command(f'revoke {options.provider} {options.name}')}")
    target.screen.show(_suspension(options, suspended=True, changed=changed), *lines)
    return Exit.DONE


def resume(target: Target, options: argparse.Namespace) -> Exit:
    """`connections resume`: ends a suspension."""
    name = f"{options.provider}/{options.name}"
    changed = set_suspended(target, options.provider, options.name, suspended=False)
    text = f"{name} is no longer suspended." if changed else f"{name} is not suspended."
    target.screen.show(_suspension(options, suspended=False, changed=changed), text)
    return Exit.DONE


def remove(target: Target, options: argparse.Namespace) -> Exit:
    """`connections remove`: deletes settings and tokens; --secret also schedules the deletion of the secret."""
    name = f"{options.provider}/{options.name}"
    found = target.api.show(options.provider, options.name)
    secret = target.secret(options.provider, options.name)
    also = f"Its secret is deleted in {options.recovery_days} days." if options.secret else "Its secret stays."
    what = f"{name} and the history of its settings are deleted, and its tokens are revoked. {also}"
    target.screen.confirm(what, yes=options.yes)
    with target.screen.progress(f"Removing {name}"):
        result = target.api.delete(options.provider, options.name, version=found["version"])
        if options.secret:
            secret.delete(options.recovery_days)
    text = f"The secret {secret.name} was kept. --secret deletes it, too."
    if options.secret:
        until = f"Until then: aws secretsmanager restore-secret --secret-id {secret.name}"
        text = f"The secret {secret.name} is deleted in {options.recovery_days} days. {until}"
    target.screen.show(
        {**result, "secret": "scheduled_for_deletion" if options.secret else "kept"},
        f"{name} was removed with {result['dropped']} tokens.",
        *not_revoked(result),
        text,
    )
    return Exit.DONE


def revoke(target: Target, options: argparse.Namespace) -> Exit:
    """`revoke`: purges tokens and revokes them at the provider where it can; --suspend prevents new ones."""
    name = f"{options.provider}/{options.name}"
    result = revoke_tokens(target, options.provider, options.name, scope=options.scope, suspend=options.suspend)
    after = f"{name} is suspended." if options.suspend else "The next caller gets a new one; --suspend prevents that."
    target.screen.show(result, f"{revocation_text(result)} {after}", *not_revoked(result))
    return Exit.DONE


def revoke_tokens(target: Target, provider: str, name: str, *, scope: str | None, suspend: bool) -> dict[str, Any]:
    """Purges the tokens of a scope set, or all, and revokes what can be. `suspend`: first, so that none is issued."""
    if suspend:
        set_suspended(target, provider, name, suspended=True)
    with target.screen.progress(f"Revoking the tokens of {provider}/{name}"):
        return target.api.purge_tokens(provider, name, scope)


def revocation_text(result: Mapping[str, Any]) -> str:
    """How many tokens were dropped and revoked."""
    return f"{result['dropped']} dropped, {len(result['revoked'])} revoked at the provider."


def not_revoked(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each token that is still valid at the provider."""
    return [
        f"{item['token_id']} is not revoked ({item['reason']}). It expires at {item['expires_at']}."
        for item in result["not_revoked"]
    ]


def _suspension(options: argparse.Namespace, *, suspended: bool, changed: bool) -> dict[str, Any]:
    return {"provider": options.provider, "connection": options.name, "suspended": suspended, "changed": changed}


def set_suspended(target: Target, provider: str, name: str, *, suspended: bool) -> bool:
    """Stores the setting. False if it had this value already."""
    with target.screen.progress("Changing the settings"):
        found = target.api.show(provider, name)
        settings = {setting: value for setting, value in found["settings"].items() if setting != "suspended"}
        if bool(found["settings"].get("suspended")) == suspended:
            return False
        wanted = {**settings, "suspended": True} if suspended else settings
        target.api.replace(provider, name, wanted, version=found["version"])
    return True


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
