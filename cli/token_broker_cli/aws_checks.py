"""`doctor`'s checks of the broker's AWS resources. They are found in the stack by the template's names."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli.findings import Finding, fault, note, ok, warning
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_cli.wording import duration

TABLES: Final = ("ConnectionTable", "TokenTable", "GrantTable")
KEYS: Final = ("SealingKey", "GrantKey", "DataKey")
# The sweep runs each minute and spreads the due renewals over the next minute.
LATE_MESSAGE_S: Final = 300
LATE_RENEWAL_S: Final = 180


def tables(target: Target) -> Iterator[Finding]:
    """The tables exist and are active."""
    dynamodb = target.aws("dynamodb")
    for logical in TABLES:
        physical = _resource(target, logical)
        try:
            status = dynamodb.describe_table(TableName=physical)["Table"]["TableStatus"]
        except dynamodb.exceptions.ResourceNotFoundException:
            todo = "Deploy again. Restore the settings from the table's backup, or with `connections apply`."
            yield fault("tables", f"{logical} ({physical}) does not exist.", todo)
            continue
        if status in ("ACTIVE", "UPDATING"):
            yield ok("tables", f"{logical} is {status.lower()}.")
        else:
            yield fault("tables", f"{logical} is {status.lower()}.", "Look at it in the DynamoDB console.")


def keys(target: Target) -> Iterator[Finding]:
    """The keys are enabled. Without them no token can be sealed or opened, and no table read."""
    kms = target.aws("kms")
    for logical in KEYS:
        physical = _resource(target, logical)
        state = kms.describe_key(KeyId=physical)["KeyMetadata"]["KeyState"]
        if state == "Enabled":
            yield ok("keys", f"{logical} is enabled.")
            continue
        todo = f"aws kms enable-key --key-id {physical}"
        if state == "PendingDeletion":
            todo = f"aws kms cancel-key-deletion --key-id {physical}; then {todo}"
        yield fault("keys", f"{logical} is {state}: no token can be sealed or opened with it.", todo)


def queues(target: Target) -> Iterator[Finding]:
    """Renewals do not wait for long, and none is in the dead-letter queue."""
    sqs = target.aws("sqs")
    waiting = _message_count(sqs, _resource(target, "RenewalQueue"))
    dead = _message_count(sqs, _resource(target, "RenewalDeadLetterQueue"))
    oldest_s = None if target.is_local else _oldest_message_s(target)
    if oldest_s is not None and oldest_s > LATE_MESSAGE_S:
        todo = "Look at renew_token's log and throttles. The stack's RenewalConcurrency may be too low."
        yield fault("queue", f"{waiting} renewals wait, the oldest for {duration(oldest_s)}.", todo)
    elif oldest_s:
        yield ok("queue", f"{waiting} renewals wait, the oldest for {duration(oldest_s)}.")
    else:
        yield ok("queue", f"{waiting} renewals wait.")
    if dead:
        todo = (
            "Correct what renew_token's log names, then start the queue's DLQ redrive. The keys come due by themselves."
        )
        yield warning("queue", f"{dead} renewals failed in the broker (dead-letter queue).", todo)


def schedule(target: Target) -> Iterator[Finding]:
    """The sweep's schedule is enabled, and no token's renewal is overdue."""
    if not target.is_local:
        group, _, name = _resource(target, "SweepSchedule").rpartition("|")
        scheduler = target.aws("scheduler")
        state = scheduler.get_schedule(Name=name, **({"GroupName": group} if group else {}))["State"]
        if state != "ENABLED":
            what = f"The schedule of sweep_due is {state.lower()}: nothing is renewed in advance."
            yield fault("schedule", what, "Enable it.")
            return
    now = datetime.now(UTC)
    late = {
        f"{item['provider']}/{item['connection']}"
        for item in target.api.connections(state="ok")
        if item["next_renewal"]
        and (now - datetime.fromisoformat(item["next_renewal"])).total_seconds() > LATE_RENEWAL_S
    }
    if late:
        todo = "If they are in use, look at sweep_due's log. A token that was not used for 24 h is not renewed."
        yield warning("schedule", f"The renewal is overdue: {', '.join(sorted(late))}.", todo)
    else:
        yield ok("schedule", "No renewal is overdue.")


def trail(target: Target) -> Iterator[Finding]:
    """Whether a CloudTrail trail reports deleted and restored secrets. Secrets Manager reports new versions itself."""
    if target.is_local:
        yield ok("trail", "The local stack reports changed secrets itself.")
        return
    cloudtrail = target.aws("cloudtrail")
    for found in cloudtrail.describe_trails(includeShadowTrails=True)["trailList"]:
        arn = found["TrailARN"]
        try:
            if cloudtrail.get_trail_status(Name=arn)["IsLogging"] and _has_management_events(cloudtrail, arn):
                yield ok("trail", f"{found['Name']} reports changed secrets.")
                return
        except ClientError:
            # An organisation's trail can belong to another account, and only that account may read it.
            yield note("trail", f"{found['Name']} cannot be read. It may report changed secrets.")
            return
    what = (
        "No trail is logging. Secrets Manager itself reports new versions of secrets, but not deletion and restoration."
    )
    yield note("trail", what)


def _resource(target: Target, logical: str) -> str:
    physical = target.resources.get(logical)
    if physical is None:
        what = f"The stack {target.stack} has no {logical}."
        raise Problem(what, "Name the broker's stack with --stack, or deploy it again.", exit_code=Exit.UNREACHABLE)
    return physical


def _message_count(sqs: Any, url: str) -> int:
    response = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(response["Attributes"]["ApproximateNumberOfMessages"])


def _oldest_message_s(target: Target) -> float | None:
    """The age of the oldest renewal in the last ten minutes; None if there is no metric."""
    now = datetime.now(UTC)
    name = _resource(target, "RenewalQueue").rpartition("/")[2]
    response = target.aws("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": name}],
        StartTime=now - timedelta(minutes=10),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    points = sorted(response["Datapoints"], key=lambda point: point["Timestamp"])
    return float(points[-1]["Maximum"]) if points else None


def _has_management_events(cloudtrail: Any, arn: str) -> bool:
    response = cloudtrail.get_event_selectors(TrailName=arn)
    basic = response.get("EventSelectors", ())
    fields = [field for item in response.get("AdvancedEventSelectors", ()) for field in item["FieldSelectors"]]
    return any(
        item.get("IncludeManagementEvents") and item.get("ReadWriteType") != "ReadOnly" for item in basic
    ) or any(field["Field"] == "eventCategory" and "Management" in field.get("Equals", ()) for field in fields)
