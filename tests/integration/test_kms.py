"""Sealed values open only in their own table, item and purpose. Errors of KMS are broker_unavailable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.identifiers import Algorithm
from botocore.exceptions import ClientError, ConnectTimeoutError

from local.resources import LocalStack
from token_broker.adapters.kms import KmsSealer
from token_broker.core.names import ConnectionName, Place, TokenKey
from token_broker.errors import BrokerUnavailable
from token_broker.ports import SealBroken

PLACE = TokenKey(ConnectionName("unidy", "demo"), "users:read").place
TOKEN = "rqzCqRd-3_jd5MBfn_hoi-e_kSv-D3YmDghJOhaFtsw"  # pragma: allowlist secret  # invented


@pytest.fixture
def kms(session: boto3.session.Session) -> Any:
    return session.client("kms")


@pytest.fixture
def sealer(kms: Any, stack: LocalStack) -> KmsSealer:
    return KmsSealer(kms, key_arn=stack.sealing_key_arn, table=stack.token_table)


def failing(monkeypatch: pytest.MonkeyPatch, kms: Any, operation: str, error: Exception) -> None:
    """This KMS operation fails from now on."""

    def fail(**_: Any) -> Any:
        raise error

    monkeypatch.setattr(kms, operation, fail)


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "names the caller"}}, "Decrypt")


def test_a_value_opens_where_it_was_sealed(sealer: KmsSealer) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    assert sealer.open(sealed, PLACE, "access_token") == TOKEN
    assert TOKEN.encode() not in sealed


def test_the_suite_commits_to_its_key_and_does_not_sign(sealer: KmsSealer, stack: LocalStack) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    _, header = aws_encryption_sdk.EncryptionSDKClient().decrypt(source=sealed, key_provider=sealer._master_key)
    assert header.algorithm is Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    assert len(header.encrypted_data_keys) == 1
    context = {"table": stack.token_table, "key": str(PLACE), "purpose": "access_token"}
    assert header.encryption_context == context


def test_sealing_a_value_twice_gives_different_results(sealer: KmsSealer) -> None:
    assert sealer.prepare(PLACE, "access_token")(TOKEN) != sealer.prepare(PLACE, "access_token")(TOKEN)


def test_a_prepared_seal_needs_no_kms(sealer: KmsSealer, kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is asked for only after its data key is there, so an issued token can always be sealed."""
    seal = sealer.prepare(PLACE, "access_token")
    with monkeypatch.context() as denied:
        failing(denied, kms, "generate_data_key", client_error("AccessDeniedException"))
        failing(denied, kms, "decrypt", client_error("AccessDeniedException"))
        sealed = seal(TOKEN)
    assert sealer.open(sealed, PLACE, "access_token") == TOKEN


@pytest.mark.parametrize(
    "place",
    [
        (replace(PLACE, item="users:write"), "access_token"),
        (replace(PLACE, name=ConnectionName("unidy", "other")), "access_token"),
        (replace(PLACE, name=ConnectionName("oauth2", "demo")), "access_token"),
        (PLACE, "refresh_token"),
        (PLACE, ""),
    ],
)
def test_a_value_opens_for_no_other_item_or_purpose(sealer: KmsSealer, place: tuple[Place, str]) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    with pytest.raises(SealBroken):
        sealer.open(sealed, *place)


def test_a_value_does_not_open_in_another_table(sealer: KmsSealer, kms: Any, stack: LocalStack) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    other = KmsSealer(kms, key_arn=stack.sealing_key_arn, table="another-table")
    with pytest.raises(SealBroken):
        other.open(sealed, PLACE, "access_token")


def test_a_value_under_another_key_does_not_open(sealer: KmsSealer, kms: Any, stack: LocalStack) -> None:
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    sealed = KmsSealer(kms, key_arn=arn, table=stack.token_table).prepare(PLACE, "access_token")(TOKEN)
    with pytest.raises(SealBroken):
        sealer.open(sealed, PLACE, "access_token")


def test_every_tampered_part_breaks_the_seal(sealer: KmsSealer) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    for position in (0, 2, 20, 60, len(sealed) // 2, len(sealed) - 40, len(sealed) - 1):
        tampered = bytearray(sealed)
        tampered[position] ^= 1
        with pytest.raises(SealBroken):
            sealer.open(bytes(tampered), PLACE, "access_token")


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1, -30])
def test_a_truncated_or_foreign_value_breaks_the_seal(sealer: KmsSealer, cut: int) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    for mangled in (sealed[:cut], b"x" * abs(cut)):
        with pytest.raises(SealBroken):
            sealer.open(mangled, PLACE, "access_token")


@pytest.mark.parametrize(
    "code", ["DisabledException", "AccessDeniedException", "KMSInvalidStateException", "ThrottlingException"]
)
def test_a_key_that_is_disabled_or_denied_is_broker_unavailable(
    sealer: KmsSealer, kms: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    failing(monkeypatch, kms, "decrypt", client_error(code))
    failing(monkeypatch, kms, "generate_data_key", client_error(code))
    with pytest.raises(BrokerUnavailable) as opening:
        sealer.open(sealed, PLACE, "access_token")
    with pytest.raises(BrokerUnavailable) as sealing:
        sealer.prepare(PLACE, "access_token")
    for caught in (opening, sealing):
        assert "names the caller" not in str(caught.value)
        assert TOKEN not in repr(caught.value)
        assert getattr(caught.value, "service_code", None) == code


def test_a_kms_that_does_not_respond_is_broker_unavailable(
    sealer: KmsSealer, kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    timeout = ConnectTimeoutError(endpoint_url="https://kms.eu-west-1.amazonaws.com")
    failing(monkeypatch, kms, "decrypt", timeout)
    failing(monkeypatch, kms, "generate_data_key", timeout)
    with pytest.raises(BrokerUnavailable):
        sealer.open(sealed, PLACE, "access_token")
    with pytest.raises(BrokerUnavailable):
        sealer.prepare(PLACE, "access_token")


def test_a_ciphertext_that_kms_does_not_know_breaks_the_seal(
    sealer: KmsSealer, kms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = sealer.prepare(PLACE, "access_token")(TOKEN)
    failing(monkeypatch, kms, "decrypt", client_error("InvalidCiphertextException"))
    with pytest.raises(SealBroken):
        sealer.open(sealed, PLACE, "access_token")
