"""`doctor` on a working stack, and on one with each kind of fault."""

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
from token_broker_cli.admin_api import AdminApi

from .conftest import Cli, physical


def findings(cli: Cli, area: str) -> list[dict[str, str]]:
    """The findings of one area that are not ok."""
    found: list[dict[str, str]] = cli("doctor", "--json").json["findings"]
    return [finding for finding in found if finding["area"] == area and finding["level"] != "ok"]


def test_a_working_stack(cli: Cli) -> None:
    result = cli("doctor")
    assert (result.code, result.err) == (0, ""), result.out
    assert result.out.rstrip().endswith("Nothing is wrong.")
    for area in ("api", "tables", "keys", "queue", "schedule", "trail", "secrets", "connections", "clients"):
        assert f"\n{area} " in result.out


def test_a_faulty_provider_file_of_the_layer(cli: Cli) -> None:
    faulty = {"file": "acme.toml", "errors": [{"field": "request.url", "reason": "is required"}]}
    health = {"version": "1", "checks": {"tokens": "ok"}, "faulty_provider_files": [faulty]}
    cli.patch.setattr(AdminApi, "health", lambda _api: health)
    (found,) = findings(cli, "api")
    assert found["level"] == "fault"
    assert "acme.toml of the layer is not used: request.url: is required." in found["text"]


def test_a_failing_connection_is_explained_with_what_to_do(cli: Cli) -> None:
    name = cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"})
    cli.token("unidy", name)
    result = cli("doctor")
    assert result.code == 4
    assert f"unidy/{name} is failing: The provider refused the credentials (invalid_client)" in result.out
    assert f"token-broker connections rotate unidy {name}" in result.out


def test_credentials_that_expire_soon_or_have_expired(cli: Cli) -> None:
    name = cli.connect(credentials_expire_at="2000-01-01T00:00:00Z")
    (found,) = findings(cli, "connections")
    assert (found["level"], found["text"].startswith(f"unidy/{name}: its credentials expired ")) == ("warning", True)


def test_a_secret_that_is_missing_and_one_without_a_connection(cli: Cli) -> None:
    without_secret = cli.connect()
    removed = cli.connect()
    cli.secrets.delete_secret(SecretId=cli.secret_id("unidy", without_secret), ForceDeleteWithoutRecovery=True)
    cli.request("DELETE", f"/v1/connections/unidy/{removed}")
    found = {finding["level"]: finding for finding in findings(cli, "secrets")}
    assert found["fault"]["text"] == f"There is no secret token-broker/unidy/{without_secret}."
    assert found["fault"]["todo"] == " ".join(["token-broker connections rotate unidy", without_secret, *cli.options])
    assert found["note"]["text"] == f"The secret token-broker/unidy/{removed} has no connection."


def test_an_unfinished_rotation(cli: Cli) -> None:
    name = cli.connect()
    cli.secrets.put_secret_value(SecretId=cli.secret_id("unidy", name), SecretString="{}", VersionStages=["AWSPENDING"])
    (found,) = findings(cli, "secrets")
    assert (found["level"], found["text"]) == ("warning", f"A version of token-broker/unidy/{name} is pending.")


def test_two_connections_with_one_client(cli: Cli) -> None:
    name = cli.connect()
    (found,) = findings(cli, "clients")
    assert (found["level"], found["text"]) == ("warning", f"unidy/demo and unidy/{name} use one client_id.")
    assert DEFAULT_ACCOUNTS["unidy"]["secret"]["client_id"] not in json.dumps(found)


def test_a_secret_that_was_copied_with_a_space_and_one_with_a_byte_order_mark(cli: Cli) -> None:
    spaced = cli.connect(credentials={"client_id": "spaced", "client_secret": "fake-copied "})
    marked = cli.connect(credentials={"client_id": "marked", "client_secret": "fake-marked"})
    text = '\ufeff{"client_id": "spaced", "client_secret": "fake-marked"}'
    cli.secrets.put_secret_value(SecretId=cli.secret_id("unidy", marked), SecretBinary=text.encode())
    found = findings(cli, "clients")
    shown = json.dumps(found)
    assert {finding["level"] for finding in found} == {"warning"}
    assert f"unidy/{spaced}: client_secret begins or ends with a space." in [finding["text"] for finding in found]
    assert any(spaced in finding["text"] and marked in finding["text"] for finding in found), "one client_id"
    assert "fake-" not in shown


