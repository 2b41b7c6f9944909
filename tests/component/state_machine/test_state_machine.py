"""Checks promises P1 to P9 and P12 to P14 over random sequences of events.

Several instances and one provider, with crashes, lost responses, reports, purges, and changes of secrets, settings and
connections. 2,000 steps, the same in every run. `make soak` (SOAK=1) runs 50,000 new ones.
"""

from __future__ import annotations

import os
import unittest
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings

from tests.component.state_machine.machine import BrokerMachine
from tests.component.state_machine.servers import ServerTraits
from tests.component.state_machine.world import SLUG, ProviderCase

pytestmark = pytest.mark.soak

SOAK = os.environ.get("SOAK") == "1"
STEPS = 50
RUNS = 200 if SOAK else 8
SETTINGS = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
OTHER_HOST = "https://moved.example"


class PlainMachine(BrokerMachine):
    """Client credentials: every request issues another token."""

    case = ProviderCase(
        "oauth2",
        settings={"allowed_scopes": ["*"]},
        other_host={"token_url": f"{OTHER_HOST}/token", "revocation_url": f"{OTHER_HOST}/revoke"},
        scopes=(None, "a", "b"),
        lifetimes_s=(3600, 300, 40, 1),
    )


class RotatingMachine(BrokerMachine):
    """Authorization code with rotating refresh tokens, as at Ucommerce."""

    case = ProviderCase(
        "ucommerce",
        ServerTraits(rotates=True),
        settings={"allowed_scopes": ["a"]},
        other_host={"base_url": OTHER_HOST},
        scopes=(None, "a"),
        lifetimes_s=(300, 300, 20, 1),
        revocable=False,
    )


class ReissuingMachine(BrokerMachine):
    """The same token again until its last 15 min, and a published limit, as at Commerce Layer."""

    case = ProviderCase(
        "commerce-layer",
        ServerTraits(reissue_window_s=900),
        settings={"scope": "market:id:1", "allowed_scopes": ["market:id:1", "market:id:2"]},
        other_host={"token_url": f"{OTHER_HOST}/oauth/token"},
        scopes=(None, "market:id:2"),
        connections=("main", "second"),
        lifetimes_s=(7200, 14_400),
        limit=6,
    )


class ReusingMachine(BrokerMachine):
    """The same token again, with the seconds left, until it expires (Doorkeeper), and rotating refresh tokens."""

    case = ProviderCase(
        "ucommerce",
        ServerTraits(rotates=True, reissue_window_s=0),
        other_host={"base_url": OTHER_HOST},
        lifetimes_s=(300, 60, 20, 3),
        revocable=False,
    )


class FullLifetimeMachine(BrokerMachine):
    """The same token again until it expires, but each response tells its full lifetime."""

    case = ProviderCase(
        "oauth2",
        ServerTraits(reissue_window_s=0, tells_full_lifetime=True),
        settings={"allowed_scopes": ["*"]},
        other_host={"token_url": f"{OTHER_HOST}/token", "revocation_url": f"{OTHER_HOST}/revoke"},
        scopes=(None, "a"),
        lifetimes_s=(3600, 60, 20),
    )


class RevokingMachine(BrokerMachine):
    """Each new token revokes the one before."""

    case = ProviderCase(
        "oauth2",
        ServerTraits(revokes_previous=True),
        settings={"issue_revokes_previous": True},
        other_host={"token_url": f"{OTHER_HOST}/token", "revocation_url": f"{OTHER_HOST}/revoke"},
        lifetimes_s=(3600, 300, 40),
    )


class ConsentMachine(BrokerMachine):
    """A person's consent. Its refresh token is accepted once; the connection's scope sets share it."""

    case = ProviderCase(
        SLUG,
        ServerTraits(consent="once"),
        settings={"base_url": "https://id.example", "allowed_scopes": ["*"]},
        other_host={"base_url": OTHER_HOST},
        scopes=(None, "a"),
        lifetimes_s=(3600, 300, 40, 1),
        revocable=False,
    )


class ResentConsentMachine(BrokerMachine):
    """A refresh token is accepted until the next one was used, so no lost response costs the person's consent."""

    case = replace(ConsentMachine.case, traits=ServerTraits(consent="resend"))


class LockingMachine(BrokerMachine):
    """A login with a password, and an account that locks after some failed logins, as at Unicommerce."""

    case = ProviderCase(
        "unicommerce",
        ServerTraits(login=True),
        settings={"lifetime_s": 7200},
        other_host={"base_url": OTHER_HOST},
        lifetimes_s=(None,),
        revocable=False,
    )


def _case(machine: type[BrokerMachine]) -> type[unittest.TestCase]:
    machine.TestCase.settings = SETTINGS
    return machine.TestCase


TestPlainServer = _case(PlainMachine)
TestRotatingServer = _case(RotatingMachine)
TestReissuingServer = _case(ReissuingMachine)
TestReusingServer = _case(ReusingMachine)
TestFullLifetimeServer = _case(FullLifetimeMachine)
TestRevokingServer = _case(RevokingMachine)
TestConsent = _case(ConsentMachine)
TestResentConsent = _case(ResentConsentMachine)
TestLockingServer = _case(LockingMachine)
