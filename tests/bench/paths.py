"""Every path by the wall clock: one caller, with the AWS endpoint and the provider on loopback.

The times contain the handler, botocore and moto. AWS and a provider take time in addition. A miss and a renewal are
compared with a handler that stores no tokens: it reads the secret and asks the provider each time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from local.events import Event, queue_event
from tests.bench.figure import Finding, timed
from tests.bench.ground import GET_TOKEN, Ground, event
from tests.bench.scale import Progress, Scale
from token_broker.adapters.dynamodb.keys import parse_due_sk
from token_broker.adapters.sqs import write_message
from token_broker.core.names import ConnectionName
from token_broker.ports import RenewalMessage

QUEUE_ARN: Final = "arn:aws:sqs:eu-west-1:123456789012:RenewalQueue"
REMAINING: Final = timedelta(minutes=10)
PAIRS: Final = (
    ("memory hit / a handler that does nothing", "memory", "nothing"),
    ("table hit, token opened before / one BatchGetItem and one Decrypt", "opened", "reading"),
    ("table hit / one BatchGetItem and one Decrypt", "table", "reading"),
    ("miss / reading the secret and asking the provider", "miss", "fetching"),
    ("renewal / reading the secret and asking the provider", "renewal", "fetching"),
)


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """A figure of wall time for each path, and one of own processor time for paths that ask the provider."""
    with Ground() as ground:
        progress(f"paths: {scale.misses} misses and hits over loopback")
        name = ground.connect("demo")
        ground.fetch(name)
        floor, request = ground.floor(name), event(name)
        # One more than is measured, because the first of each kind creates clients and imports.
        cold = [ground.connect(f"shop-{number}") for number in range(scale.misses + 1)]
        task: dict[str, Any] = {"name": name, "request": request, "cold": [event(shop) for shop in cold]}
        found = ground.course(GET_TOKEN, "paths", task, **floor)
        progress(f"paths: {scale.misses} renewals over loopback")
        messages = [_due(ground, shop) for shop in cold]
        renewed = ground.course(
            ground.resources.renew_function, "renewals", {"request": request, "messages": messages}, **floor
        )
        for shop in cold:
            (item,) = ground.token_items(shop)
            # Unidy's tokens live for two hours. The old one had ten minutes left.
            assert int(item["expires_at"]["N"]) > _ms(datetime.now(UTC) + 2 * REMAINING), f"{shop} was not renewed"
    return [
        timed(
            f"{title}, {what}",
            None,
            taken[clock][measured],
            taken[clock][reference],
            scale.misses,
            time=what,
        )
        for clock, what in (("wall", "by the wall clock over loopback"), ("cpu", "own CPU"))
        for title, measured, reference in PAIRS
        if clock == "wall" or reference == "fetching"
        for taken in [renewed if measured == "renewal" else found]
    ]


def _due(ground: Ground, name: str) -> Event:
    """Makes a connection's token due, and returns the worker's message."""
    (item,) = ground.token_items(name)
    now = datetime.now(UTC)
    ground.dynamodb.update_item(
        TableName=ground.resources.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET due_at = :due, renew_at = :due, expires_at = :end",
        ExpressionAttributeValues={":due": {"N": str(_ms(now))}, ":end": {"N": str(_ms(now + REMAINING))}},
    )
    sk = parse_due_sk(item["sk"]["S"])
    assert sk is not None
    body = write_message(RenewalMessage(ConnectionName(*name.split("/")), sk[0]))
    return queue_event({"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32}, QUEUE_ARN)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
