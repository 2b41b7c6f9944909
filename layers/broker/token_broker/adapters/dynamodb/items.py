"""Records, health and retired tokens as DynamoDB attributes and back.

Moments are whole milliseconds, `ttl` whole seconds. Each item has a format version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import Lease, RefreshToken, RetiredToken, Token, TokenRecord
from token_broker.core.schedule import KEEP, shard_of
from token_broker.ports import StoredSettings

Item = Mapping[str, Any]
FORMAT = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(value: float) -> dict[str, str]:
    return {"N": str(value)}


def string(value: str) -> dict[str, str]:
    return {"S": value}


def moment(at: datetime) -> dict[str, str]:
    """A moment as whole milliseconds since 1970."""
    return {"N": str((at - _EPOCH) // timedelta(milliseconds=1))}


def seconds(at: datetime) -> dict[str, str]:
    """A moment as whole seconds, rounded up, as DynamoDB's TTL reads it."""
    return {"N": str(-((_EPOCH - at) // timedelta(seconds=1)))}


def read_moment(item: Item, name: str) -> datetime | None:
    found = item.get(name)
    return _EPOCH + timedelta(milliseconds=int(found["N"])) if found else None


def read_seconds(item: Item, name: str) -> datetime | None:
    found = item.get(name)
    return _EPOCH + timedelta(seconds=int(found["N"])) if found else None


def read_string(item: Item, name: str) -> str | None:
    found = item.get(name)
    return found["S"] if found else None


def _moment_of(item: Item, name: str) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(item[name]["N"]))


def strings(**values: str | None) -> dict[str, Any]:
    return {name: string(value) for name, value in values.items() if value is not None}


def moments(**values: datetime | None) -> dict[str, Any]:
    return {name: moment(value) for name, value in values.items() if value is not None}


def record_attributes(record: TokenRecord) -> dict[str, Any]:
    """All attributes of a token key's item, without its key and revision."""
    attributes = {
        "format": number(FORMAT),
        "keep_warm": string(record.keep_warm),
        **strings(scope=record.key.scope, settings_digest=record.settings_digest),
        **moments(
            last_used_at=record.last_used_at,
            stale_at=record.stale_at,
            deferred_until=record.deferred_until,
            reports_until=record.reports_until,
        ),
        **due_attributes(record.key, record.due_at),
    }
    if record.reissues:
        attributes["reissues"] = {"BOOL": True}
    if record.delete_at is not None:
        attributes["ttl"] = seconds(record.delete_at)
    if record.token is not None:
        attributes |= _token_attributes(record.token)
    if record.refresh_token is not None:
        attributes |= _refresh_attributes(record.refresh_token)
    attributes |= lease_attributes(record.lease)
    if record.failure is not None:
        attributes["failure"] = failure_map(record.failure)
    return attributes


def lease_attributes(lease: Lease | None) -> dict[str, Any]:
    if lease is None:
        return {}
    return {"lease_owner": string(lease.owner), **moments(lease_since=lease.since, lease_until=lease.until)}


def read_lease(item: Item) -> Lease | None:
    if "lease_owner" not in item:
        return None
    return Lease(item["lease_owner"]["S"], _moment_of(item, "lease_since"), _moment_of(item, "lease_until"))


def due_attributes(key: TokenKey, due_at: datetime | None) -> dict[str, Any]:
    """The attributes that put a key into the due index."""
    return {} if due_at is None else {"due_shard": number(shard_of(key)), "due_at": moment(due_at)}


def _token_attributes(token: Token) -> dict[str, Any]:
    flags = {
        "expires_assumed": token.expires_assumed,
        "expiry_disputed": token.expiry_disputed,
        "reissued": token.reissued,
    }
    return {
        "token": {"B": token.sealed},
        # Only what is true: an item of at most 1 KB costs one write unit.
        **{name: {"BOOL": True} for name, flag in flags.items() if flag},
        **strings(
            token_id=token.token_id,
            granted_scope=token.scope,
            token_endpoint=token.token_endpoint,
            token_digest=token.settings_digest,
            secret_version=token.secret_version,
        ),
        **moments(issued_at=token.issued_at, expires_at=token.expires_at, renew_at=token.renew_at),
    }


def _refresh_attributes(refresh_token: RefreshToken) -> dict[str, Any]:
    return {
        "refresh_token": {"B": refresh_token.sealed},
        "refresh_id": string(refresh_token.refresh_id),
        "refresh_sent": {"BOOL": refresh_token.sent},
        **moments(refresh_expires_at=refresh_token.expires_at),
    }


def read_record(key: TokenKey, item: Item | None, health: ConnectionHealth) -> TokenRecord:
    """The record of a token key's item; an empty one without an item."""
    if not item:
        return TokenRecord(key, health=health)
    return TokenRecord(
        key=key,
        token=_read_token(item) if "token" in item else None,
        refresh_token=_read_refresh_token(item) if "refresh_token" in item else None,
        lease=read_lease(item),
        failure=read_failure(item, "failure"),
        health=health,
        keep_warm=item["keep_warm"]["S"],
        settings_digest=read_string(item, "settings_digest"),
        last_used_at=read_moment(item, "last_used_at"),
        stale_at=read_moment(item, "stale_at"),
        deferred_until=read_moment(item, "deferred_until"),
        reports_until=read_moment(item, "reports_until"),
        reissues="reissues" in item,
        due_at=read_moment(item, "due_at"),
        delete_at=read_seconds(item, "ttl"),
        revision=item["revision"]["S"],
    )


def _read_token(item: Item) -> Token:
    return Token(
        token_id=item["token_id"]["S"],
        scope=item["granted_scope"]["S"],
        issued_at=_moment_of(item, "issued_at"),
        expires_at=_moment_of(item, "expires_at"),
        renew_at=_moment_of(item, "renew_at"),
        expires_assumed="expires_assumed" in item,
        expiry_disputed="expiry_disputed" in item,
        token_endpoint=item["token_endpoint"]["S"],
        settings_digest=read_string(item, "token_digest"),
        secret_version=item["secret_version"]["S"],
        sealed=item["token"]["B"],
        reissued="reissued" in item,
    )


def _read_refresh_token(item: Item) -> RefreshToken:
    return RefreshToken(
        refresh_id=item["refresh_id"]["S"],
        expires_at=read_moment(item, "refresh_expires_at"),
        sent=item["refresh_sent"]["BOOL"],
        sealed=item["refresh_token"]["B"],
    )


def retired_attributes(token: RetiredToken) -> dict[str, Any]:
    """All attributes of a retired token's item, without its key. The token stays sealed as it was."""
    attributes = {
        "format": number(FORMAT),
        "token": {"B": token.sealed},
        "revoke": {"BOOL": token.revoke},
        "ttl": seconds(token.expires_at + KEEP),
        **strings(scope=token.key.scope, token_id=token.token_id, token_endpoint=token.token_endpoint),
        **moments(expires_at=token.expires_at),
        **due_attributes(token.key, token.due_at),
    }
    if token.settings is not None:
        attributes["settings"] = string(json.dumps(dict(token.settings)))
    return attributes


def read_retired(name: ConnectionName, item: Item) -> RetiredToken:
    settings = read_string(item, "settings")
    return RetiredToken(
        key=TokenKey(name, item["scope"]["S"]),
        token_id=item["token_id"]["S"],
        expires_at=_moment_of(item, "expires_at"),
        token_endpoint=item["token_endpoint"]["S"],
        revoke=item["revoke"]["BOOL"],
        sealed=item["token"]["B"],
        settings=json.loads(settings) if settings else None,
        due_at=read_moment(item, "due_at"),
    )


def failure_map(failure: Failure) -> dict[str, Any]:
    """A remembered failure. It holds codes and our own texts, none of the provider's."""
    attributes = {
        "count": number(failure.count),
        **strings(
            code=failure.code,
            rule=failure.rule,
            detail=failure.detail,
            provider_error=failure.provider_error,
            secret_version=failure.secret_version,
            settings_digest=failure.settings_digest,
        ),
        **moments(at=failure.at, retry_at=failure.retry_at),
    }
    if failure.one_more_try:
        attributes["one_more_try"] = {"BOOL": True}
    return {"M": attributes}


def read_failure(item: Item, attribute: str) -> Failure | None:
    if attribute not in item:
        return None
    entry = item[attribute]["M"]
    return Failure(
        code=entry["code"]["S"],
        detail=entry["detail"]["S"],
        provider_error=read_string(entry, "provider_error"),
        at=_moment_of(entry, "at"),
        retry_at=_moment_of(entry, "retry_at"),
        count=int(entry["count"]["N"]),
        secret_version=read_string(entry, "secret_version"),
        settings_digest=entry["settings_digest"]["S"],
        rule=entry["rule"]["S"],
        one_more_try="one_more_try" in entry,
    )


def health_attributes(health: ConnectionHealth) -> dict[str, Any]:
    """All attributes of a connection's health item, without its key and revision. It always has a `ttl`."""
    attributes = {
        "format": number(FORMAT),
        "unresolved_logins": number(health.unresolved_logins),
        **strings(login_version=health.login_version, api_host=health.api_host, api_host_digest=health.api_host_digest),
    }
    if health.failure is not None:
        attributes["failure"] = failure_map(health.failure)
    if health.rate_limit is not None:
        attributes["rate_limit"] = failure_map(health.rate_limit)
    for name, versions in (("new_versions", health.new_versions), ("trials", health.trials)):
        if versions:
            attributes[name] = {
                "L": [{"M": {"version": string(version), "at": moment(at)}} for version, at in versions]
            }
    if health.refused_versions:
        attributes["refused_versions"] = {"L": [string(version) for version in health.refused_versions]}
    if health.delete_at is not None:
        attributes["ttl"] = seconds(health.delete_at)
    return attributes


def read_health(item: Item | None) -> ConnectionHealth:
    """Connection health; empty without an item."""
    if not item:
        return ConnectionHealth()
    refused_versions = item.get("refused_versions", {"L": []})["L"]
    return ConnectionHealth(
        failure=read_failure(item, "failure"),
        rate_limit=read_failure(item, "rate_limit"),
        unresolved_logins=int(item["unresolved_logins"]["N"]),
        login_version=read_string(item, "login_version"),
        new_versions=_read_versions(item, "new_versions"),
        refused_versions=tuple(version["S"] for version in refused_versions),
        trials=_read_versions(item, "trials"),
        api_host=read_string(item, "api_host"),
        api_host_digest=read_string(item, "api_host_digest"),
        delete_at=read_seconds(item, "ttl"),
        revision=item["revision"]["S"],
    )


def _read_versions(item: Item, name: str) -> tuple[tuple[str, datetime], ...]:
    entries = item.get(name, {"L": []})["L"]
    return tuple((entry["M"]["version"]["S"], _moment_of(entry["M"], "at")) for entry in entries)


def settings_attributes(stored: StoredSettings) -> dict[str, Any]:
    """All attributes of a connection's item, or of an earlier version, without its key."""
    return {
        "format": number(FORMAT),
        "number": number(stored.number),
        "settings": string(json.dumps(dict(stored.settings), ensure_ascii=False)),
        **strings(version=stored.version, changed_by=stored.changed_by),
        **moments(changed_at=stored.changed_at),
    }


def read_settings(name: ConnectionName, item: Item | None) -> StoredSettings | None:
    """A connection's settings. An item that is not JSON gives empty settings, which are not valid."""
    if not item:
        return None
    try:
        settings = json.loads(item["settings"]["S"])
    except (ValueError, KeyError, RecursionError):
        settings = {}
    return StoredSettings(
        name,
        settings if isinstance(settings, dict) else {},
        read_string(item, "version") or "",
        number=int(item["number"]["N"]) if "number" in item else 1,
        changed_at=read_moment(item, "changed_at"),
        changed_by=read_string(item, "changed_by"),
    )
