"""Causes each alarm's condition, and checks that its metric is written under the name in the template.

Our own metrics are what the functions print. AWS's metrics are made here from what AWS would observe: a handler that
raises, an invocation without an environment, a queue's messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from moto.backends import get_backend

from local.aws import ACCOUNT_ID, REGION
from local.events import queue_event
from local.lambda_environments import EnvironmentPool, Function, NoFreeEnvironment
from local.providers import DEFAULT_ACCOUNTS
from local.resources import LocalStack
from token_broker.errors import BrokerUnavailable
from token_broker.http.responses import timestamp

from .alarms import Alarm, Point, alarms_of_template, embedded
from .handlers.world import QUEUE_ARN, World
from .test_renew_token import DONE, message, used

Points = list[Point]
RENEW_TOKEN = "RenewTokenFunction"
ALARMS = {
    *("InternalErrorsAlarm", "BrokerUnavailableAlarm", "FunctionErrorsAlarm", "DeadLettersAlarm", "OldestMessageAlarm"),
    *("SweepNotRunningAlarm", "CallersWithoutTokenAlarm", "ProviderFailuresAlarm", "RefusedOrMisconfiguredAlarm"),
    *("ConsentRequiredAlarm", "CredentialsExpiringAlarm", "ThrottlesAlarm", "ConsentDeadLettersAlarm"),
}


@pytest.fixture(scope="session")
def alarms(stack: LocalStack) -> dict[str, Alarm]:
    return alarms_of_template(stack)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], Points]:
    """The metrics since the last call."""
    return lambda: embedded(capsys.readouterr().out)


@pytest.fixture
def ringing(alarms: dict[str, Alarm], printed: Callable[[], Points]) -> Callable[..., set[str]]:
    """The alarms that ring for the metrics printed since the last call and for the datapoints of AWS.

    SweepNotRunningAlarm rings without any datapoints, so it is returned only with `sweep`.
    """

    def look(*published: Point, sweep: bool = False) -> set[str]:
        points = [*printed(), *published]
        return {
            name for name, alarm in alarms.items() if alarm.rings(points) and (sweep or name != "SweepNotRunningAlarm")
        }

    return look


def queue_metric(metric: str, url: str, value: float) -> Point:
    return Point("AWS/SQS", metric, {"QueueName": url.rpartition("/")[2]}, value)


def end_cooldowns(world: World) -> None:
    """Ends the cooldowns of all stored failures."""
    table = world.stack.token_table
    for item in world.aws.items(table):
        if "failure" in item:
            world.aws.dynamodb.update_item(
                TableName=table,
                Key={"pk": item["pk"], "sk": item["sk"]},
                UpdateExpression="SET failure.retry_at = :past",
                ExpressionAttributeValues={":past": item["failure"]["M"]["at"]},
            )


def test_these_are_all_alarms(alarms: dict[str, Alarm]) -> None:
    assert alarms.keys() == ALARMS


def test_no_alarm_rings_while_everything_works(world: World, ringing: Callable[..., set[str]]) -> None:
    world.sweep()
    used(world)
    assert world.work(message()) == DONE
    world.functions.restart()
    world.api.token("unidy/demo")
    world.api.token("unidy/unknown")  # the caller's fault
    depth = queue_metric("ApproximateNumberOfMessagesVisible", world.stack.dead_letter_queue_url, 0)
    age = queue_metric("ApproximateAgeOfOldestMessage", world.stack.renewal_queue_url, 60)
    calls = [
        Point("AWS/Lambda", metric, {"FunctionName": function}, 0)
        for metric in ("Errors", "Throttles")
        for function in world.stack.handlers
    ]
    assert ringing(depth, age, *calls, sweep=True) == set()


def test_an_unexpected_failure_of_a_request(
    world: World, ringing: Callable[..., set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    monkeypatch.setattr("get_token.app.token_body", lambda _: 1 / 0)
    assert world.api.token(name).code == "internal_error"
    assert ringing() == {"InternalErrorsAlarm"}


def test_an_unexpected_failure_of_a_renewal(world: World, ringing: Callable[..., set[str]]) -> None:
    assert world.work(message("no message of ours")) != DONE
    assert ringing() == {"InternalErrorsAlarm"}


@pytest.mark.parametrize("is_new", [True, False])
def test_only_a_failure_of_the_new_version_stops_its_deployment(
    world: World,
    printed: Callable[[], Points],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_new: bool,
) -> None:
    alarm = alarms_of_template(world.stack, Deployment="Canary10Percent5Minutes")["NewVersionErrorsAlarm"]
    (new,) = (
        dimensions["version"] for _, _, dimensions in alarm.metrics() if dimensions.get("function") == RENEW_TOKEN
    )
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", RENEW_TOKEN)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", new if is_new else "the version before")
    assert world.work(message("no message of ours")) != DONE
    assert alarm.rings(printed()) is is_new


def test_our_own_services_fail_a_caller(world: World, ringing: Callable[..., set[str]]) -> None:
    world.functions.restart(CONNECTION_TABLE="not-there")
    assert world.api.token(world.connect("unidy")).code == "broker_unavailable"
    assert ringing() == {"BrokerUnavailableAlarm"}


def test_our_own_services_fail_a_renewal(world: World, ringing: Callable[..., set[str]]) -> None:
    used(world)
    ringing()
    world.functions.restart(TOKEN_TABLE="not-there")
    assert world.work(message()) != DONE
    assert ringing() == {"BrokerUnavailableAlarm"}


def test_a_function_raises(world: World, ringing: Callable[..., set[str]]) -> None:
    world.functions.restart(TOKEN_TABLE="not-there")
    with pytest.raises(BrokerUnavailable):
        world.sweep()
    raised = Point("AWS/Lambda", "Errors", {"FunctionName": world.stack.sweep_function}, 1)
    assert ringing(raised) == {"FunctionErrorsAlarm"}


@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_no_function_is_left_out(alarms: dict[str, Alarm], stack: LocalStack, metric: str) -> None:
    alarm = alarms["FunctionErrorsAlarm" if metric == "Errors" else "ThrottlesAlarm"]
    functions = [dimensions["FunctionName"] for _, found, dimensions in alarm.metrics() if found == metric]
    assert sorted(functions) == sorted(stack.handlers)
    for function in stack.handlers:
        assert alarm.rings([Point("AWS/Lambda", metric, {"FunctionName": function}, 1)])


def test_lambda_throttles_a_call(ringing: Callable[..., set[str]]) -> None:
    function = Function("GetTokenFunction", "get_token.app.lambda_handler", {}, 1.0, 128)
    with EnvironmentPool(function, size=1) as pool:
        pool._take(0)
        with pytest.raises(NoFreeEnvironment):
            pool.invoke({}, wait_s=0)
    assert ringing(Point("AWS/Lambda", "Throttles", {"FunctionName": function.function_id}, 1)) == {"ThrottlesAlarm"}


@pytest.mark.parametrize(
    ("queue", "dead", "function", "alarm"),
    [
        ("renewal_queue_url", "dead_letter_queue_url", "renew_function", "DeadLettersAlarm"),
        ("consent_queue_url", "consent_dead_letter_queue_url", "exchange_function", "ConsentDeadLettersAlarm"),
    ],
)
def test_a_message_that_fails_five_times(
    world: World, ringing: Callable[..., set[str]], queue: str, dead: str, function: str, alarm: str
) -> None:
    sqs, queue, dead = world.aws.sqs, getattr(world.stack, queue), getattr(world.stack, dead)
    sqs.send_message(QueueUrl=queue, MessageBody="no message of ours")
    for _ in range(5):
        (received,) = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)["Messages"]
        event = queue_event(message(received["Body"]), QUEUE_ARN)
        assert world.functions.invoke(getattr(world.stack, function), event) != DONE
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    try:
        counted = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])
        depth = int(counted["Attributes"]["ApproximateNumberOfMessages"])
        ringing()
        found = ringing(queue_metric("ApproximateNumberOfMessagesVisible", dead, depth))
        assert found == {alarm}
    finally:
        sqs.purge_queue(QueueUrl=dead)


def test_the_queue_is_not_processed(world: World, ringing: Callable[..., set[str]]) -> None:
    used(world)
    assert world.sweep()["queued"] == 1
    ringing()
    # SQS publishes the age of the oldest message. Here it is the age that it will have in ten minutes.
    queue = get_backend("sqs")[ACCOUNT_ID][REGION].queues[world.stack.renewal_queue_url.rpartition("/")[2]]
    (waiting,) = queue._messages
    assert waiting.sent_timestamp is not None
    age = (datetime.now(UTC) + timedelta(minutes=10)).timestamp() - waiting.sent_timestamp / 1000
    found = ringing(queue_metric("ApproximateAgeOfOldestMessage", world.stack.renewal_queue_url, age))
    assert found == {"OldestMessageAlarm"}


def test_no_sweep_runs(world: World, ringing: Callable[..., set[str]]) -> None:
    world.sweep()
    assert ringing(sweep=True) == set()
    used(world)  # callers send requests, but no sweep runs
    assert ringing(sweep=True) == {"SweepNotRunningAlarm"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "status": 503}, "provider_unavailable"),
        ({"kind": "status", "status": 429}, "provider_rate_limited"),
        ({"kind": "malformed"}, "provider_invalid_response"),
    ],
)
def test_a_provider_leaves_callers_without_a_token(
    world: World, ringing: Callable[..., set[str]], fault: dict[str, object], code: str
) -> None:
    name = world.connect("unidy")
    world.simulator("unidy").fail(**fault)
    assert world.api.token(name).code == code
    assert ringing() == {"CallersWithoutTokenAlarm"}


def test_renewals_fail_while_callers_are_served(world: World, ringing: Callable[..., set[str]]) -> None:
    used(world)
    world.simulator("unidy").fail("status", status=503, times=3)
    for failures in (1, 2, 3):
        ringing()
        end_cooldowns(world)
        assert world.work(message()) == DONE
        assert ringing() == ({"ProviderFailuresAlarm"} if failures == 3 else set())
    world.functions.restart()
    assert world.api.token("unidy/demo").status == 200


@pytest.mark.parametrize("met_by", ["caller", "renewal"])
def test_credentials_are_refused(world: World, ringing: Callable[..., set[str]], met_by: str) -> None:
    if met_by == "renewal":
        used(world)
        ringing()
    name = "unidy/demo" if met_by == "renewal" else world.connect("unidy")
    world.simulator("unidy").fail("status", status=401, body={"error": "invalid_client"})
    if met_by == "caller":
        assert world.api.token(name).code == "provider_refused"
    else:
        assert world.work(message()) == DONE
    assert ringing() == {"RefusedOrMisconfiguredAlarm"}


@pytest.mark.parametrize("met_by", ["caller", "renewal"])
def test_a_secret_is_missing(world: World, ringing: Callable[..., set[str]], met_by: str) -> None:
    if met_by == "renewal":
        used(world)
        ringing()
    name = "unidy/demo" if met_by == "renewal" else world.connect("unidy")
    world.aws.secrets.delete_secret(SecretId=world.aws.secret_id(name), ForceDeleteWithoutRecovery=True)
    if met_by == "caller":
        assert world.api.token(name).code == "connection_misconfigured"
    else:
        assert world.work(message()) == DONE
    assert ringing() == {"RefusedOrMisconfiguredAlarm"}


def test_a_person_must_consent(world: World, ringing: Callable[..., set[str]]) -> None:
    name = world.connect_with_consent()
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name), SecretString=json.dumps(DEFAULT_ACCOUNTS["ucommerce"]["secret"])
    )
    ringing()
    assert world.api.token(name).code == "consent_required"
    assert ringing() == {"ConsentRequiredAlarm"}


@pytest.mark.parametrize(("days", "rings"), [(13, True), (15, False)])
def test_credentials_expire_soon(world: World, ringing: Callable[..., set[str]], days: int, *, rings: bool) -> None:
    name = world.connect("unidy", credentials_expire_at=timestamp(datetime.now(UTC) + timedelta(days=days)))
    world.api.token(name)
    assert ringing() == ({"CredentialsExpiringAlarm"} if rings else set())
