"""The consent store over DynamoDB: one item per connection in GrantTable, which also has an index of due consents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.item_table import DYNAMODB, ItemTable, item_key
from token_broker.adapters.dynamodb.items import (
    FORMAT,
    Item,
    lease_attributes,
    moment,
    moments,
    number,
    read_lease,
    read_moment,
    read_string,
    string,
    strings,
)
from token_broker.adapters.dynamodb.keys import connection_of, consent_key
from token_broker.core.consents import Consent, ConsentToken
from token_broker.core.names import ConnectionName
from token_broker.ports import DueConsent

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Consents are few, and each is due once in weeks: one shard holds them all.
SHARD = 0


class DynamoConsentStore:
    """ConsentStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, grant_table: str) -> None:
        self._table = ItemTable(client, grant_table)

    def read(self, name: ConnectionName) -> Consent:
        with aws_errors(DYNAMODB):
            response = self._table.client.get_item(
                TableName=self._table.name, Key=item_key(consent_key(name)), ConsistentRead=True
            )
        return _read(name, response.get("Item"))

    def save(self, before: Consent, after: Consent) -> Consent | None:
        if after.revision is None:
            raise ValueError("a saved consent has a revision")
        saved, stored = self._table.save(
            consent_key(after.name),
            _attributes(before) if before.revision is not None else {},
            _attributes(after),
            revision=before.revision,
            new_revision=after.revision,
        )
        return None if saved else _read(after.name, stored)

    def due(self, *, until: datetime) -> Sequence[DueConsent]:
        return [due for item in self._table.due(SHARD, until) if (due := _read_due(item)) is not None]

    def claim(self, due: DueConsent, *, until: datetime) -> bool:
        claimed, _ = self._table.update(
            consent_key(due.name),
            "SET #due_at = :until",
            {":until": moment(until), ":before": moment(due.due_at)},
            condition="#due_at = :before",
            names={"#due_at": "due_at"},
        )
        return claimed


def _attributes(consent: Consent) -> dict[str, Any]:
    """All attributes of a consent's item, without its key and revision."""
    attributes = {
        "format": number(FORMAT),
        "generation": number(consent.generation),
        **strings(
            issuer=consent.issuer,
            client_id=consent.client_id,
            seed_id=consent.seed_id,
            consent_id=consent.consent_id,
            refused=consent.refused,
            scope=consent.scope,
            account=consent.account,
        ),
        **moments(sent_at=consent.sent_at, obtained_at=consent.obtained_at, refreshed_at=consent.refreshed_at),
        **lease_attributes(consent.lease),
    }
    if consent.token is not None:
        attributes |= {
            "refresh_token": {"B": consent.token.sealed},
            "refresh_id": string(consent.token.refresh_id),
            **moments(refresh_expires_at=consent.token.expires_at),
        }
    if consent.past_seeds:
        attributes["past_seeds"] = {"L": [string(seed) for seed in consent.past_seeds]}
    if consent.kept:
        attributes["kept"] = {"M": {name: string(value) for name, value in consent.kept.items()}}
    if consent.extends is not None:
        attributes["extends"] = {"BOOL": consent.extends}
    if consent.due_at is not None:
        attributes |= {"due_shard": number(SHARD), "due_at": moment(consent.due_at)}
    return attributes


def _read(name: ConnectionName, item: Item | None) -> Consent:
    """The consent in an item; an empty one without an item."""
    if not item:
        return Consent(name)
    token = None
    if "refresh_token" in item:
        token = ConsentToken(
            item["refresh_id"]["S"], item["refresh_token"]["B"], read_moment(item, "refresh_expires_at")
        )
    return Consent(
        name=name,
        token=token,
        issuer=item["issuer"]["S"],
        client_id=item["client_id"]["S"],
        seed_id=read_string(item, "seed_id"),
        past_seeds=tuple(seed["S"] for seed in item["past_seeds"]["L"]) if "past_seeds" in item else (),
        lease=read_lease(item),
        sent_at=read_moment(item, "sent_at"),
        refused=read_string(item, "refused"),
        generation=int(item["generation"]["N"]),
        consent_id=read_string(item, "consent_id"),
        scope=read_string(item, "scope"),
        account=read_string(item, "account"),
        kept={key: value["S"] for key, value in item["kept"]["M"].items()} if "kept" in item else {},
        obtained_at=read_moment(item, "obtained_at"),
        refreshed_at=read_moment(item, "refreshed_at"),
        extends=item["extends"]["BOOL"] if "extends" in item else None,
        due_at=read_moment(item, "due_at"),
        revision=item["revision"]["S"],
    )


def _read_due(item: Item) -> DueConsent | None:
    name = connection_of(item["pk"]["S"])
    due_at = read_moment(item, "due_at")
    return DueConsent(name, due_at) if name is not None and due_at is not None else None
