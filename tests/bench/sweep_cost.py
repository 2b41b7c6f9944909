"""The items that a sweep reads do not depend on the number of stored keys. The real sweep and due index run on moto.

Every stored key is in the index, due some hours later, as keys in use are. DynamoDB charges for the items that each
Query evaluated (ScannedCount), so these are counted. Time is not measured, because moto reads every item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import boto3
from moto import mock_aws

from local.resources import load_template
from tests.bench.figure import Figure, Tally
from tests.fakes.world import make_broker
from token_broker.adapters.dynamodb.due_index import DynamoDueIndex
from token_broker.adapters.dynamodb.items import due_attributes
from token_broker.adapters.dynamodb.keys import token_item_key
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.schedule import SWEEP_INTERVAL
from token_broker.service.sweep import sweep

SIZES: Final = (1_000, 10_000, 100_000)
DUE: Final = 50
BAR: Final = 1.0
BATCH: Final = 25
TABLE_PROPERTIES: Final = ("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")


def measure(progress: Callable[[str], None], sizes: Sequence[int] = SIZES, due: int = DUE) -> list[Figure]:
    """One figure for each size except the first: items read / items read with the fewest keys stored."""
    tallies = []
    for stored in sizes:
        progress(f"sweep of {stored:,} keys with {due} due")
        tallies.append(_sweep(stored, due))
    first, *others = tallies
    return [
        Figure(
            f"items that a sweep reads, {tally.stored:,} keys / {first.stored:,} keys, as many due",
            tally.read / first.read,
            BAR,
            tally,
            first,
            repetitions=1,
            conditions={"due": due},
        )
        for tally in others
    ]


def _sweep(stored: int, due: int) -> Tally:
    now, read = datetime.now(UTC), []

    def count(parsed: dict[str, Any], **_: object) -> None:
        read.append(parsed["ScannedCount"])

    with mock_aws():
        client: Any = boto3.client(
            "dynamodb", region_name="eu-west-1", aws_access_key_id="local", aws_secret_access_key="local"
        )
        declared = load_template()["Resources"]["TokenTable"]["Properties"]
        client.create_table(TableName="TokenTable", **{part: declared[part] for part in TABLE_PROPERTIES})
        for start in range(0, stored, BATCH):
            numbers = range(start, min(start + BATCH, stored))
            requests = [_put(number, now if number < due else now + timedelta(hours=6)) for number in numbers]
            client.batch_write_item(RequestItems={"TokenTable": requests})
        client.meta.events.register("after-call.dynamodb.Query", count)
        due_index = DynamoDueIndex(client, token_table="TokenTable")
        context = make_broker(due_index=due_index, clock=lambda: now).context
        report = sweep(context, scheduled_at=now, deadline=now + SWEEP_INTERVAL, threads=1)
    assert report.queued == due, report
    return Tally(read=sum(read), queries=len(read), stored=stored)


def _put(number: int, due_at: datetime) -> dict[str, Any]:
    key = TokenKey(ConnectionName("unidy", f"shop-{number}"), "users:read")
    pk, sk = token_item_key(key.name, key.scope_id)
    return {"PutRequest": {"Item": {"pk": {"S": pk}, "sk": {"S": sk}, **due_attributes(key, due_at)}}}
