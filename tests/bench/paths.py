"""Every path by the wall clock: one caller, the AWS endpoint and the provider on loopback, both answering at once.

What AWS and a provider take comes on top of these times; what they hold is the handler, botocore and moto. Beside a
miss and a renewal stands a handler that keeps no tokens: it reads the secret and asks the provider each time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from local.events import Event, queue_event
from tests.bench.figure import Finding, timed
from tests.bench.ground import GET_TOKEN, Ground, event
from tests.bench.scale import Progress, Scale
from token_broker.adapters.sqs import write_message
from token_broker.ports import RenewalMessage

QUEUE_ARN: Final = "arn:aws:sqs:eu-west-1:123456789012:RenewalQueue"
ENDS_IN: Final = timedelta(minutes=10)
PAIRS: Final = (
    ("memory hit / a handler that does nothing", "memory", "nothing"),
    ("table hit, token opened before / one BatchGetItem and one Decrypt", "seen", "reading"),
    ("table hit / one BatchGetItem and one Decrypt", "table", "reading"),
    ("miss / reading the secret and asking the provider", "miss", "fetching"),
    ("renewal / reading the secret and asking the provider", "renewal", "fetching"),
)


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """A figure of wall time for each path, and for those that ask the provider one of own processor time."""
    with Ground() as ground:
        progress(f"paths: {scale.misses} misses and hits over loopback")
        name = ground.connect("demo")
        ground.fetch(name)
        floor, ask = ground.floor(name), event(name)
        # One more than is measured: the first of each kind makes clients and imports.
        cold = [ground.connect(f"shop-{number}") for number in range(scale.misses + 1)]
        order: dict[str, Any] = {"name": name, "ask": ask, "cold": [event(shop) for shop in cold]}
        found = ground.course(GET_TOKEN, "paths", order, **floor)
        progress(f"paths: {scale.misses} renewals over loopback")
        messages = [_due(ground, shop) for shop in cold]
        renewed = ground.course(
            ground.resources.renew_function, "renewals", {"ask": ask, "messages": messages}, **floor
        )
        for shop in cold:
            (item,) = ground.token_items(shop)
            # Unidy's tokens live for two hours: the one before ended in ten minutes.
            assert int(item["expires_at"]["N"]) > _ms(datetime.now(UTC) + 2 * ENDS_IN), f"{shop} was not renewed"
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
    """Makes a connection's token one that is due, and gives the worker's message of it."""
    (item,) = ground.token_items(name)
    now = datetime.now(UTC)
    ground.dynamodb.update_item(
        TableName=ground.resources.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET due_at = :due, renew_at = :due, expires_at = :end",
        ExpressionAttributeValues={":due": {"N": str(_ms(now))}, ":end": {"N": str(_ms(now + ENDS_IN))}},
    )
    body = write_message(RenewalMessage(item["pk"]["S"], item["sk"]["S"]))
    return queue_event({"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32}, QUEUE_ARN)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
