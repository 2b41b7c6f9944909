"""P1 to P6 over any interleaving: several instances, one provider, crashes, lost answers, reports, purges, secrets,
settings, connections that go and come.

5,000 steps in all, the same on every run; `make soak` (SOAK=1) goes through 50,000, and new ones.
"""

from __future__ import annotations

import os
import unittest

import pytest
from hypothesis import HealthCheck, settings

from tests.component.state_machine.machine import BrokerMachine
from tests.component.state_machine.servers import Manners
from tests.component.state_machine.world import Kind

pytestmark = pytest.mark.soak

SOAK = os.environ.get("SOAK") == "1"
STEPS = 50
RUNS = 200 if SOAK else 20
SETTINGS = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ELSEWHERE = "https://moved.example"


class PlainMachine(BrokerMachine):
    """Client credentials: every request issues one more token."""

    kind = Kind(
        "oauth2",
        settings={"allowed_scopes": ["*"]},
        elsewhere={"token_url": f"{ELSEWHERE}/token", "revocation_url": f"{ELSEWHERE}/revoke"},
        scopes=(None, "a", "b"),
        lives=(3600, 300, 40, 1),
    )


class RotatingMachine(BrokerMachine):
    """Authorization code and refresh tokens that rotate, as Ucommerce has them."""

    kind = Kind(
        "ucommerce",
        Manners(rotates=True),
        settings={"allowed_scopes": ["a"]},
        elsewhere={"base_url": ELSEWHERE},
        scopes=(None, "a"),
        lives=(300, 300, 20, 1),
        revocable=False,
    )


class ReissuingMachine(BrokerMachine):
    """The same token again until its last 15 min, and a published limit, as Commerce Layer has them."""

    kind = Kind(
        "commerce-layer",
        Manners(reissue_window_s=900),
        settings={"scope": "market:id:1", "allowed_scopes": ["market:id:1", "market:id:2"]},
        elsewhere={"token_url": f"{ELSEWHERE}/oauth/token"},
        scopes=(None, "market:id:2"),
        connections=("main", "second"),
        lives=(7200, 14_400),
        limit=6,
    )


class RevokingMachine(BrokerMachine):
    """Each token issued ends the one before."""

    kind = Kind(
        "oauth2",
        Manners(revokes_previous=True),
        settings={"issue_revokes_previous": True},
        elsewhere={"token_url": f"{ELSEWHERE}/token", "revocation_url": f"{ELSEWHERE}/revoke"},
        lives=(3600, 300, 40),
    )


class LockingMachine(BrokerMachine):
    """A login with a password, and an account that locks after some refusals, as Unicommerce has them."""

    kind = Kind("unicommerce", Manners(login=True), elsewhere={"base_url": ELSEWHERE}, lives=(None,), revocable=False)


def _case(machine: type[BrokerMachine]) -> type[unittest.TestCase]:
    machine.TestCase.settings = SETTINGS
    return machine.TestCase


TestPlainServer = _case(PlainMachine)
TestRotatingServer = _case(RotatingMachine)
TestReissuingServer = _case(ReissuingMachine)
TestRevokingServer = _case(RevokingMachine)
TestLockingServer = _case(LockingMachine)
