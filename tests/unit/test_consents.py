"""Consents: whether a refresh token is sent, and when the sweep must have it sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from token_broker.core.consents import (
    EXPIRED,
    MAX_PAST_SEEDS,
    NEVER_GIVEN,
    OTHER_CLIENT,
    OUTCOME_UNKNOWN,
    REFUSED,
    RESEND_DELAY,
    RESEND_SPACING,
    AwaitSender,
    Consent,
    ConsentStep,
    ConsentToken,
    PersonNeeded,
    SendRefreshToken,
    ends_at,
    next_due,
    next_step,
)
from token_broker.core.names import ConnectionName
from token_broker.core.providers import RefreshSpec
from token_broker.core.records import Lease

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ISSUER = "https://id.example/token"
NEVER = RefreshSpec()
ALWAYS = RefreshSpec(resend=True)
IN_A_MINUTE = RefreshSpec(resend=True, resend_within=timedelta(seconds=60))
IN_HALF_AN_HOUR = RefreshSpec(resend=True, resend_within=timedelta(minutes=30))
SIXTY_DAYS = RefreshSpec(idle_life=timedelta(days=60))
GIVEN = Consent(ConnectionName("xero", "main")).begun(
    ConsentToken("r-1", b"sealed"), issuer=ISSUER, client_id="id", seed_id="r-1", now=NOW
)
LEASE = Lease("me", since=NOW, until=NOW + timedelta(seconds=17))
MARKED = GIVEN.send_begun(LEASE)
EXPIRING = replace(GIVEN, token=ConsentToken("r-1", b"", NOW + timedelta(days=10)))
LOST = MARKED.outcome_unknown()


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("consent", "spec", "at", "step"),
    [
        (Consent(GIVEN.name), NEVER, NOW, PersonNeeded(NEVER_GIVEN)),
        (GIVEN.dropped(), NEVER, NOW, PersonNeeded(NEVER_GIVEN)),
        (GIVEN, NEVER, NOW, SendRefreshToken(resend=False)),
        (replace(GIVEN, issuer="https://other.example"), NEVER, NOW, PersonNeeded(OTHER_CLIENT)),
        (replace(GIVEN, client_id="other"), ALWAYS, NOW, PersonNeeded(OTHER_CLIENT)),
        (MARKED, ALWAYS, after(17.9), AwaitSender(LEASE.until)),
        (replace(MARKED, client_id="other"), NEVER, NOW, AwaitSender(LEASE.until)),
        (MARKED, ALWAYS, after(18), SendRefreshToken(resend=True)),
        (MARKED, NEVER, after(18), PersonNeeded(OUTCOME_UNKNOWN)),
        (LOST, NEVER, after(1), PersonNeeded(OUTCOME_UNKNOWN)),
        (LOST, ALWAYS, after(10**7), SendRefreshToken(resend=True)),
        (LOST, IN_A_MINUTE, after(51.9), SendRefreshToken(resend=True)),
        (LOST, IN_A_MINUTE, after(52), PersonNeeded(OUTCOME_UNKNOWN)),
        (MARKED.refused_by_provider("invalid_grant"), ALWAYS, NOW, PersonNeeded(REFUSED, "invalid_grant")),
        (replace(GIVEN, token=ConsentToken("r-1", b"", after(60))), ALWAYS, after(60), PersonNeeded(EXPIRED)),
        (MARKED.not_spent(GIVEN), NEVER, NOW, SendRefreshToken(resend=False)),
        # What is not known of an earlier sending stays unknown.
        (LOST.send_begun(LEASE).not_spent(LOST), NEVER, NOW, PersonNeeded(OUTCOME_UNKNOWN)),
        (MARKED.refreshed(ConsentToken("r-2", b""), NOW), NEVER, NOW, SendRefreshToken(resend=False)),
        (MARKED.refreshed(None, NOW), NEVER, NOW, SendRefreshToken(resend=False)),
    ],
)
def test_the_next_step_follows_from_the_consent_and_the_vendor_s_rule(
    consent: Consent, spec: RefreshSpec, at: datetime, step: ConsentStep
) -> None:
    assert next_step(consent, spec, issuer=ISSUER, client_id="id", now=at) == step


@pytest.mark.parametrize(
    ("consent", "spec", "due_after"),
    [
        (GIVEN, NEVER, None),
        (GIVEN, SIXTY_DAYS, timedelta(days=48)),
        (replace(GIVEN, refreshed_at=after(86_400)), SIXTY_DAYS, timedelta(days=49)),
        (EXPIRING, NEVER, timedelta(days=8)),
        (EXPIRING.refreshed(ConsentToken("r-2", b"", after(20 * 86_400)), NOW), NEVER, timedelta(days=16)),
        (EXPIRING.refreshed(ConsentToken("r-2", b"", after(10 * 86_400)), after(60)), NEVER, None),
        (GIVEN.dropped(), SIXTY_DAYS, None),
        (GIVEN.refused_by_provider("invalid_grant"), SIXTY_DAYS, None),
        (MARKED, NEVER, None),
        (MARKED, SIXTY_DAYS, None),
        (MARKED, ALWAYS, RESEND_SPACING),
        (LOST, IN_HALF_AN_HOUR, RESEND_SPACING),
        (LOST, IN_A_MINUTE, RESEND_DELAY),
    ],
)
def test_the_sweep_sends_it_before_it_dies_and_within_the_vendor_s_window(
    consent: Consent, spec: RefreshSpec, due_after: timedelta | None
) -> None:
    assert next_due(consent, spec, NOW) == (None if due_after is None else NOW + due_after)


@pytest.mark.parametrize(
    ("days", "spec", "ends_in_days"),
    [
        (None, NEVER, None),
        (20, NEVER, None),
        (10, NEVER, 10),
        (20, RefreshSpec(life=timedelta(days=365)), 365),
        (10, RefreshSpec(life=timedelta(days=365)), 10),
    ],
)
def test_a_person_is_told_only_of_an_end_that_use_does_not_move(
    days: float | None, spec: RefreshSpec, ends_in_days: float | None
) -> None:
    token = ConsentToken("r-2", b"", None if days is None else NOW + timedelta(days=days))
    used = EXPIRING.refreshed(token, after(3600))
    assert ends_at(used, spec) == (None if ends_in_days is None else NOW + timedelta(days=ends_in_days))


def test_a_resend_keeps_the_time_of_the_first_sending() -> None:
    again = LOST.send_begun(Lease("other", since=after(100), until=after(117)))
    assert again.sent_at == NOW
    assert again.is_sender("other", "r-1")
    assert not again.is_sender("me", "r-1")


def test_a_new_consent_fences_the_old_one_s_response() -> None:
    again = MARKED.begun(ConsentToken("r-9", b""), issuer=ISSUER, client_id="id", seed_id=None, now=NOW)
    assert (again.generation, again.sent_at, again.lease) == (GIVEN.generation + 1, None, None)
    assert not again.is_sender("me", "r-1")


def test_the_last_seeds_begin_no_consent_again_whatever_became_of_theirs() -> None:
    consent = GIVEN
    for number in range(2, MAX_PAST_SEEDS + 3):
        consent = consent.begun(
            ConsentToken("r-9", b""), issuer=ISSUER, client_id="id", seed_id=f"r-{number}", now=NOW
        ).dropped()
    assert [consent.knows_seed(f"r-{number}") for number in (1, 2, MAX_PAST_SEEDS + 2)] == [False, True, True]
    assert not consent.knows_seed("r-new")
