"""Credentials in Secrets Manager: versions, stages, and when a secret counts as absent."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from botocore.session import get_session

from token_broker.adapters.secrets_manager import SecretsManagerStore, connections_of
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable
from token_broker.ports import SecretNotReadable

from .handlers.world import World

NAME = ConnectionName("unidy", "demo")
PREFIX = "token-broker"


@pytest.fixture
def secrets(world: World) -> SecretsManagerStore:
    return SecretsManagerStore(world.aws.secrets, prefix=world.stack.secret_prefix)


def test_the_current_version_is_read_with_its_id(world: World, secrets: SecretsManagerStore) -> None:
    world.aws.create_secret("unidy/demo", "first")
    put = world.aws.secrets.put_secret_value(SecretId=world.aws.secret_id("unidy/demo"), SecretString="second")
    found = secrets.read(NAME)
    assert found is not None
    assert (found.text, found.version) == ("second", put["VersionId"])
    assert "second" not in repr(found)


def test_a_pending_version_is_read_only_on_request(world: World, secrets: SecretsManagerStore) -> None:
    world.aws.create_secret("unidy/demo", "first")
    assert secrets.read(NAME, "AWSPENDING") is None
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id("unidy/demo"), SecretString="next", VersionStages=["AWSPENDING"]
    )
    current, pending = secrets.read(NAME), secrets.read(NAME, "AWSPENDING")
    assert current is not None
    assert pending is not None
    assert (current.text, pending.text) == ("first", "next")


def test_a_secret_that_is_missing_or_to_be_deleted_is_absent(world: World, secrets: SecretsManagerStore) -> None:
    assert secrets.read(NAME) is None
    world.aws.create_secret("unidy/demo", "first")
    world.aws.secrets.delete_secret(SecretId=world.aws.secret_id("unidy/demo"), RecoveryWindowInDays=7)
    assert secrets.read(NAME) is None


@pytest.mark.parametrize(
    ("binary", "text"),
    [
        (b'{"client_id": "\xc3\xa4"}', '{"client_id": "ä"}'),
        ('{"client_id": "ä"}'.encode("utf-8-sig"), '{"client_id": "ä"}'),
        ('{"client_id": "ä"}'.encode("utf-16"), '{"client_id": "ä"}'),
        (b"\x80\x81\xff", ""),
    ],
)
def test_a_binary_secret_has_its_text_or_none(
    world: World, secrets: SecretsManagerStore, binary: bytes, text: str
) -> None:
    """`aws secretsmanager put-secret-value --secret-binary fileb://…`. Windows PowerShell writes UTF-16."""
    arn = world.aws.create_secret("unidy/demo", "first")
    world.aws.secrets.put_secret_value(SecretId=arn, SecretBinary=binary)
    found = secrets.read(NAME)
    assert found is not None
    assert found.text == text
    assert not text or text not in repr(found)


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServiceError"])
def test_an_error_of_aws_is_broker_unavailable_and_shows_no_detail(
    secrets: SecretsManagerStore, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def fail(**_: object) -> object:
        raise ClientError({"Error": {"Code": code, "Message": "arn of the caller"}}, "GetSecretValue")

    monkeypatch.setattr(secrets._client, "get_secret_value", fail)
    with pytest.raises(BrokerUnavailable) as caught:
        secrets.read(NAME)
    assert "arn of the caller" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("code", ["AccessDeniedException", "DecryptionFailure"])
def test_a_secret_that_the_role_may_not_read_or_decrypt_is_not_readable(
    secrets: SecretsManagerStore, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def fail(**_: object) -> object:
        raise ClientError({"Error": {"Code": code, "Message": "arn of the caller"}}, "GetSecretValue")

    monkeypatch.setattr(secrets._client, "get_secret_value", fail)
    with pytest.raises(SecretNotReadable) as caught:
        secrets.read(NAME)
    assert "arn of the caller" not in str(caught.value)
    assert caught.value.__cause__ is None


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-broker"


@pytest.mark.parametrize(
    ("secret_id", "connections"),
    [
        ("token-broker/unidy/demo", {"unidy/demo"}),
        ("token-broker/unidy/demo-abcdef", {"unidy/demo-abcdef"}),
        (f"{ARN}/unidy/demo-AbCdEf", {"unidy/demo"}),
        (f"{ARN}/unidy/demo", {"unidy/demo"}),
        (f"{ARN}/unidy/eu-market", {"unidy/eu", "unidy/eu-market"}),
        (f"{ARN}/unidy/eu-main", {"unidy/eu-main"}),
        ("token-broker/unidy/Demo", set()),
        ("token-broker/unidy", set()),
        ("token-broker", set()),
        ("elsewhere/unidy/demo", set()),
        ("", set()),
    ],
)
def test_a_secrets_name_or_arn_gives_its_connections(secret_id: str, connections: set[str]) -> None:
    assert {str(found) for found in connections_of(secret_id, PREFIX)} == connections


@pytest.mark.parametrize("partition", get_session().get_available_partitions())
def test_a_full_arn_of_any_partition_gives_one_connection(partition: str) -> None:
    arn = ARN.replace("aws", partition, 1) + "/unidy/eu-market"
    assert {str(found) for found in connections_of(arn, PREFIX, is_full_arn=True)} == {"unidy/eu"}


def test_a_prefix_may_have_several_parts() -> None:
    found = connections_of("arn:aws:secretsmanager:eu-west-1:1:secret:shop/broker/unidy/demo-AbCdEf", "shop/broker")
    assert {str(name) for name in found} == {"unidy/demo"}
