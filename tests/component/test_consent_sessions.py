"""A consent from its beginning to its confirmation, over fakes: what is sent, stored and shown, and what goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.component.consent_stage import ANN, REDIRECT_URI, ConsentStage
from tests.fakes import World, dying, hanging, recording, unreachable
from tests.fakes.consent_vendor import REALM, SLUG
from token_broker.core.consent_sessions import QUARANTINE, TIME_TO_APPROVE, TIME_TO_EXCHANGE
from token_broker.core.names import fingerprint
from token_broker.errors import (
    BrokerUnavailable,
    ConnectionMisconfigured,
    InvalidRequest,
    NewAccount,
    ProviderRefused,
    UnknownConsent,
    WrongConsentState,
)
from token_broker.oauth.exchange import HttpResponse
from token_broker.service import Broker
from token_broker.service.exchange_code import ExchangeOutcome


@pytest.fixture
def stage(world: World, tmp_path: Path) -> ConsentStage:
    return ConsentStage.over(world, tmp_path)


# ------------------------------------------------------------------ the whole way
def test_a_consent_is_live_after_approval_exchange_and_confirmation(stage: ConsentStage) -> None:
    started = stage.start()
    assert stage.show(started)["state"] == "pending"
    shown = stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    assert shown.session.state.value == "code_received"
    (exchange,) = stage.work()
    assert exchange.outcome is ExchangeOutcome.QUARANTINED
    assert stage.show(started) == {"state": "quarantined", "account": "account-1", "pinned": None, "failure": None}
    assert stage.world.consents.read(stage.name).token is None
    stage.confirm(started)
    consent = stage.world.consents.read(stage.name)
    assert stage.refresh_token() == stage.vendor.issued[-1]
    assert (consent.issuer, consent.client_id) == (f"{stage.vendor.url}/token", "the-client")
    assert (consent.account, consent.scope, consent.kept) == ("account-1", "orders", {"realmId": REALM})
    assert (consent.generation, consent.obtained_at) == (1, stage.world.clock())
    assert consent.due_at is not None
    assert stage.show(started) == {"state": "confirmed", "account": "account-1", "pinned": "account-1", "failure": None}


def test_the_code_is_sent_once_however_often_its_message_comes(stage: ConsentStage) -> None:
    started = stage.start()
    redirect_url = stage.vendor.authorize(started.authorize_url or "")
    for _ in range(3):
        stage.finish(started, redirect_url)
    outcomes = [exchange.outcome for exchange in stage.work()]
    assert outcomes == [ExchangeOutcome.QUARANTINED, ExchangeOutcome.NOTHING_TO_DO, ExchangeOutcome.NOTHING_TO_DO]
    assert len(stage.vendor.requests) == 1


def test_a_confirmation_can_be_repeated(stage: ConsentStage) -> None:
    started = stage.approved()
    stage.confirm(started)
    before = stage.world.consents.read(stage.name)
    stage.confirm(started)
    assert stage.world.consents.read(stage.name) == before


def test_a_confirmation_that_broke_off_goes_on_where_it_stopped(stage: ConsentStage) -> None:
    started = stage.approved()
    # The consent was saved, and then the session could not be.
    stage.world.faults.fail("consent_sessions.save")
    with pytest.raises(BrokerUnavailable):
        stage.confirm(started)
    assert stage.show(started)["state"] == "quarantined"
    stage.confirm(started)
    assert stage.show(started)["state"] == "confirmed"
    assert stage.world.consents.read(stage.name).generation == 1


@pytest.mark.parametrize("change", ["another_consent", "a_drop"])
@pytest.mark.parametrize("broke_off", [False, True])
def test_a_consent_never_replaces_a_newer_one_or_comes_back_after_a_drop(
    stage: ConsentStage, change: str, broke_off: bool
) -> None:
    """Its refresh token may be spent by then. `broke_off`: it was live already, and the session does not know it."""
    if not broke_off:
        stage.confirm(stage.approved())
    old = stage.approved()
    if broke_off:
        stage.world.faults.fail("consent_sessions.save")
        with pytest.raises(BrokerUnavailable):
            stage.confirm(old)
    if change == "another_consent":
        stage.confirm(stage.approved())
    else:
        stage.broker.drop_consent(stage.name)
    live = stage.world.consents.read(stage.name)
    for new_account in (False, True):
        with pytest.raises(WrongConsentState, match="Begin anew"):
            stage.confirm(old, new_account=new_account)
    assert stage.world.consents.read(stage.name) == live


def test_a_redirect_that_is_handed_over_again_later_changes_nothing(stage: ConsentStage) -> None:
    started = stage.start()
    redirect_url = stage.vendor.authorize(started.authorize_url or "")
    stage.finish(started, redirect_url)
    steps: list[Any] = [stage.work, lambda: stage.confirm(started)]
    for step, state in zip(steps, ("quarantined", "confirmed"), strict=True):
        step()
        assert stage.finish(started, redirect_url).session.state.value == state
        assert stage.work() == []


def test_a_loopback_redirect_needs_no_setting(stage: ConsentStage) -> None:
    stage.world.settings(stage.name, base_url=stage.vendor.url, scope="orders")
    uri = "http://127.0.0.1:8765/back"
    started = stage.sessions.start(stage.name, initiator=ANN, redirect_uri=uri)
    assert started.session.redirect_uri == uri
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]
    with pytest.raises(InvalidRequest):
        stage.start()


@pytest.mark.parametrize("provider", ["oauth2", "unicommerce"])
def test_a_provider_without_persons_has_no_consent(world: World, broker: Broker, provider: str) -> None:
    with pytest.raises(InvalidRequest):
        broker.consent_sessions.start(world.connection(provider), initiator=ANN, redirect_uri=None)
    with pytest.raises(InvalidRequest):
        broker.consent_sessions.start_device(world.connection(provider), initiator=ANN)


def test_a_session_belongs_to_its_connection(stage: ConsentStage) -> None:
    started = stage.start()
    other = stage.world.connection(SLUG, "other", base_url=stage.vendor.url, redirect_uri=REDIRECT_URI)
    for name, consent_id in ((other, started.session.consent_id), (stage.name, "0" * 64)):
        with pytest.raises(UnknownConsent):
            stage.sessions.show(name, consent_id)


@pytest.mark.parametrize("consent_id", ["", "A" * 64, "0" * 65, "0" * 2048, "0" * 63 + "\n"])
def test_what_is_no_id_of_a_session_is_looked_up_nowhere(stage: ConsentStage, consent_id: str) -> None:
    stage.world.faults.fail("consent_sessions.read")
    with pytest.raises(UnknownConsent):
        stage.sessions.show(stage.name, consent_id)


# ------------------------------------------------------------------ what goes wrong
def test_a_person_can_refuse(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.refuse(started.authorize_url or ""))
    assert stage.work() == []
    assert stage.show(started)["failure"] == ("provider_refused", "access_denied")
    with pytest.raises(WrongConsentState):
        stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))


def test_a_refused_code_ends_the_session(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.vendor.refuses = "invalid_grant"
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.FAILED]
    assert stage.show(started)["failure"][1] == "invalid_grant"
    with pytest.raises(WrongConsentState):
        stage.confirm(started)


def test_a_code_that_was_not_sent_is_tried_again(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.provider.to = unreachable()
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.ASKED_AGAIN_LATER]
    assert stage.show(started)["state"] == "code_received"
    stage.world.provider.to = stage.vendor
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]


def test_a_code_whose_outcome_is_unknown_is_not_sent_again(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.provider.to = hanging()
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.FAILED]
    assert stage.show(started)["failure"] == ("provider_unavailable", None)


def test_a_worker_that_dies_after_sending_leaves_an_unknown_outcome(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.provider.to = dying()
    with pytest.raises(KeyboardInterrupt):
        stage.work()
    stage.world.provider.to = recording(stage.vendor)
    again = stage.broker.exchange_code(started.session.consent_id)
    assert again.outcome is ExchangeOutcome.NOTHING_TO_DO
    stage.world.clock.advance(TIME_TO_EXCHANGE.total_seconds())
    assert stage.broker.exchange_code(started.session.consent_id).outcome is ExchangeOutcome.NOTHING_TO_DO
    assert stage.show(started) == {
        "state": "failed",
        "account": None,
        "pinned": None,
        "failure": ("outcome_unknown", None),
    }
    assert stage.vendor.requests == []


def test_nothing_is_sent_while_the_result_could_not_be_sealed(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.consent_sealer.denied = True
    (exchange,) = stage.work()
    assert (exchange.outcome, exchange.error is not None) == (ExchangeOutcome.ASKED_AGAIN_LATER, True)
    assert stage.vendor.requests == []
    stage.world.consent_sealer.denied = False
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]


@pytest.mark.parametrize(
    ("call", "times", "works"),
    [
        ("consent_sessions.read", 5, 1),
        ("connections.get", 1, 2),
        ("secrets.read", 1, 2),
        ("consent_sealer.prepare", 1, 2),
        ("consent_sealer.open", 1, 2),
        ("budgets.take", 1, 2),
        ("consent_sessions.save", 5, 1),
        ("consent_sessions.save", 20, 2),
    ],
)
def test_a_failure_of_our_own_services_before_the_sending_does_not_cost_the_code(
    stage: ConsentStage, call: str, times: int, works: int
) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.faults.fail(call, times)
    begun_at = stage.world.clock()
    for _ in range(works):
        (exchange,) = stage.work()
    assert exchange.outcome is ExchangeOutcome.QUARANTINED
    assert stage.world.clock() - begun_at < timedelta(seconds=7), "codes live for a minute"
    assert len(stage.vendor.requests) == 1


def test_a_mark_whose_response_is_lost_is_repeated(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.faults.lose_response("consent_sessions.save")
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]


def test_a_message_is_delivered_again_if_the_queue_fails_too(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.consent_sealer.denied = True
    stage.world.faults.down.add("consent_queue")
    with pytest.raises(BrokerUnavailable):
        stage.work()


@pytest.mark.parametrize(("failures", "is_stored"), [(50, True), (1000, False)])
def test_the_worker_insists_on_storing_what_came_until_its_time_ends(
    stage: ConsentStage, failures: int, is_stored: bool
) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.faults.let_pass("consent_sessions.save")
    stage.world.faults.fail("consent_sessions.save", failures)
    begun_at = stage.world.clock()
    if is_stored:
        assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]
    else:
        with pytest.raises(BrokerUnavailable):
            stage.work()
    assert timedelta(seconds=15) < stage.world.clock() - begun_at < timedelta(seconds=27)


@pytest.mark.parametrize(
    "change",
    [
        lambda stage: stage.world.settings(
            stage.name, base_url="https://other.example", redirect_uri=REDIRECT_URI, scope="orders"
        ),
        lambda stage: stage.world.settings(
            stage.name, base_url=stage.vendor.url, redirect_uri=REDIRECT_URI, scope="more"
        ),
        lambda stage: stage.world.secrets.put(stage.name, {"client_id": "other", "client_secret": "x"}),
    ],
)
def test_a_code_goes_nowhere_but_where_the_person_consented_to(stage: ConsentStage, change: Any) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    change(stage)
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.FAILED]
    assert stage.show(started)["failure"] == ("settings_changed", None)
    assert stage.vendor.requests == []


def test_a_consent_of_earlier_settings_cannot_be_confirmed(stage: ConsentStage) -> None:
    started = stage.approved()
    stage.world.settings(stage.name, base_url="https://other.example", redirect_uri=REDIRECT_URI, scope="orders")
    with pytest.raises(WrongConsentState):
        stage.confirm(started)
    assert stage.world.consents.read(stage.name).token is None


def test_a_missing_secret_ends_the_session_with_its_code(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(started.authorize_url or ""))
    stage.world.secrets.delete(stage.name)
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.FAILED]
    assert stage.show(started)["failure"] == ("connection_misconfigured", None)
    with pytest.raises(ConnectionMisconfigured):
        stage.start()


def test_nobody_approves_for_ever(stage: ConsentStage) -> None:
    started = stage.start()
    redirect_url = stage.vendor.authorize(started.authorize_url or "")
    stage.world.clock.advance(TIME_TO_APPROVE.total_seconds())
    assert stage.show(started)["state"] == "expired"
    with pytest.raises(WrongConsentState):
        stage.finish(started, redirect_url)


def test_the_quarantine_ends(stage: ConsentStage) -> None:
    started = stage.approved()
    stage.world.clock.advance(QUARANTINE.total_seconds())
    assert stage.show(started)["state"] == "expired"
    with pytest.raises(WrongConsentState):
        stage.confirm(started)


def test_a_refresh_token_that_cannot_be_opened_is_not_made_live(stage: ConsentStage) -> None:
    started = stage.approved()
    stage.world.consent_sealer.broken = True
    with pytest.raises(WrongConsentState):
        stage.confirm(started)
    assert stage.world.consents.read(stage.name).token is None


# ------------------------------------------------------------------ accounts
def test_the_same_account_can_be_confirmed_again(stage: ConsentStage) -> None:
    stage.confirm(stage.approved())
    first = stage.refresh_token()
    second = stage.approved()
    assert stage.show(second)["pinned"] == "account-1"
    assert stage.refresh_token() == first, "the old consent lives until the confirmation"
    stage.confirm(second)
    assert stage.refresh_token() != first
    assert stage.world.consents.read(stage.name).generation == 2


@pytest.mark.parametrize("account", ["account-2", None])
def test_another_or_an_unknown_account_has_a_route_of_its_own(stage: ConsentStage, account: str | None) -> None:
    stage.confirm(stage.approved())
    first = stage.refresh_token()
    stage.vendor.account = account
    second = stage.approved()
    with pytest.raises(NewAccount):
        stage.confirm(second)
    assert stage.refresh_token() == first
    assert stage.show(second)["state"] == "quarantined"
    stage.confirm(second, new_account=True)
    assert fingerprint(stage.refresh_token()) == fingerprint(stage.vendor.issued[-1])
    assert stage.world.consents.read(stage.name).account == account


def test_a_new_account_takes_the_old_ones_tokens_from_callers(stage: ConsentStage) -> None:
    stage.confirm(stage.approved())
    stage.world.change(stage.name, "orders", token=a_live_token(stage))
    stage.vendor.account = "account-2"
    confirmed = stage.confirm(stage.approved(), new_account=True)
    assert confirmed.dropped == 1
    assert stage.world.record(stage.name, "orders").token is None


def test_a_new_consent_of_the_same_account_keeps_them_and_ends_cooldowns(stage: ConsentStage) -> None:
    stage.confirm(stage.approved())
    token = a_live_token(stage)
    stage.world.change(stage.name, "orders", token=token)
    stage.confirm(stage.approved())
    record = stage.world.record(stage.name, "orders")
    assert record.token == token
    assert (record.failure, record.deferred_until) == (None, None)


def a_live_token(stage: ConsentStage) -> Any:
    from tests.component.store_contracts.stores import a_token

    now = stage.world.clock()
    return replace(a_token(), issued_at=now, renew_at=now + timedelta(minutes=50), expires_at=now + timedelta(hours=1))


# ------------------------------------------------------------------ the device flow
def test_a_device_is_polled_until_the_person_has_approved(stage: ConsentStage) -> None:
    started = stage.sessions.start_device(stage.name, initiator=ANN)
    assert started.device is not None
    assert started.device.user_code == "WDJB-MJHT"
    assert stage.world.consent_queue.messages == [(started.session.consent_id, timedelta(seconds=2))]
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.ASKED_AGAIN_LATER]
    stage.vendor.approved = True
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]
    stage.confirm(started)
    assert stage.refresh_token() == stage.vendor.issued[-1]


@pytest.mark.parametrize(
    ("error", "outcome", "interval"),
    [
        ("authorization_pending", ExchangeOutcome.ASKED_AGAIN_LATER, 2),
        ("slow_down", ExchangeOutcome.ASKED_AGAIN_LATER, 7),
        ("access_denied", ExchangeOutcome.FAILED, None),
        ("expired_token", ExchangeOutcome.FAILED, None),
    ],
)
def test_a_device_is_asked_as_often_as_the_vendor_says(
    stage: ConsentStage, error: str, outcome: ExchangeOutcome, interval: int | None
) -> None:
    started = stage.sessions.start_device(stage.name, initiator=ANN)
    stage.vendor.refuses = error
    assert [exchange.outcome for exchange in stage.work()] == [outcome]
    delays = [delay.total_seconds() for _, delay in stage.world.consent_queue.messages]
    assert delays == ([interval] if interval is not None else [])
    if outcome is ExchangeOutcome.FAILED:
        assert stage.show(started)["failure"][1] == error


@pytest.mark.parametrize(
    ("status", "retry_after", "error", "delay"),
    [
        (429, None, "", 2),
        (429, "30", "", 30),
        (503, "1", "", 2),
        (500, None, "", 2),
        (500, None, "server_error", 2),
        (429, "30", "slow_down", 30),
        (500, None, "invalid_grant", None),
        (401, None, "invalid_client", None),
    ],
)
def test_a_provider_that_is_busy_or_down_does_not_end_a_device(
    stage: ConsentStage, status: int, retry_after: str | None, error: str, delay: int | None
) -> None:
    stage.sessions.start_device(stage.name, initiator=ANN)
    headers = {"retry-after": retry_after} if retry_after is not None else {}
    response = HttpResponse(status, headers, json.dumps({"error": error}).encode() if error else b"<html>")
    stage.world.provider.to = lambda *_: response
    (exchange,) = stage.work()
    assert (exchange.outcome is ExchangeOutcome.FAILED) is (delay is None)
    delays = [delay.total_seconds() for _, delay in stage.world.consent_queue.messages]
    assert delays == ([delay] if delay is not None else [])


@pytest.mark.parametrize("sender", [hanging(), unreachable()])
def test_a_lost_response_of_a_device_does_not_end_it(stage: ConsentStage, sender: Any) -> None:
    stage.sessions.start_device(stage.name, initiator=ANN)
    stage.world.provider.to = sender
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.ASKED_AGAIN_LATER]
    stage.world.provider.to = stage.vendor
    stage.vendor.approved = True
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.QUARANTINED]


def test_polling_ends_when_the_device_code_expires(stage: ConsentStage) -> None:
    started = stage.sessions.start_device(stage.name, initiator=ANN)
    stage.world.clock.advance(300)
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.NOTHING_TO_DO]
    assert stage.world.consent_queue.messages == []
    assert stage.show(started)["state"] == "expired"


def test_a_refused_device_request_is_the_callers_error(stage: ConsentStage) -> None:
    stage.world.secrets.put(stage.name, {"client_id": "the-client", "client_secret": "wrong"})
    with pytest.raises(ProviderRefused):
        stage.sessions.start_device(stage.name, initiator=ANN)
    assert stage.world.consent_sessions.sessions == {}
