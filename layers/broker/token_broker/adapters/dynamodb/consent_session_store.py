"""The consent sessions over DynamoDB: one item for each in GrantTable. Its key says nothing but the hash of `state`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.item_table import DYNAMODB, ItemTable, item_key
from token_broker.adapters.dynamodb.items import (
    FORMAT,
    Item,
    moment,
    moments,
    number,
    read_moment,
    read_string,
    seconds,
    string,
    strings,
)
from token_broker.adapters.dynamodb.keys import session_key
from token_broker.core.consent_sessions import KEEP, TIME_TO_APPROVE, ConsentSession, SessionFailure, SessionState
from token_broker.core.consents import ConsentToken
from token_broker.core.names import ConnectionName
from token_broker.oauth.consents import origin
from token_broker.ports import CodeReceipt

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoConsentSessionStore:
    """ConsentSessionStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, grant_table: str) -> None:
        self._table = ItemTable(client, grant_table)

    def read(self, consent_id: str) -> ConsentSession | None:
        with aws_errors(DYNAMODB):
            response = self._table.client.get_item(
                TableName=self._table.name, Key=item_key(session_key(consent_id)), ConsistentRead=True
            )
        return _read(consent_id, response.get("Item"))

    def save(self, before: ConsentSession | None, after: ConsentSession) -> bool:
        if after.revision is None:
            raise ValueError("a saved session has a revision")
        saved, _ = self._table.save(
            session_key(after.consent_id),
            _attributes(before) if before is not None else {},
            _attributes(after),
            revision=before.revision if before is not None else None,
            new_revision=after.revision,
        )
        return saved

    def receive(self, receipt: CodeReceipt, now: datetime) -> bool:
        changed: dict[str, Any] = {
            "revision": string(receipt.revision),
            "state": string((SessionState.CODE_RECEIVED if receipt.failure is None else SessionState.FAILED).value),
        }
        removed: list[str] = []
        if receipt.failure is None:
            expires_at = now + TIME_TO_APPROVE
            changed |= {
                "code": {"B": receipt.sealed_code},
                "kept": _map(receipt.kept),
                "expires_at": moment(expires_at),
                "ttl": seconds(expires_at + KEEP),
                **strings(code_id=receipt.code_id),
            }
        else:
            changed |= {"failure": _failure(receipt.failure)}
            removed = ["verifier"]
        values = {f":{name}": value for name, value in changed.items()}
        values |= {
            ":pending": string(SessionState.PENDING.value),
            ":provider": string(receipt.provider),
            ":now": moment(now),
        }
        # The session exists, is of this provider, waits for a redirect and not for a device, and its time is not over.
        conditions = ["#provider = :provider", "attribute_not_exists(#poll_interval_s)", "#expires_at > :now"]
        # The same code may come again: its message may have been lost.
        if receipt.code_id is not None:
            values[":received"] = string(SessionState.CODE_RECEIVED.value)
            conditions.append("(#state = :pending OR (#state = :received AND #code_id = :code_id))")
        else:
            conditions.append("#state = :pending")
        # RFC 9207, as oauth.consents.is_issuer compares it.
        if receipt.iss is not None:
            values |= {":iss": string(receipt.iss or "-"), ":iss_origin": string(origin(receipt.iss) or "-")}
            conditions.append("#expected_iss IN (:iss, :iss_origin)")
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in changed)
        if removed:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in removed)
        condition = " AND ".join(conditions)
        saved, _ = self._table.update(
            session_key(receipt.consent_id),
            expression,
            values,
            condition=condition,
            names={f"#{name}": name for name in re.findall(r"#(\w+)", f"{expression} {condition}")},
        )
        return saved


def _attributes(session: ConsentSession) -> dict[str, Any]:
    """All attributes of a session's item, without its key and revision."""
    attributes = {
        "format": number(FORMAT),
        "state": string(session.state.value),
        "ttl": seconds(session.delete_at),
        "generation": number(session.generation),
        **strings(
            provider=session.name.provider,
            connection=session.name.connection,
            initiator=session.initiator,
            settings_digest=session.settings_digest,
            issuer=session.issuer,
            client_id=session.client_id,
            scope=session.scope,
            redirect_uri=session.redirect_uri,
            expected_iss=session.expected_iss,
            code_id=session.code_id,
            account=session.account,
        ),
        **moments(expires_at=session.expires_at, exchange_until=session.exchange_until),
    }
    if session.poll_interval is not None:
        attributes["poll_interval_s"] = number(int(session.poll_interval.total_seconds()))
    if session.sealed_verifier is not None:
        attributes["verifier"] = {"B": session.sealed_verifier}
    if session.sealed_code is not None:
        attributes["code"] = {"B": session.sealed_code}
    if session.kept:
        attributes["kept"] = _map(session.kept)
    if session.token is not None:
        attributes |= {
            "refresh_token": {"B": session.token.sealed},
            "refresh_id": string(session.token.refresh_id),
            **moments(refresh_expires_at=session.token.expires_at),
        }
    if session.failure is not None:
        attributes["failure"] = _failure(session.failure)
    return attributes


def _map(values: Any) -> dict[str, Any]:
    return {"M": {name: string(value) for name, value in values.items()}}


def _failure(failure: SessionFailure) -> dict[str, Any]:
    return {"M": strings(code=failure.code, provider_error=failure.provider_error)}


def _read(consent_id: str, item: Item | None) -> ConsentSession | None:
    if not item:
        return None
    token = None
    if "refresh_token" in item:
        token = ConsentToken(
            item["refresh_id"]["S"], item["refresh_token"]["B"], read_moment(item, "refresh_expires_at")
        )
    failure = item["failure"]["M"] if "failure" in item else None
    expires_at = read_moment(item, "expires_at")
    if expires_at is None:
        raise ValueError("a session has an end")
    return ConsentSession(
        consent_id=consent_id,
        name=ConnectionName(item["provider"]["S"], item["connection"]["S"]),
        initiator=item["initiator"]["S"],
        settings_digest=item["settings_digest"]["S"],
        issuer=item["issuer"]["S"],
        client_id=item["client_id"]["S"],
        scope=item["scope"]["S"],
        expires_at=expires_at,
        generation=int(item["generation"]["N"]),
        redirect_uri=item["redirect_uri"]["S"],
        expected_iss=item["expected_iss"]["S"],
        poll_interval=timedelta(seconds=int(item["poll_interval_s"]["N"])) if "poll_interval_s" in item else None,
        state=SessionState(item["state"]["S"]),
        sealed_verifier=item["verifier"]["B"] if "verifier" in item else None,
        code_id=read_string(item, "code_id"),
        sealed_code=item["code"]["B"] if "code" in item else None,
        exchange_until=read_moment(item, "exchange_until"),
        kept={key: value["S"] for key, value in item["kept"]["M"].items()} if "kept" in item else {},
        token=token,
        account=read_string(item, "account"),
        failure=SessionFailure(failure["code"]["S"], read_string(failure, "provider_error")) if failure else None,
        revision=item["revision"]["S"],
    )