def test_a_disabled_key(cli: Cli) -> None:
    kms = aws_client("kms", cli.running.endpoint_url)
    key = physical(cli.running, "SealingKey")
    kms.disable_key(KeyId=key)
    try:
        (found,) = findings(cli, "keys")
    finally:
        kms.enable_key(KeyId=key)
    assert (found["level"], found["todo"]) == ("fault", f"aws kms enable-key --key-id {key}")
    assert "SealingKey is Disabled" in found["text"]


def test_renewals_in_the_dead_letter_queue(cli: Cli) -> None:
    sqs = aws_client("sqs", cli.running.endpoint_url)
    url = cli.running.resources.dead_letter_queue_url
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    try:
        (found,) = findings(cli, "queue")
    finally:
        sqs.purge_queue(QueueUrl=url)
    assert (found["level"], found["text"].split()[0]) == ("warning", "1")
    assert "redrive" in found["todo"]


def test_a_table_that_does_not_exist(cli: Cli, tmp_path: Path) -> None:
    """Another stack, whose table was deleted. It has its own process, because moto has one state per process."""
    with closing(AwsProcess(listen(0), tmp_path / "aws.log")) as aws:
        aws.wait_until_ready()
        resources = create_resources(aws.endpoint_url)
        aws_client("dynamodb", aws.endpoint_url).delete_table(TableName=resources.token_table)
        result = cli.plain("doctor", "--json", "--local", "--url", cli.running.url, "--aws-endpoint", aws.endpoint_url)
    faults = [
        finding for finding in result.json["findings"] if finding["area"] == "tables" and finding["level"] == "fault"
    ]
    assert [finding["text"] for finding in faults] == [f"TokenTable ({resources.token_table}) does not exist."]


def test_a_broker_that_does_not_listen(cli: Cli) -> None:
    result = cli.plain(
        "doctor", "--local", "--url", "http://127.0.0.1:9", "--aws-endpoint", cli.running.endpoint_url, "--json"
    )
    assert result.code == 4
    (api,) = [finding for finding in result.json["findings"] if finding["area"] == "api"]
    assert (api["level"], api["todo"]) == ("fault", "Is `make run` running?")


class TestInAws:
    """Checks that only AWS has: schedule, trail, the age of the oldest message."""

    def check(self, cli: Cli, where: list[str], area: str) -> Any:
        result = cli.plain("doctor", "--json", *where)
        return [finding for finding in result.json["findings"] if finding["area"] == area]

    def test_without_a_trail_there_is_a_note(self, cli: Cli, in_aws: list[str]) -> None:
        """Secrets Manager reports new versions itself."""
        (found,) = self.check(cli, in_aws, "trail")
        assert (found["level"], found["text"].startswith("No trail is logging")) == ("note", True)

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
            (found,) = self.check(cli, in_aws, "trail")
            assert (found["level"], found["text"]) == ("ok", "all reports changed secrets.")
            trails.stop_logging(Name="all")
            (found,) = self.check(cli, in_aws, "trail")
            assert found["level"] == "note"
        finally:
            trails.delete_trail(Name="all")

    def test_a_stack_without_the_schedule(self, cli: Cli, in_aws: list[str]) -> None:
        (found,) = self.check(cli, in_aws, "schedule")
        assert (found["level"], "has no SweepSchedule" in found["text"]) == ("fault", True)

    @pytest.mark.usefixtures("in_aws")
    def test_a_stack_that_does_not_exist(self, cli: Cli) -> None:
        result = cli.plain("connections", "--region", "eu-west-1", "--stack", "nobodys")
        assert result.code == 3
        assert "There is no stack nobodys in eu-west-1" in result.err
        assert "--local" in result.err
