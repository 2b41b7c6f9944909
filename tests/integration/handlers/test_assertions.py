"""Signed assertions through the whole broker: keys in the secret and in KMS, and keys that cannot sign."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from local.providers import DEFAULT_ACCOUNTS
from local.resources import STACK_NAME
from tests.security.leak_hunt import Hunt
from tests.signing_keys import private_key

from .world import SIGNED, SIGNING_KEY_SPECS, World


def renew(world: World, name: str) -> None:
    world.aws.change_token_item(name, due_at=-timedelta(minutes=5), renew_at=-timedelta(minutes=5))
    world.sweep()
    for message in world.aws.messages():
        assert world.work(message) == {"batchItemFailures": []}


@pytest.mark.parametrize("provider", SIGNED)
def test_each_request_has_an_assertion_of_its_own(world: World, provider: str) -> None:
    """The simulator refuses one that it has seen."""
    name = world.connect(provider)
    assert world.resource(world.api.token(name)).status_code == 200
    renew(world, name)
    assert world.api.call("POST", f"/v1/connections/{name}/trial").status == 200
    assert (world.report(provider)["issued"], world.report(provider)["refused"]) == (3, 0)


@pytest.mark.parametrize("algorithm", SIGNING_KEY_SPECS)
@pytest.mark.parametrize("provider", SIGNED)
def test_a_key_in_kms_signs(world: World, provider: str, algorithm: str) -> None:
    name = world.connect_with_kms(provider, algorithm)
    assert world.resource(world.api.token(name)).status_code == 200
    renew(world, name)
    assert (world.report(provider)["issued"], world.report(provider)["refused"]) == (2, 0)


def test_a_revocation_is_authenticated_by_an_assertion_too(world: World) -> None:
    name = world.connect("oauth2-private-key-jwt")
    token = world.api.token(name)
    assert token.status == 200
    assert world.api.call("DELETE", f"/v1/tokens/{name}").body["revoked"] == [token.body["token_id"]]
    assert world.resource(token).status_code == 401


@pytest.mark.parametrize("provider", SIGNED)
@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (None, "The secret of {name} lacks private_key."),
        ("no key", "In the secret of {name}, private_key is not a private key in PEM form that can sign."),
        (private_key("P-384"), "In the secret of {name}, private_key must be an EC key on the curve P-256"),
    ],
)
def test_a_key_that_cannot_sign_is_named_and_the_provider_is_not_asked(
    world: World, provider: str, key: str | None, detail: str
) -> None:
    secret = {**DEFAULT_ACCOUNTS[provider]["secret"], "private_key": key}
    name = world.connect(provider, secret=secret)
    response = world.api.token(name)
    assert (response.status, response.body["code"]) == (409, "connection_misconfigured")
    assert response.body["detail"].startswith(detail.format(name=name))
    assert world.report(provider)["requests"] == []


def test_a_missing_kms_key_is_named_by_its_alias(world: World) -> None:
    name = world.connect("oauth2-jwt-bearer", name="no-key", signing_key="kms")
    response = world.api.token(name)
    assert response.body["code"] == "connection_misconfigured"
    assert response.body["detail"] == f"There is no KMS key with the alias alias/{STACK_NAME}/{name}."


@pytest.mark.parametrize("provider", SIGNED)
def test_a_key_that_the_provider_does_not_know_is_refused_once(world: World, provider: str) -> None:
    secret = {**DEFAULT_ACCOUNTS[provider]["secret"], "private_key": private_key("P-256")}
    name = world.connect(provider, secret=secret)
    assert [world.api.token(name).body["code"] for _ in range(3)] == ["provider_refused"] * 3
    assert world.report(provider)["refused"] == 1


def test_a_secret_cannot_lead_to_another_kms_key(world: World) -> None:
    """Whatever else the secret holds, the broker derives the alias from the connection's name."""
    name = world.connect_with_kms("oauth2-jwt-bearer")
    secret = json.loads(world.aws.secrets.get_secret_value(SecretId=world.aws.secret_id(name))["SecretString"])
    other = {**secret, "signing_key": "other", "kms_key": "alias/other", "private_key": private_key("P-256")}
    world.aws.secrets.put_secret_value(SecretId=world.aws.secret_id(name), SecretString=json.dumps(other))
    assert world.api.token(name).status == 200


def test_the_hunt_knows_a_private_key_by_each_of_its_lines(world: World, hunt: Hunt) -> None:
    key = private_key("2048")
    world.aws.create_secret("oauth2-jwt-bearer/hunted", {"private_key": key})
    body = [line for line in key.splitlines() if not line.startswith("-----")]
    assert set(body[:-1]) <= hunt.secrets
