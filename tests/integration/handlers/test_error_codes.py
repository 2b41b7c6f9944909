"""Every error code of the broker, caused once through a handler."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from local.providers import DEFAULT_ACCOUNTS
from local.sigv4 import STRANGER
from token_broker import errors
from token_broker.adapters.dynamodb.items import record_attributes
from token_broker.adapters.dynamodb.keys import token_item_key
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import REPORT_BURST, Lease, TokenRecord

from .consents import consents_of
from .functions import BrokerResponse
from .problems import assert_problem, fields
from .world import World


@dataclass(frozen=True)
class Case:
    """A code, its status, how to cause it, and what else the response must hold."""

    code: str
    status: int
    cause: Callable[[World], BrokerResponse]
    retry_after: range | None = None
    detail: str = ""
    provider_error: str | None = None


def invalid_request(world: World) -> BrokerResponse:
    return world.api.put("unidy/demo", {"allowed_callers": ["nobody"], "base_url": "ftp://x", "colour": "red"})


def caller_not_allowed(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    return world.api.call("GET", f"/v1/tokens/{name}", caller=STRANGER)


def scope_not_allowed(world: World) -> BrokerResponse:
    return world.api.token(world.connect("unidy"), scope="users:read users:change_email")


def unknown_provider(world: World) -> BrokerResponse:
    return world.api.token("acme/demo")


def unknown_connection(world: World) -> BrokerResponse:
    return world.api.token("unidy/elsewhere")


def connection_suspended(world: World) -> BrokerResponse:
    return world.api.token(world.connect("unidy", suspended=True))


def connection_misconfigured(world: World) -> BrokerResponse:
    return world.api.token(world.connect("unidy", secret={"client_id": "fake"}))


def would_revoke(world: World) -> BrokerResponse:
    name = world.connect("oauth2", issue_revokes_previous=True)
    assert world.api.token(name).status == 200
    return world.api.call("POST", f"/v1/connections/{name}/trial")


def consent_required(world: World) -> BrokerResponse:
    """The refresh token was used by somebody else, and the store ended the consent."""
    name = world.connect_with_consent()
    assert world.api.token(name).status == 200
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps({**DEFAULT_ACCOUNTS["ucommerce"]["secret"], "refresh_token": "not-one-of-theirs"}),
    )
    (item,) = world.aws.token_items(name)
    assert world.api.token(name, rejected=item["token_id"]["S"]).status == 409
    return world.api.token(name, rejected=item["token_id"]["S"])


def would_consume_grant(world: World) -> BrokerResponse:
    name = world.connect_with_consent()
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps(DEFAULT_ACCOUNTS["ucommerce"]["secret"]),
        VersionStages=["AWSPENDING"],
    )
    return world.api.call("POST", f"/v1/connections/{name}/trial")


def too_many_scope_sets(world: World) -> BrokerResponse:
    name = world.connect("oauth2", issue_revokes_previous=True, allowed_scopes=["api.read", "api.write"])
    assert world.api.token(name).status == 200
    return world.api.token(name, scope="api.write")


def version_conflict(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    return world.api.put(name, world.settings("unidy"), If_Match='"another"')


def too_many_rejections(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    held = world.api.token(name)
    for _ in range(REPORT_BURST):
        held = world.api.token(name, rejected=held.body["token_id"])
        assert held.body["source"] == "provider"
    return world.api.token(name, rejected=held.body["token_id"])


def too_many_trials(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    assert world.api.call("POST", f"/v1/connections/{name}/trial").status == 200
    return world.api.call("POST", f"/v1/connections/{name}/trial")


def provider_refused(world: World) -> BrokerResponse:
    return world.api.token(world.connect("unidy", secret={"client_id": "fake", "client_secret": "wrong"}))


def provider_invalid_response(world: World) -> BrokerResponse:
    world.simulator("unidy").fail("malformed")
    return world.api.token(world.connect("unidy"))


def provider_unavailable(world: World) -> BrokerResponse:
    world.simulator("unidy").fail("status", status=503)
    return world.api.token(world.connect("unidy"))


def provider_rate_limited(world: World) -> BrokerResponse:
    world.simulator("unidy").fail("status", status=429, headers={"Retry-After": "7"})
    return world.api.token(world.connect("unidy"))


def acquisition_in_progress(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    key = TokenKey(ConnectionName("unidy", "demo"), "users:read")
    now = datetime.now(UTC)
    record = TokenRecord(key, lease=Lease("another instance", since=now, until=now + timedelta(seconds=15)))
    pk, sk = token_item_key(key.name, key.scope_id)
    item = {"pk": {"S": pk}, "sk": {"S": sk}, "revision": {"S": "r1"}, **record_attributes(record)}
    world.aws.dynamodb.put_item(TableName=world.stack.token_table, Item=item)
    # 2 s of the invocation's time are reserved for the response, so a tenth of a second is left for waiting.
    world.functions.context["remaining_ms"] = 2100
    return world.api.token(name)


def broker_unavailable(world: World) -> BrokerResponse:
    name = world.connect("unidy")
    world.functions.restart(TOKEN_TABLE="no-such-table")
    return world.api.token(name)


def internal_error(world: World) -> BrokerResponse:
    """The item of a token lacks an attribute, which no version of the broker writes."""
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    (item,) = world.aws.token_items(name)
    world.aws.dynamodb.update_item(
        TableName=world.stack.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="REMOVE token_endpoint",
    )
    world.functions.restart()
    return world.api.token(name)


def unknown_consent(world: World) -> BrokerResponse:
    return world.api.call("GET", f"/v1/connections/{world.connect('unidy')}/consent/{'0' * 64}")


def wrong_consent_state(world: World) -> BrokerResponse:
    with consents_of(world) as consents:
        consent_id = consents.start()["consent_id"]
        return consents.call("POST", f"/{consent_id}/confirm")


def new_account(world: World) -> BrokerResponse:
    with consents_of(world) as consents:
        consents.call("POST", f"/{consents.approved()}/confirm")
        consents.vendor.account = "account-2"
        return consents.call("POST", f"/{consents.approved()}/confirm")


CASES = [
    Case("invalid_request", 400, invalid_request),
    Case("caller_not_allowed", 403, caller_not_allowed, detail="arn:aws:iam::123456789012:role/stranger"),
    Case("scope_not_allowed", 403, scope_not_allowed, detail="users:change_email"),
    Case("unknown_provider", 404, unknown_provider, detail="acme"),
    Case("unknown_connection", 404, unknown_connection, detail="unidy/elsewhere"),
    Case("connection_suspended", 409, connection_suspended, detail="unidy/demo"),
    Case("connection_misconfigured", 409, connection_misconfigured, detail="client_secret"),
    Case("would_revoke", 409, would_revoke, detail="force=true"),
    Case("would_consume_grant", 409, would_consume_grant, detail="store-with-consent/demo"),
    Case("consent_required", 409, consent_required, provider_error="invalid_grant"),
    Case("too_many_scope_sets", 409, too_many_scope_sets, detail="oauth2/demo"),
    Case("unknown_consent", 404, unknown_consent, detail="unidy/demo"),
    Case("wrong_consent_state", 409, wrong_consent_state, detail="pending"),
    Case("new_account", 409, new_account, detail="confirm-new-account"),
    Case("version_conflict", 412, version_conflict, detail="unidy/demo"),
    Case("too_many_rejections", 429, too_many_rejections, retry_after=range(1, 61)),
    Case("too_many_trials", 429, too_many_trials, retry_after=range(1, 301)),
    Case("provider_refused", 502, provider_refused, provider_error="invalid_client"),
    Case("provider_invalid_response", 502, provider_invalid_response, detail="not a usable token"),
    Case("provider_unavailable", 503, provider_unavailable, retry_after=range(1, 3)),
    Case("provider_rate_limited", 503, provider_rate_limited, retry_after=range(6, 8)),
    Case("acquisition_in_progress", 503, acquisition_in_progress, retry_after=range(2, 3)),
    Case("broker_unavailable", 503, broker_unavailable, retry_after=range(1, 61)),
    Case("internal_error", 500, internal_error, detail="log"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_the_code_comes_with_its_status_and_shape(world: World, case: Case) -> None:
    response = case.cause(world)
    assert_problem(response, case.status, case.code)
    assert case.detail in response.body["detail"]
    if case.retry_after is not None:
        assert int(response.headers["retry-after"]) in case.retry_after
    assert response.body.get("provider_error") == case.provider_error
    assert ("errors" in response.body) is (case.code == "invalid_request")


def test_every_leaf_of_the_errors_is_in_the_table() -> None:
    leaves = {error.code for error in _leaves(errors.BrokerError)}
    assert {case.code for case in CASES} == leaves | {"internal_error"}


def _leaves(kind: type[errors.BrokerError]) -> Iterator[type[errors.BrokerError]]:
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    if not own:
        yield kind
    for child in own:
        yield from _leaves(child)


def test_all_faults_of_settings_are_named_at_once(world: World) -> None:
    assert fields(invalid_request(world)) == ["allowed_callers", "base_url", "colour", "scope"]


def test_all_faults_of_a_query_are_named_at_once(world: World) -> None:
    query = {"scope": "", "min_ttl": "-1", "rejected": "XYZ", "colour": "red"}
    response = world.api.call("GET", f"/v1/tokens/{world.connect('unidy')}", query)
    assert fields(response) == ["colour", "min_ttl", "rejected", "scope"]


def test_the_cause_of_an_internal_error_is_only_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    response = internal_error(world)
    assert "KeyError" not in response.text
    assert "token_endpoint" not in response.text
    (line,) = [record for record in caplog.records if record.message == "internal_error"]
    fields_of_line = vars(line)
    assert fields_of_line["error"] == "KeyError"
    assert any(place.startswith("items.py:") for place in fields_of_line["raised_at"])
