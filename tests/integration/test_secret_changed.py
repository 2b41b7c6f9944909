"""A changed secret makes its connection's tokens due, for every API call and every spelling in CloudTrail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.events import secret_event

from .handlers.world import World

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-broker/unidy/demo-AbCdEf"
NAME = "token-broker/unidy/demo"
ROOT = Path(__file__).parents[2]


def event(name: str, **detail: Any) -> dict[str, Any]:
    """A CloudTrail event of an API call, with some parts replaced."""
    found = secret_event(name, ARN, datetime.now(UTC))
    found["detail"] |= {"requestParameters": None, "responseElements": None, **detail}
    return found


def own_event(**detail: Any) -> dict[str, Any]:
    """An event that Secrets Manager sends without CloudTrail."""
    found: dict[str, Any] = json.loads((ROOT / "events" / "secret_label_updated.json").read_text())
    found["detail"] |= detail
    return found


def service_event(name: str, **detail: Any) -> dict[str, Any]:
    """An event of Secrets Manager itself, e.g. a rotation."""
    found = event(name, eventType="AwsServiceEvent", **detail)
    return found | {"detail-type": "AWS Service Event via CloudTrail"}


EVENTS = {
    "put, by name": event("PutSecretValue", requestParameters={"secretId": NAME}, responseElements={"arn": ARN}),
    "put, name alone": event("PutSecretValue", requestParameters={"secretId": NAME}),
    "put, by arn": event("PutSecretValue", requestParameters={"secretId": ARN}),
    "put, by arn without its six characters": event("PutSecretValue", requestParameters={"secretId": ARN[:-7]}),
    "update": event("UpdateSecret", requestParameters={"secretId": NAME}, responseElements={"aRN": ARN}),
    "update, response alone": event("UpdateSecret", responseElements={"aRN": ARN, "name": NAME}),
    "stage": event(
        "UpdateSecretVersionStage",
        requestParameters={"secretId": ARN, "versionStage": "AWSCURRENT", "moveToVersionId": "v2"},
        responseElements={"aRN": ARN},
    ),
    "delete": event("DeleteSecret", requestParameters={"secretId": NAME}, responseElements={"aRN": ARN}),
    "restore": event("RestoreSecret", requestParameters={"secretId": NAME}, responseElements={"arn": ARN}),
    "another version is current": own_event(),
    "rotation": service_event("RotationSucceeded", additionalEventData={"SecretId": ARN}),
    "rotation, by name": service_event("RotationSucceeded", additionalEventData={"SecretId": NAME}),
}


def hear(world: World, heard: dict[str, Any]) -> Any:
    return world.functions.invoke(world.stack.secret_changed_function, heard)


@pytest.mark.parametrize("kind", EVENTS)
def test_every_kind_and_spelling_makes_the_tokens_due(world: World, kind: str) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    assert hear(world, EVENTS[kind]) == {"connections": 1, "keys": 1}
    (item,) = world.aws.token_items(name)
    assert int(item["due_at"]["N"]) <= datetime.now(UTC).timestamp() * 1000
    assert "stale_at" in item


def test_all_scopes_of_the_connection_and_no_other_connection_are_due(world: World) -> None:
    name, other = world.connect("unidy"), world.connect("unidy", name="demo-2")
    world.api.token(name)
    world.api.token(name, scope="users:write")
    world.api.token(other)
    assert hear(world, EVENTS["put, by name"]) == {"connections": 1, "keys": 2}
    assert world.sweep() == {"due": 2, "queued": 2, "claimed_elsewhere": 0, "deferred": 0}


def test_a_name_that_ends_like_an_arn_is_read_correctly(world: World) -> None:
    world.api.token(world.connect("unidy", name="demo-abcdef"))
    by_name = event("PutSecretValue", requestParameters={"secretId": f"{NAME}-abcdef"})
    by_arn = event("PutSecretValue", requestParameters={"secretId": f"{ARN[:-7]}-abcdef-AbCdEf"})
    assert hear(world, by_name)["keys"] == 1
    assert hear(world, by_arn)["keys"] == 1


@pytest.mark.parametrize(
    ("heard", "marked"),
    [
        (event("PutSecretValue", requestParameters={"secretId": f"{ARN[:-7]}-market"}), {"demo", "demo-market"}),
        (
            event(
                "PutSecretValue",
                requestParameters={"secretId": f"{ARN[:-7]}-market"},
                responseElements={"arn": f"{ARN[:-7]}-market-AbCdEf"},
            ),
            {"demo-market"},
        ),
        (event("UpdateSecret", responseElements={"arn": f"{ARN[:-7]}-market"}), {"demo"}),
        (event("PutSecretValue", requestParameters={"secretId": f"{ARN[:-7]}-Market"}), {"demo"}),
        (event("PutSecretValue", requestParameters={"secretId": f"{NAME}-market"}), {"demo-market"}),
        (own_event(name=f"{NAME}-market"), {"demo-market"}),
    ],
)
def test_a_partial_arn_marks_every_connection_that_it_may_mean(
    world: World, heard: dict[str, Any], marked: set[str]
) -> None:
    """A full ARN ends in six random characters, and an ARN without them can end in a word of six letters."""
    names = [world.connect("unidy"), world.connect("unidy", name="demo-market")]
    for name in names:
        world.api.token(name)
    assert hear(world, heard)["keys"] == len(marked)
    stale = {name for name in names if "stale_at" in world.aws.token_items(name)[0]}
    assert stale == {f"unidy/{name}" for name in marked}


def test_a_partial_arn_marks_the_connection_that_exists(world: World) -> None:
    world.api.token(world.connect("unidy", name="eu-market"))
    partial = event("PutSecretValue", requestParameters={"secretId": ARN.replace("demo-AbCdEf", "eu-market")})
    assert hear(world, partial)["keys"] == 1


def test_a_token_of_the_new_version_is_not_made_due_again_by_the_other_source(world: World) -> None:
    """CloudTrail reports a change minutes after Secrets Manager does."""
    name = world.connect("unidy")
    secret = '{"client_id": "fake-partner-two", "client_secret": "fake-two"}'
    world.simulator("unidy").add_account({"name": "two", "secret": json.loads(secret)})
    world.api.token(name)
    put = world.aws.secrets.put_secret_value(SecretId=world.aws.secret_id(name), SecretString=secret)
    assert hear(world, own_event(versionId=put["VersionId"]))["keys"] == 1
    world.sweep()
    (message,) = world.aws.messages()
    world.work(message)
    late = event("PutSecretValue", responseElements={"arn": ARN, "versionId": put["VersionId"]})
    assert hear(world, late) == {"connections": 1, "keys": 0}


def test_the_worker_then_uses_the_new_credentials(world: World) -> None:
    name = world.connect("unidy")
    old = world.api.token(name)
    secret = {"client_id": "fake-partner-two", "client_secret": "fake-two"}
    world.simulator("unidy").add_account({"name": "two", "secret": secret})
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString='{"client_id": "fake-partner-two", "client_secret": "fake-two"}',
    )
    hear(world, EVENTS["put, by name"])
    world.sweep()
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    new = world.api.token(name)
    assert (new.body["source"], new.body["token_id"] != old.body["token_id"]) == ("table", True)
    assert world.resource(new).json()["account"] == "two"


@pytest.mark.parametrize(
    "heard",
    [
        event("PutSecretValue", requestParameters={"secretId": "other/unidy/demo"}),
        event("PutSecretValue", requestParameters={"secretId": "token-broker-2/unidy/demo"}),
        event("PutSecretValue", requestParameters={"secretId": "token-broker/unidy"}),
        event("PutSecretValue", requestParameters={"secretId": "token-broker/unidy/demo/more"}),
        event("PutSecretValue", requestParameters={"secretId": 7}),
        event("PutSecretValue", requestParameters="text"),
        event("PutSecretValue"),
        {"detail": None},
        {},
    ],
)
def test_other_secrets_are_ignored(world: World, heard: dict[str, Any]) -> None:
    world.api.token(world.connect("unidy"))
    assert hear(world, heard) == {"connections": 0, "keys": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"errorCode": "AccessDenied"},
        {"requestParameters": {"secretId": ARN, "versionStages": ["AWSPENDING"]}},
        {"requestParameters": {"secretId": ARN, "versionStage": "AWSPREVIOUS"}},
    ],
)
def test_an_event_that_changed_no_current_version_makes_nothing_due(world: World, change: dict[str, Any]) -> None:
    """CloudTrail reports denied calls too. A principal that may not write the secret must not cause requests."""
    world.api.token(world.connect("unidy"))
    heard = event("PutSecretValue", **{"requestParameters": {"secretId": ARN}, **change})
    for ignored in (heard, own_event(labelUpdated="blue")):
        assert hear(world, ignored) == {"connections": 0, "keys": 0}
