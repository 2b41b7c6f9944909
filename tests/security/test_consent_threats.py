"""The threats to persons' consents that SECURITY.md names. Each is tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.component.consent_stage import ANN, ConsentStage
from tests.fakes import World
from tests.fakes.consent_vendor import SLUG
from token_broker.errors import (
    CallerNotAllowed,
    InvalidRequest,
    NewAccount,
    UnknownConsent,
    WrongConsentState,
)
from token_broker.service.consent_sessions import StartedConsent
from token_broker.service.exchange_code import ExchangeOutcome

MALLORY = "arn:aws:sts::123456789012:assumed-role/ops/mallory"


@pytest.fixture
def stage(tmp_path: Path) -> ConsentStage:
    return ConsentStage.over(World(), tmp_path)


def url_of(started: StartedConsent) -> str:
    assert started.authorize_url is not None
    return started.authorize_url


def changed(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **changes})).geturl()


def as_stored(stage: ConsentStage) -> str:
    """All that is stored and queued, as somebody who reads both sees it. Seals of the fakes hold the text reversed."""
    sessions = stage.world.consent_sessions.sessions.values()
    sealed = [(session.sealed_verifier, session.sealed_code) for session in sessions]
    return repr([[vars_of(session) for session in sessions], sealed, stage.world.consent_queue.messages])


def vars_of(session: Any) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__slots__}


# ------------------------------------------------------------------ state fixation
def test_nobody_can_choose_or_learn_a_state(stage: ConsentStage) -> None:
    started = stage.start()
    state = dict(parse_qsl(urlsplit(url_of(started)).query))["state"]
    assert state not in as_stored(stage)
    assert state not in started.session.consent_id
    assert dict(parse_qsl(urlsplit(url_of(stage.start())).query))["state"] != state


def test_the_redirect_of_one_consent_does_not_finish_another(stage: ConsentStage) -> None:
    theirs, mine = stage.start(), stage.start()
    with pytest.raises(InvalidRequest):
        stage.finish(mine, stage.vendor.authorize(url_of(theirs)))
    assert stage.work() == []
    assert stage.show(mine)["state"] == "pending"


# ------------------------------------------------------------------ planted account
def test_a_planted_account_does_not_become_live_by_the_usual_confirmation(stage: ConsentStage) -> None:
    stage.confirm(stage.approved())
    live = stage.refresh_token()
    stage.vendor.account = "mallorys-account"
    planted = stage.approved()
    assert stage.show(planted) == {
        "state": "quarantined",
        "account": "mallorys-account",
        "pinned": "account-1",
        "failure": None,
    }
    with pytest.raises(NewAccount):
        stage.confirm(planted)
    assert stage.refresh_token() == live


# ------------------------------------------------------------------ consent phishing by an insider
def test_what_another_operator_began_cannot_be_finished_or_confirmed(stage: ConsentStage) -> None:
    started = stage.approved()
    for call in (
        lambda: stage.sessions.confirm(stage.name, started.session.consent_id, initiator=MALLORY, new_account=False),
        lambda: stage.sessions.confirm(stage.name, started.session.consent_id, initiator=MALLORY, new_account=True),
        lambda: stage.sessions.confirm(stage.name, started.session.consent_id, initiator="", new_account=False),
        lambda: stage.sessions.finish(
            stage.name, started.session.consent_id, initiator=MALLORY, redirect_url=stage.vendor.url
        ),
    ):
        with pytest.raises(CallerNotAllowed):
            call()


def test_a_session_of_one_connection_serves_no_other(stage: ConsentStage) -> None:
    """Who may obtain consents for one connection only cannot bring one into another."""
    other = stage.world.connection(
        SLUG, "other", base_url=stage.vendor.url, redirect_uri="https://shop.example/consent"
    )
    started = stage.approved()
    with pytest.raises(UnknownConsent):
        stage.sessions.confirm(other, started.session.consent_id, initiator=ANN, new_account=True)
    # Not even by somebody who can write the table: the refresh token is sealed to its connection.
    stored = stage.world.consent_sessions.sessions[started.session.consent_id]
    stage.world.consent_sessions.sessions[stored.consent_id] = replace(stored, name=other)
    stage.world.secrets.put(other, dict(zip(("client_id", "client_secret"), stage.vendor.client, strict=True)))
    with pytest.raises(WrongConsentState):
        stage.sessions.confirm(other, started.session.consent_id, initiator=ANN, new_account=True)
    assert stage.world.consents.read(other).token is None


# ------------------------------------------------------------------ code interception
def test_an_intercepted_code_is_of_no_use_without_the_verifier_which_nobody_sees(stage: ConsentStage) -> None:
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(url_of(started)))
    seen = as_stored(stage) + url_of(started)
    stage.work()
    (exchange,) = stage.vendor.requests
    assert len(exchange["code_verifier"]) == 43
    assert exchange["code_verifier"] not in seen
    assert exchange["code"] not in seen


# ------------------------------------------------------------------ mix-up
@pytest.mark.parametrize("iss", ["https://evil.example", "https://vendor.example.evil.example", ""])
def test_a_code_of_another_authorization_server_is_not_taken(stage: ConsentStage, iss: str) -> None:
    started = stage.start()
    redirect_url = changed(stage.vendor.authorize(url_of(started)), iss=iss)
    with pytest.raises(InvalidRequest):
        stage.finish(started, redirect_url)
    pairs = parse_qsl(urlsplit(redirect_url).query, keep_blank_values=True)
    assert stage.broker.receive_code(SLUG, pairs) is None
    assert stage.work() == []


def test_a_code_for_one_provider_goes_to_no_other(stage: ConsentStage) -> None:
    pairs = parse_qsl(urlsplit(stage.vendor.authorize(url_of(stage.start()))).query)
    for provider in ("oauth2", "unidy", "no-such-provider"):
        assert stage.broker.receive_code(provider, pairs) is None
    assert stage.work() == []


# ------------------------------------------------------------------ replay
def test_a_redirect_is_of_no_use_a_second_time(stage: ConsentStage) -> None:
    started = stage.start()
    redirect_url = stage.vendor.authorize(url_of(started))
    pairs = parse_qsl(urlsplit(redirect_url).query)
    stage.finish(started, redirect_url)
    stage.work()
    stage.finish(started, redirect_url)
    assert stage.world.consent_queue.messages == []
    assert stage.broker.receive_code(SLUG, pairs) is None
    assert stage.broker.exchange_code(started.session.consent_id).outcome is ExchangeOutcome.NOTHING_TO_DO
    assert len(stage.vendor.requests) == 1


# ------------------------------------------------------------------ downgrade
def test_a_code_is_not_sent_without_its_verifier(stage: ConsentStage) -> None:
    """Somebody who can write the table takes the verifier away."""
    started = stage.start()
    stage.finish(started, stage.vendor.authorize(url_of(started)))
    stored = stage.world.consent_sessions.sessions[started.session.consent_id]
    stage.world.consent_sessions.sessions[stored.consent_id] = replace(stored, sealed_verifier=None)
    assert [exchange.outcome for exchange in stage.work()] == [ExchangeOutcome.FAILED]
    assert stage.vendor.requests == []


@pytest.mark.parametrize(
    "redirect_uri", ["http://evil.example:8765/", "https://evil.example/", "http://127.0.0.1:8765@evil.example/"]
)
def test_nobody_has_a_code_sent_to_a_strangers_host(stage: ConsentStage, redirect_uri: str) -> None:
    with pytest.raises(InvalidRequest):
        stage.sessions.start(stage.name, initiator=ANN, redirect_uri=redirect_uri)


# ------------------------------------------------------------------ flooding
def test_a_flood_of_redirects_stores_and_queues_nothing(stage: ConsentStage) -> None:
    started = stage.start()
    before = as_stored(stage)
    pairs = dict(parse_qsl(urlsplit(stage.vendor.authorize(url_of(started))).query))
    for number in range(200):
        flood = {**pairs, "state": f"{number:0>43}", "code": f"code-{number}"}
        assert stage.broker.receive_code(SLUG, list(flood.items())) is None
    assert as_stored(stage) == before


# ------------------------------------------------------------------ hostile callback values
PARAMETERS = st.sampled_from(["state", "code", "iss", "error", "error_description", "realmId", "x"])
VALUES = st.text(max_size=80) | st.sampled_from(["1" * 21, "1", "access_denied", "https://evil.example", "\r\n", "\0"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(PARAMETERS, VALUES), max_size=6), st.booleans())
def test_no_value_of_a_callback_reaches_a_session_unless_it_is_whole(
    stage: ConsentStage, pairs: list[tuple[str, str]], with_state: bool
) -> None:
    started = stage.start()
    state = dict(parse_qsl(urlsplit(url_of(started)).query))["state"]
    sent = [*pairs, ("state", state)] if with_state else pairs
    received = stage.broker.receive_code(SLUG, sent)
    stored = stage.world.consent_sessions.sessions[started.session.consent_id]
    if received is None:
        assert stored == started.session or replace(stored, revision=None) == replace(started.session, revision=None)
        return
    assert [value for name, value in sent if name == "state"] == [state]
    assert stored.kept == {} or stored.kept["realmId"].isdecimal()
    assert {value for name, value in sent if name == "iss"} <= {stage.vendor.url}
