"""Token records as DynamoDB items and back.

Moments are whole milliseconds, `ttl` whole seconds. Each item has a format version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import ConnectionHealth, Lease, RefreshToken, RetiredToken, Token, TokenRecord
from token_broker.ports import StoredSettings

Item = Mapping[str, Any]
FORMAT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(value: float) -> dict[str, str]:
    return {"N": str(value)}


def string(value: str) -> dict[str, str]:
    return {"S": value}


def moment(at: datetime) -> dict[str, str]:
    """A moment as whole milliseconds since 1970."""
    return {"N": str((at - _EPOCH) // timedelta(milliseconds=1))}


def seconds(at: datetime) -> dict[str, str]:
    """A moment as whole seconds, as DynamoDB's TTL reads it."""
    return {"N": str((at - _EPOCH) // timedelta(seconds=1))}


def read_moment(item: Item, name: str) -> datetime | None:
    found = item.get(name)
    return _EPOCH + timedelta(milliseconds=int(found["N"])) if found else None


def read_string(item: Item, name: str) -> str | None:
    found = item.get(name)
    return found["S"] if found else None


def _moment_of(item: Item, name: str) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(item[name]["N"]))


def token_attributes(token: Token) -> dict[str, Any]:
    """The attributes that make up a key's current token."""
    return {
        "token": {"B": token.sealed},
        "token_id": string(token.token_id),
        "granted_scope": string(token.scope),
        "issued_at": moment(token.issued_at),
        "expires_at": moment(token.expires_at),
        "renew_at": moment(token.renew_at),
        "expires_assumed": {"BOOL": token.expires_assumed},
        "expiry_disputed": {"BOOL": token.expiry_disputed},
        "issuer": string(token.issuer),
        "secret_version": string(token.secret_version),
    }


TOKEN_ATTRIBUTES = (
    "token token_id granted_scope issued_at expires_at renew_at expires_assumed expiry_disputed issuer secret_version"
).split()


def refresh_attributes(refresh: RefreshToken) -> dict[str, Any]:
    """The attributes that make up a key's refresh token."""
    attributes: dict[str, Any] = {"refresh": {"B": refresh.sealed}, "refresh_id": string(refresh.refresh_id)}
    if refresh.expires_at is not None:
        attributes["refresh_expires_at"] = moment(refresh.expires_at)
    return attributes


REFRESH_ATTRIBUTES = "refresh refresh_id refresh_expires_at refresh_sent".split()


def read_record(key: TokenKey, item: Item | None, health: ConnectionHealth) -> TokenRecord:
    """The record of a token key's item; an empty one without an item."""
    if not item:
        return TokenRecord(key, health=health)
    lease = None
    if "lease_until" in item and "lease_owner" in item:
        lease = Lease(item["lease_owner"]["S"], _moment_of(item, "lease_until"))
    revocation_settings = read_string(item, "revocation_settings")
    return TokenRecord(
        key=key,
        token=_read_token(item) if "token" in item else None,
        refresh_token=_read_refresh(item) if "refresh" in item else None,
        lease=lease,
        last_owner=read_string(item, "lease_owner"),
        failure=read_failure(item),
        health=health,
        rejections=int(item.get("rejections", {"N": "0"})["N"]),
        rejected_until=read_moment(item, "rejected_until"),
        retired=tuple(_read_retired(entry["M"]) for entry in item.get("retired", {"L": []})["L"]),
        revocation_settings=json.loads(revocation_settings) if revocation_settings else None,
        last_used_at=read_moment(item, "last_used_at"),
        stale_at=read_moment(item, "stale_at"),
        due_at=read_moment(item, "due_at"),
        exists=True,
    )


def _read_token(item: Item) -> Token:
    return Token(
        token_id=item["token_id"]["S"],
        scope=item["granted_scope"]["S"],
        issued_at=_moment_of(item, "issued_at"),
        expires_at=_moment_of(item, "expires_at"),
        renew_at=_moment_of(item, "renew_at"),
        expires_assumed=item["expires_assumed"]["BOOL"],
        expiry_disputed=item["expiry_disputed"]["BOOL"],
        issuer=item["issuer"]["S"],
        secret_version=item["secret_version"]["S"],
        sealed=item["token"]["B"],
    )


def _read_refresh(item: Item) -> RefreshToken:
    refresh_id = item["refresh_id"]["S"]
    return RefreshToken(
        refresh_id=refresh_id,
        expires_at=read_moment(item, "refresh_expires_at"),
        sent=read_string(item, "refresh_sent") == refresh_id,
        sealed=item["refresh"]["B"],
    )


def retired_list(retired: Sequence[RetiredToken]) -> dict[str, Any]:
    """Retired tokens, each sealed as it was when it was current."""
    return {
        "L": [
            {
                "M": {
                    "token": {"B": item.sealed},
                    "token_id": string(item.token_id),
                    "expires_at": moment(item.expires_at),
                    "issuer": string(item.issuer),
                    "revoke": {"BOOL": item.revoke},
                }
            }
            for item in retired
        ]
    }


def _read_retired(entry: Item) -> RetiredToken:
    return RetiredToken(
        token_id=entry["token_id"]["S"],
        expires_at=_moment_of(entry, "expires_at"),
        issuer=entry["issuer"]["S"],
        revoke=entry["revoke"]["BOOL"],
        sealed=entry["token"]["B"],
    )


def failure_map(failure: Failure) -> dict[str, Any]:
    """A remembered failure. It holds codes and our own texts, none of the provider's."""
    entry: dict[str, Any] = {
        "code": string(failure.code),
        "detail": string(failure.detail),
        "at": moment(failure.at),
        "retry_at": moment(failure.retry_at),
        "count": number(failure.count),
        "settings_digest": string(failure.settings_digest),
        "rule": string(failure.rule),
    }
    if failure.second_chance:
        entry["second_chance"] = {"BOOL": True}
    if failure.provider_error is not None:
        entry["provider_error"] = string(failure.provider_error)
    if failure.secret_version is not None:
        entry["secret_version"] = string(failure.secret_version)
    return {"M": entry}


def read_failure(item: Item, attribute: str = "failure") -> Failure | None:
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
        second_chance="second_chance" in entry,
    )


def read_health(item: Item | None) -> ConnectionHealth:
    """Connection health; empty without an item."""
    if not item:
        return ConnectionHealth()
    new_versions = item.get("new_versions", {"L": []})["L"]
    return ConnectionHealth(
        failure=read_failure(item),
        rate_limit=read_failure(item, "rate_limit"),
        unresolved_logins=int(item.get("unresolved_logins", {"N": "0"})["N"]),
        new_versions=tuple((entry["M"]["version"]["S"], _moment_of(entry["M"], "at")) for entry in new_versions),
        trial_at=read_moment(item, "trial_at"),
    )


def read_settings(name: ConnectionName, item: Item | None) -> StoredSettings | None:
    """A connection's settings. An item that is not JSON gives empty settings, which are not valid."""
    if not item:
        return None
    try:
        settings = json.loads(item["settings"]["S"])
    except (ValueError, KeyError, RecursionError):
        settings = {}
    return StoredSettings(name, settings if isinstance(settings, dict) else {}, read_string(item, "version") or "")
