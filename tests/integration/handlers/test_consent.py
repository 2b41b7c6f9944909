"""The consent routes and the function that exchanges codes, over moto and a vendor on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.sigv4 import LOCAL
from tests.fakes.consent_vendor import REALM
from token_broker import observability

from .consents import NAME, REDIRECT_URI, Consents, consents_of
from .world import World

OTHER = replace(LOCAL, arn="arn:aws:sts::123456789012:assumed-role/local/somebody-else")


@pytest.fixture
def consents(world: World) -> Iterator[Consents]:
    with consents_of(world) as consents:
        yield consents


def test_a_consent_from_the_authorization_url_to_the_confirmation(consents: Consents) -> None:
    started = consents.start()
    consent_id = started["consent_id"]
    assert set(started) == {"consent_id", "authorize_url", "redirect_uri", "expires_at"}
    assert started["redirect_uri"] == REDIRECT_URI
    assert consents.show(consent_id)["state"] == "pending"
    finished = consents.finish(consent_id, consents.vendor.authorize(started["authorize_url"]))
    assert (finished.status, finished.body["state"]) == (202, "code_received")
    assert consents.world.exchange_codes() == 1
    shown = consents.show(consent_id)
    assert shown == {
        "consent_id": consent_id,
        "state": "quarantined",
        "account": "account-1",
        "account_verified": True,
        "pinned_account": None,
        "scope": "orders",
        "expires_at": shown["expires_at"],
        "failure": None,
    }
    confirmed = consents.call("POST", f"/{consent_id}/confirm")
    assert (confirmed.status, confirmed.body["state"], confirmed.body["dropped"]) == (200, "confirmed", 0)
    assert confirmed.body["pinned_account"] == "account-1"
    (item,) = (found for found in consents.world.aws.items(consents.world.stack.grant_table) if "obtained_at" in found)
    assert item["kept"]["M"] == {"realmId": {"S": REALM}}
    token = consents.world.api.token(NAME)
    assert (token.status, token.body["source"], token.body["scope"]) == (200, "provider", "orders")


def test_another_account_needs_its_own_route(consents: Consents) -> None:
    assert consents.call("POST", f"/{consents.approved()}/confirm").status == 200
    consents.vendor.account = "account-2"
    consent_id = consents.approved()
    refused = consents.call("POST", f"/{consent_id}/confirm")
    assert (refused.status, refused.code) == (409, "new_account")
    confirmed = consents.call("POST", f"/{consent_id}/confirm-new-account")
    assert (confirmed.status, confirmed.body["pinned_account"]) == (200, "account-2")


def test_a_device_needs_no_redirect(consents: Consents) -> None:
    started = consents.start(flow="device")
    assert set(started) == {
        "consent_id",
        "user_code",
        "verification_uri",
        "verification_uri_complete",
        "expires_at",
        "interval",
    }
    consents.vendor.approved = True
    consents.world.aws.messages(consents.world.stack.consent_queue_url)
    assert consents.world.exchange(started["consent_id"]) == {"batchItemFailures": []}
    assert consents.show(started["consent_id"])["state"] == "quarantined"


def test_a_loopback_redirect_is_the_callers(consents: Consents) -> None:
    uri = "http://127.0.0.1:8765/back"
    started = consents.start(redirect_uri=uri)
    assert started["redirect_uri"] == uri
    finished = consents.finish(started["consent_id"], consents.vendor.authorize(started["authorize_url"]))
    assert finished.status == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"flow": "implicit"}, "flow"),
        ({"redirect_uri": "https://evil.example/"}, "redirect_uri"),
        ({"redirect_uri": 7}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1:1/", "flow": "device"}, "redirect_uri"),
        ({"redirect": "x"}, "redirect"),
        ([], "body"),
        ("{", "body"),
    ],
)
def test_a_consent_is_not_begun_by_a_malformed_body(consents: Consents, body: Any, field: str) -> None:
    response = consents.call("POST", body=body)
    assert (response.status, response.code) == (400, "invalid_request")
    assert [fault["field"] for fault in response.body["errors"]] == [field]


@pytest.mark.parametrize("body", [None, {}, {"redirect_url": 7}, {"redirect_url": "x", "code": "y"}])
def test_a_redirect_is_not_taken_from_a_malformed_body(consents: Consents, body: Any) -> None:
    consent_id = consents.start()["consent_id"]
    response = consents.call("POST", f"/{consent_id}/finish", body=body)
    assert (response.status, response.code) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["", "/finish", "/confirm", "/confirm-new-account"])
def test_a_session_that_nobody_began_is_unknown(consents: Consents, path: str) -> None:
    method = "POST" if path else "GET"
    body = {"redirect_url": f"{REDIRECT_URI}?x=1"} if path == "/finish" else None
    for consent_id in ("0" * 64, "not-an-id"):
        response = consents.call(method, f"/{consent_id}{path}", body=body)
        assert (response.status, response.code) == (404, "unknown_consent")


@pytest.mark.parametrize("path", ["/finish", "/confirm", "/confirm-new-account"])
def test_only_who_began_a_consent_finishes_and_confirms_it(consents: Consents, path: str) -> None:
    consent_id = consents.approved()
    body = {"redirect_url": f"{REDIRECT_URI}?x=1"} if path == "/finish" else None
    response = consents.call("POST", f"/{consent_id}{path}", body=body, caller=OTHER)
    assert (response.status, response.code) == (403, "caller_not_allowed")
    assert consents.call("GET", f"/{consent_id}", caller=OTHER).status == 200


def test_a_message_that_names_no_session_is_delivered_again_and_one_of_an_unknown_session_is_not(
    consents: Consents,
) -> None:
    assert consents.world.exchange("not-an-id") == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    assert consents.world.exchange("0" * 64) == {"batchItemFailures": []}


def test_a_failure_of_our_own_services_is_logged_and_the_session_queued_again(
    consents: Consents, caplog: pytest.LogCaptureFixture
) -> None:
    started = consents.start()
    consent_id = started["consent_id"]
    consents.finish(consent_id, consents.vendor.authorize(started["authorize_url"]))
    consents.world.aws.messages(consents.world.stack.consent_queue_url)
    consents.world.functions.restart(GRANT_KEY_ARN="no-such-key")
    assert consents.world.exchange(consent_id) == {"batchItemFailures": []}
    (line,) = (record for record in caplog.records if record.getMessage() == "exchange_broken_off")
    assert vars(line)["code"] == "broker_unavailable"
    assert consents.show(consent_id)["state"] == "code_received"
    consents.world.functions.restart(GRANT_KEY_ARN=consents.world.stack.grant_key_arn)
    assert consents.world.exchange(consent_id) == {"batchItemFailures": []}
    assert consents.show(consent_id)["state"] == "quarantined"


def test_the_audit_says_who_did_what(consents: Consents, caplog: pytest.LogCaptureFixture) -> None:
    consent_id = consents.approved()
    consents.call("POST", f"/{consent_id}/confirm")
    audit = observability.audit_log.registered_formatter
    lines = [json.loads(audit.format(record)) for record in caplog.records if record.name == "audit"]
    lines = [line for line in lines if line.get("consent_id") == consent_id]
    assert [(line["message"], line["decision"], line.get("account")) for line in lines] == [
        ("consent_started", "started", None),
        ("consent_redirected", "code_received", None),
        ("consent_exchanged", "quarantined", "account-1"),
        ("consent_confirmed", "confirmed", "account-1"),
    ]
    assert {line.get("caller") or line["initiator"] for line in lines} == {LOCAL.identity["userArn"]}
