"""`doctor` on a stack that is well, and on one that is broken in every way that it knows."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from local.aws import AwsProcess
from local.connections import aws_client
from local.ports import listen
from local.providers import DEFAULT_ACCOUNTS
from local.resources import create_resources

from .conftest import Cli, physical


def findings(cli: Cli, area: str) -> list[dict[str, str]]:
    """What is not well in one area."""
    found: list[dict[str, str]] = cli("doctor", "--json").json["findings"]
    return [finding for finding in found if finding["area"] == area and finding["level"] != "ok"]


def test_a_stack_that_is_well(cli: Cli) -> None:
    looked = cli("doctor")
    assert (looked.code, looked.err) == (0, ""), looked.out
    assert looked.out.rstrip().endswith("All is well.")
    for area in ("api", "tables", "keys", "queue", "schedule", "trail", "secrets", "connections", "clients"):
        assert f"\n{area} " in looked.out


def test_a_failing_connection_is_told_in_words_with_what_to_do(cli: Cli) -> None:
    name = cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"})
    cli.token("unidy", name)
    looked = cli("doctor")
    assert looked.code == 4
    assert f"unidy/{name} is failing: The provider refused the credentials (invalid_client)" in looked.out
    assert f"token-broker connections rotate unidy {name}" in looked.out


def test_credentials_that_end_soon(cli: Cli) -> None:
    name = cli.connect(credentials_expire_at="2000-01-01T00:00:00Z")
    (found,) = findings(cli, "connections")
    assert (found["level"], found["text"].startswith(f"unidy/{name}: its credentials end since")) == ("warning", True)


def test_a_secret_that_is_missing_or_left_over(cli: Cli) -> None:
    without, left = cli.connect(), cli.connect()
    cli.secrets.delete_secret(SecretId=cli.secret_id("unidy", without), ForceDeleteWithoutRecovery=True)
    cli.ask("DELETE", f"/v1/connections/unidy/{left}")
    found = {finding["level"]: finding for finding in findings(cli, "secrets")}
    assert found["fault"]["text"] == f"There is no secret token-broker/unidy/{without}."
    assert found["fault"]["todo"] == " ".join(["token-broker connections rotate unidy", without, *cli.where])
    assert found["note"]["text"] == f"The secret token-broker/unidy/{left} has no connection."


def test_a_rotation_that_was_left_half_done(cli: Cli) -> None:
    name = cli.connect()
    cli.secrets.put_secret_value(SecretId=cli.secret_id("unidy", name), SecretString="{}", VersionStages=["AWSPENDING"])
    (found,) = findings(cli, "secrets")
    assert (found["level"], found["text"]) == ("warning", f"A version of token-broker/unidy/{name} is pending.")


def test_two_connections_on_one_client(cli: Cli) -> None:
    name = cli.connect()
    (found,) = findings(cli, "clients")
    assert (found["level"], found["text"]) == ("warning", f"unidy/demo and unidy/{name} use one client_id.")
    assert DEFAULT_ACCOUNTS["unidy"]["secret"]["client_id"] not in json.dumps(found)


def test_a_key_that_is_disabled(cli: Cli) -> None:
    kms = aws_client("kms", cli.running.endpoint_url)
    key = physical(cli.running, "SealingKey")
    kms.disable_key(KeyId=key)
    try:
        (found,) = findings(cli, "keys")
    finally:
        kms.enable_key(KeyId=key)
    assert (found["level"], found["todo"]) == ("fault", f"aws kms enable-key --key-id {key}")
    assert "SealingKey is Disabled" in found["text"]


def test_renewals_that_failed_for_good(cli: Cli) -> None:
    sqs = aws_client("sqs", cli.running.endpoint_url)
    url = cli.running.resources.dead_letter_queue_url
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    try:
        (found,) = findings(cli, "queue")
    finally:
        sqs.purge_queue(QueueUrl=url)
    assert (found["level"], found["text"].split()[0]) == ("warning", "1")
    assert "redrive" in found["todo"]


def test_a_table_that_is_gone(cli: Cli, tmp_path: Path) -> None:
    """Another stack, whose table was deleted. In a process of its own: moto keeps what it holds per process."""
    with closing(AwsProcess(listen(0), tmp_path / "aws.log")) as aws:
        aws.wait_until_ready()
        resources = create_resources(aws.endpoint_url)
        aws_client("dynamodb", aws.endpoint_url).delete_table(TableName=resources.token_table)
        looked = cli.plain("doctor", "--json", "--local", "--url", cli.running.url, "--aws-endpoint", aws.endpoint_url)
    gone = [
        finding for finding in looked.json["findings"] if finding["area"] == "tables" and finding["level"] == "fault"
    ]
    assert [finding["text"] for finding in gone] == [f"TokenTable ({resources.token_table}) is gone."]


def test_a_broker_that_is_not_there(cli: Cli) -> None:
    looked = cli.plain(
        "doctor", "--local", "--url", "http://127.0.0.1:9", "--aws-endpoint", cli.running.endpoint_url, "--json"
    )
    assert looked.code == 4
    (api,) = [finding for finding in looked.json["findings"] if finding["area"] == "api"]
    assert (api["level"], api["todo"]) == ("fault", "Is `make run` up?")


class TestInAws:
    """What only AWS has: a schedule, a trail, the queue's age."""

    def look(self, cli: Cli, where: list[str], area: str) -> Any:
        looked = cli.plain("doctor", "--json", *where)
        return [finding for finding in looked.json["findings"] if finding["area"] == area]

    def test_without_a_trail_a_changed_secret_acts_late(self, cli: Cli, in_aws: list[str]) -> None:
        (found,) = self.look(cli, in_aws, "trail")
        assert (found["level"], found["text"].startswith("No trail logs")) == ("warning", True)

    def test_a_trail_that_logs_management_events(self, cli: Cli, in_aws: list[str]) -> None:
        running = cli.running
        aws_client("s3", running.endpoint_url).create_bucket(
            Bucket="trails", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        trails = aws_client("cloudtrail", running.endpoint_url)
        trails.create_trail(Name="all", S3BucketName="trails")
        try:
            trails.start_logging(Name="all")
            selectors = [{"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}]
            trails.put_event_selectors(TrailName="all", EventSelectors=selectors)
            (found,) = self.look(cli, in_aws, "trail")
            assert (found["level"], found["text"]) == ("ok", "all tells of changed secrets.")
            trails.stop_logging(Name="all")
            (found,) = self.look(cli, in_aws, "trail")
            assert found["level"] == "warning"
        finally:
            trails.delete_trail(Name="all")

    def test_a_schedule_that_the_stack_lacks(self, cli: Cli, in_aws: list[str]) -> None:
        (found,) = self.look(cli, in_aws, "schedule")
        assert (found["level"], "has no SweepSchedule" in found["text"]) == ("fault", True)

    @pytest.mark.usefixtures("in_aws")
    def test_a_stack_that_does_not_exist(self, cli: Cli) -> None:
        asked = cli.plain("connections", "--region", "eu-west-1", "--stack", "nobodys")
        assert asked.code == 3
        assert "There is no stack nobodys in eu-west-1" in asked.err
        assert "--local" in asked.err
