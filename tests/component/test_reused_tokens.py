"""Servers that give the same token again: what one instance lets go of may be what another hands out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, calling_back, issuing
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import AcquisitionInProgress
from token_broker.service import Broker


def test_a_token_that_the_next_holder_may_be_given_too_is_not_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A purge fences the first holder off, and by the time of its answer another one is asking."""

    def purge_and_lead() -> None:
        world.provider.to = issuing("same")
        broker.purge(name, None, deadline=world.clock())
        now = world.clock()
        world.tokens.take_lease(
            world.record(name), "second", now=now, until=now + timedelta(seconds=17), mark_refresh=False
        )

    world.provider.to = calling_back(purge_and_lead, issuing("same"))
    with pytest.raises(AcquisitionInProgress):
        world.ask(broker, name)
    assert len(world.revoker) == 0
    world.clock.advance(20)
    assert world.ask(broker, name).access_token == "same"
    assert world.record(name).retired == ()
    world.renew(broker, name)
    assert len(world.revoker) == 0


def test_a_trial_that_is_given_the_live_token_lets_it_live(world: World, broker: Broker, name: ConnectionName) -> None:
    """It was committed while the trial was reading the secret: the trial looks under its own lease."""
    world.provider.to = issuing("same")
    world.faults.before("vault.read", lambda: world.ask(world.instance(), name))
    assert broker.trial(name, force=False).token_id == fingerprint("same")
    assert len(world.revoker) == 0
