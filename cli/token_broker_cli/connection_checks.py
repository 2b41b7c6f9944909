"""`doctor`'s checks of connections and their secrets."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli.connection_secret import CURRENT, PENDING, secret_values
from token_broker_cli.findings import Finding, fault, note, ok, warning
from token_broker_cli.target import Target
from token_broker_cli.wording import failure_text, is_past, relative

EXPIRY_WARNING_DAYS: Final = 14


def states(target: Target) -> Iterator[Finding]:
    """Which connections fail and why, and whose credentials expire soon."""
    now = datetime.now(UTC)
    connections = list(target.api.connections())
    working = 0
    for item in connections:
        name = _name(item)
        if item["state"] == "reported":
            what = f"{name}: its tokens are reported as rejected faster than new ones may be requested."
            todo = f"See who reports them: token-broker token find, and the API's responses to {name}."
            yield warning("connections", what, todo)
        elif item["state"] == "consent_required":
            why = failure_text(item["last_failure"], now) or "its consent has ended"
            todo = f"The account's owner must consent: {_connect_command(target, name)}"
            yield fault("connections", f"{name} needs a person's consent: {why}.", todo)
        elif item["state"] in ("failing", "misconfigured"):
            why = failure_text(item["last_failure"], now) or "its stored settings are not valid"
            yield fault("connections", f"{name} is {item['state']}: {why}.", _remedy(target, item))
        elif item["state"] == "suspended":
            yield note("connections", f"{name} is suspended.")
        else:
            working += 1
        for deadline in item["deadlines"]:
            if deadline["days_left"] > EXPIRY_WARNING_DAYS:
                continue
            is_over = is_past(deadline["at"], now)
            if deadline["what"] == "credentials":
                what = f"{name}: its credentials {'expired' if is_over else 'expire'} {relative(deadline['at'], now)}."
                yield warning("connections", what, f"Get new ones, then: {_rotate_command(target, name)}")
            elif deadline["what"] == "consent":
                what = f"{name}: its consent {'expired' if is_over else 'expires'} {relative(deadline['at'], now)}."
                yield warning("connections", what, f"Consent again in time: {_connect_command(target, name)}")
    yield ok("connections", f"{working} of {len(connections)} have no fault.")


def secrets(target: Target) -> Iterator[Finding]:
    """Each connection has a secret, each secret has a connection, and no rotation was left unfinished."""
    client = target.aws("secretsmanager")
    prefix = target.secret_prefix + "/"
    pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [prefix]}])
    listed = {item["Name"]: item for page in pages for item in page["SecretList"] if item["Name"].startswith(prefix)}
    needed = {prefix + _name(item) for item in target.api.connections()}
    for name in sorted(needed - set(listed)):
        yield fault("secrets", f"There is no secret {name}.", _rotate_command(target, name.removeprefix(prefix)))
    for name in sorted(set(listed) - needed):
        todo = f"If nobody needs it: aws secretsmanager delete-secret --secret-id {name}"
        yield note("secrets", f"The secret {name} has no connection.", todo)
    for name in sorted(needed & set(listed)):
        stages: Mapping[str, list[str]] = listed[name].get("SecretVersionsToStages", {})
        if any(PENDING in labels and CURRENT not in labels for labels in stages.values()):
            todo = "If no rotation is running, rotate again with --replace-pending."
            yield warning("secrets", f"A version of {name} is pending.", todo)
    yield ok("secrets", f"{len(needed & set(listed))} of {len(needed)} connections have a secret.")


def clients(target: Target) -> Iterator[Finding]:
    """No credential has a space at its end, and no two connections of a provider share a client.

    Limits, locks and revocations apply to the client.
    """
    secretsmanager = target.aws("secretsmanager")
    connections_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    unreadable = 0
    credentials = {
        provider["slug"]: {spec["name"] for spec in provider["credentials"]} for provider in target.api.providers()
    }
    for item in target.api.connections():
        secret_id = f"{target.secret_prefix}/{_name(item)}"
        try:
            response = secretsmanager.get_secret_value(SecretId=secret_id, VersionStage=CURRENT)
        except ClientError:
            unreadable += 1
            continue
        values = secret_values(response) or {}
        for field, value in values.items():
            if field in credentials.get(item["provider"], ()) and isinstance(value, str) and value != value.strip():
                what = f"{_name(item)}: {field} begins or ends with a space."
                yield warning("clients", what, f"If it was copied with it: {_rotate_command(target, _name(item))}")
        if digest := _client_digest(values):
            connections_of[item["provider"], digest].append(_name(item))
    shared = sorted(sorted(names) for names in connections_of.values() if len(names) > 1)
    for names in shared:
        todo = "Give each its own client at the provider: a new token for one can revoke the other's."
        yield warning("clients", f"{' and '.join(names)} use one client_id.", todo)
    if unreadable:
        yield note("clients", f"{unreadable} secrets could not be read and were not compared.")
    if not shared:
        yield ok("clients", "No two connections use one client_id.")


def _client_digest(values: Mapping[str, Any]) -> str | None:
    """A digest of the client's name in a secret; None if there is none. The name itself is not kept."""
    name = values.get("client_id") or values.get("username")
    return hashlib.sha256(str(name).encode()).hexdigest() if name else None


def _remedy(target: Target, item: Mapping[str, Any]) -> str:
    failure = item["last_failure"] or {}
    check = target.command(f"connections check {item['provider']} {item['connection']}")
    if failure.get("code") in ("provider_refused", "connection_misconfigured"):
        return f"New credentials: {_rotate_command(target, _name(item))}; after a correction at the provider: {check}"
    return f"The broker tries again by itself. To try now: {check}"


def _connect_command(target: Target, name: str) -> str:
    return target.command(f"connections connect {name.replace('/', ' ')}")


def _rotate_command(target: Target, name: str) -> str:
    return target.command(f"connections rotate {name.replace('/', ' ')}")


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['provider']}/{item['connection']}"
