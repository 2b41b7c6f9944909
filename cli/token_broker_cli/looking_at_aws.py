"""The broker's own AWS resources, as `doctor` looks at them: found in the stack by the template's names."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli.findings import Finding, fault, note, warning
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_cli.words import span

TABLES: Final = ("ConnectionTable", "TokenTable")
KEYS: Final = ("SealingKey", "DataKey")
# A sweep each minute queues what is due, and spreads it over the minute after it.
LATE_S: Final = 300
MISSED_S: Final = 180


def tables(target: Target) -> Iterator[Finding]:
    """Both tables are there and active."""
    dynamodb = target.aws("dynamodb")
    for logical in TABLES:
        physical = _resource(target, logical)
        try:
            status = dynamodb.describe_table(TableName=physical)["Table"]["TableStatus"]
        except dynamodb.exceptions.ResourceNotFoundException:
            todo = "Deploy again; the settings come back from the table's backup, or by `connections apply`."
            yield fault("tables", f"{logical} ({physical}) is gone.", todo)
            continue
        if status in ("ACTIVE", "UPDATING"):
            yield Finding("tables", "ok", f"{logical} is {status.lower()}.")
        else:
            yield fault("tables", f"{logical} is {status.lower()}.", "Look at it in the DynamoDB console.")


def keys(target: Target) -> Iterator[Finding]:
    """Both keys are enabled: without them no token can be sealed or opened, and no table read."""
    kms = target.aws("kms")
    for logical in KEYS:
        physical = _resource(target, logical)
        state = kms.describe_key(KeyId=physical)["KeyMetadata"]["KeyState"]
        if state == "Enabled":
            yield Finding("keys", "ok", f"{logical} is enabled.")
            continue
        enable = f"aws kms enable-key --key-id {physical}"
        todo = (
            f"aws kms cancel-key-deletion --key-id {physical}; then {enable}" if state == "PendingDeletion" else enable
        )
        yield fault("keys", f"{logical} is {state}: no token can be sealed or opened with it.", todo)


def queues(target: Target) -> Iterator[Finding]:
    """Renewals do not pile up, and none failed for good."""
    sqs = target.aws("sqs")
    waiting, dead = (_messages(sqs, _resource(target, name)) for name in ("RenewalQueue", "RenewalDeadLetterQueue"))
    age_s = None if target.is_local else _oldest_s(target)
    if age_s is not None and age_s > LATE_S:
        todo = "Look at renew_token's log and throttles; RenewalConcurrency of the stack may be too low."
        yield fault("queue", f"The oldest renewal has waited for {span(age_s)} ({waiting} wait).", todo)
    else:
        yield Finding(
            "queue", "ok", f"{waiting} renewals wait" + (f", the oldest for {span(age_s)}." if age_s else ".")
        )
    if dead:
        todo = (
            "Mend what renew_token's log names, then start the queue's DLQ redrive. Keys come due again by themselves."
        )
        yield warning("queue", f"{dead} renewals failed on the broker's own side (dead-letter queue).", todo)


def schedule(target: Target) -> Iterator[Finding]:
    """The sweep runs each minute: its schedule is on, and no token in use is long past its time of renewal."""
    if not target.is_local:
        group, _, name = _resource(target, "SweepSchedule").rpartition("|")
        scheduler = target.aws("scheduler")
        state = scheduler.get_schedule(Name=name, **({"GroupName": group} if group else {}))["State"]
        if state != "ENABLED":
            yield fault(
                "schedule", f"The schedule of sweep_due is {state.lower()}: nothing is renewed ahead.", "Enable it."
            )
            return
    now = datetime.now(UTC)
    late = [
        f"{item['provider']}/{item['connection']}"
        for item in target.api.connections_in_full()
        for token in item["tokens"]
        if item["state"] == "ok" and _is_late(token, now)
    ]
    if late:
        todo = "If they are in use, look at sweep_due's log; a token that nobody used for 24 h is left to end."
        yield warning("schedule", f"Past their time of renewal: {', '.join(sorted(set(late)))}.", todo)
    else:
        yield Finding("schedule", "ok", "No token is past its time of renewal.")


def trail(target: Target) -> Iterator[Finding]:
    """CloudTrail tells of changed secrets, if there is a trail with management events."""
    if target.is_local:
        yield Finding("trail", "ok", "The local stack itself tells of changed secrets.")
        return
    cloudtrail = target.aws("cloudtrail")
    for found in cloudtrail.describe_trails(includeShadowTrails=True)["trailList"]:
        arn = found["TrailARN"]
        try:
            if cloudtrail.get_trail_status(Name=arn)["IsLogging"] and _has_management_events(cloudtrail, arn):
                yield Finding("trail", "ok", f"{found['Name']} tells of changed secrets.")
                return
        except ClientError:
            # An organisation's trail can belong to another account, which alone may look into it.
            yield note("trail", f"{found['Name']} could not be looked into: it may tell of changed secrets.")
            return
    todo = "Create a trail with management events, or live with it."
    yield warning("trail", "No trail logs: a changed secret acts only when a token is fetched next.", todo)


def _resource(target: Target, logical: str) -> str:
    physical = target.resources.get(logical)
    if physical is None:
        what = f"The stack {target.stack} has no {logical}."
        raise Problem(what, "Name the broker's stack with --stack, or deploy it again.", exit_code=Exit.UNREACHABLE)
    return physical


def _messages(sqs: Any, url: str) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _oldest_s(target: Target) -> float | None:
    """The age of the oldest renewal in the last minutes; None where there is no figure."""
    now = datetime.now(UTC)
    name = _resource(target, "RenewalQueue").rpartition("/")[2]
    answer = target.aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": name}],
        StartTime=now - timedelta(minutes=10),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return float(points[-1]["Maximum"]) if points else None


def _is_late(token: dict[str, Any], now: datetime) -> bool:
    if not token["expires_at"] or datetime.fromisoformat(token["expires_at"]) <= now:
        return False
    return (now - datetime.fromisoformat(token["renew_at"])).total_seconds() > MISSED_S


def _has_management_events(cloudtrail: Any, arn: str) -> bool:
    answer = cloudtrail.get_event_selectors(TrailName=arn)
    plain = answer.get("EventSelectors", ())
    fields = [field for item in answer.get("AdvancedEventSelectors", ()) for field in item["FieldSelectors"]]
    return any(
        item.get("IncludeManagementEvents") and item.get("ReadWriteType") != "ReadOnly" for item in plain
    ) or any(field["Field"] == "eventCategory" and "Management" in field.get("Equals", ()) for field in fields)
