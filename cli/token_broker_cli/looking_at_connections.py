"""Connections and their secrets, as `doctor` looks at them."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli import words
from token_broker_cli.findings import Finding, fault, note, warning
from token_broker_cli.target import Target
from token_broker_cli.vault import CURRENT, PENDING

FEW_DAYS: Final = 14


def states(target: Target) -> Iterator[Finding]:
    """What fails, in words, and whose credentials end soon."""
    now, found = datetime.now(UTC), target.api.connections_in_full()
    well = 0
    for item in found:
        name = _name(item)
        if item["state"] in ("failing", "misconfigured"):
            why = words.failure(item["last_failure"], now) or "its stored settings are not valid"
            yield fault("connections", f"{name} is {item['state']}: {why}.", _remedy(target, item))
        elif item["state"] == "suspended":
            yield note("connections", f"{name} is suspended.")
        else:
            well += 1
        for deadline in item["deadlines"]:
            if deadline["what"] == "credentials" and deadline["days_left"] <= FEW_DAYS:
                todo = f"Get new ones, then: {_rotate(target, name)}"
                yield warning("connections", f"{name}: its credentials end {words.until(deadline['at'], now)}.", todo)
    yield Finding("connections", "ok", f"{well} of {len(found)} are well.")


def secrets(target: Target) -> Iterator[Finding]:
    """Each connection has a secret, none is left without one, and no rotation was left half done."""
    client, prefix = target.aws("secretsmanager"), target.secret_prefix + "/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [prefix]}])
    listed = {item["Name"]: item for page in pages for item in page["SecretList"] if item["Name"].startswith(prefix)}
    names = {prefix + _name(item) for item in target.api.connections()}
    for name in sorted(names - set(listed)):
        yield fault("secrets", f"There is no secret {name}.", _rotate(target, name.removeprefix(prefix)))
    for name in sorted(set(listed) - names):
        todo = f"If nobody needs it: aws secretsmanager delete-secret --secret-id {name}"
        yield note("secrets", f"The secret {name} has no connection.", todo)
    for name in sorted(names & set(listed)):
        stages: Mapping[str, list[str]] = listed[name].get("SecretVersionsToStages", {})
        if any(PENDING in held and CURRENT not in held for held in stages.values()):
            todo = "If no rotation is under way, rotate again with --replace-pending."
            yield warning("secrets", f"A version of {name} is pending.", todo)
    yield Finding("secrets", "ok", f"{len(names & set(listed))} of {len(names)} connections have one.")


def clients(target: Target) -> Iterator[Finding]:
    """No two connections of a provider use one client: its limits, locks and revocations are the client's."""
    client, using, unread = target.aws("secretsmanager"), defaultdict(list), 0
    for item in target.api.connections():
        try:
            answer = client.get_secret_value(SecretId=f"{target.secret_prefix}/{_name(item)}", VersionStage=CURRENT)
        except ClientError:
            unread += 1
            continue
        if who := _client_of(answer.get("SecretString", "")):
            using[item["provider"], who].append(_name(item))
    shared = [sorted(names) for names in using.values() if len(names) > 1]
    for names in sorted(shared):
        todo = "Give each a client of its own at the provider: a new token for one can end the other's."
        yield warning("clients", f"{' and '.join(names)} use one client_id.", todo)
    if unread:
        yield note("clients", f"{unread} secrets could not be read, and are not compared.")
    if not shared:
        yield Finding("clients", "ok", "No two connections use one client_id.")


def _client_of(text: str) -> str | None:
    """A digest that is the same for the same client; the values themselves are not kept."""
    try:
        values: Any = json.loads(text)
    except ValueError:
        return None
    who = (values.get("client_id") or values.get("username")) if isinstance(values, dict) else None
    return hashlib.sha256(str(who).encode()).hexdigest() if who else None


def _remedy(target: Target, item: Mapping[str, Any]) -> str:
    failure, check = (
        item["last_failure"] or {},
        target.line(f"connections check {item['provider']} {item['connection']}"),
    )
    if failure.get("code") in ("provider_refused", "connection_misconfigured"):
        return f"New credentials: {_rotate(target, _name(item))}; mended: {check}"
    return f"It is asked again by itself; to try it now: {check}"


def _rotate(target: Target, name: str) -> str:
    return target.line(f"connections rotate {name.replace('/', ' ')}")


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['provider']}/{item['connection']}"
