"""Servers that issue the same token again: a token that one instance drops may be current in another."""

from __future__ import annotations

import pytest

from tests.fakes import World, calling_back, issuing
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import AcquisitionInProgress
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome


def test_a_token_that_the_next_lease_holder_may_get_too_is_not_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A purge fences the first holder. When its response comes, another one holds the lease."""

    def purge_and_take_lease() -> None:
        world.provider.to = issuing("same")
        broker.purge(name, None, deadline=world.clock())
        world.lease(name, "second")

    world.provider.to = calling_back(purge_and_take_lease, issuing("same"))
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name)
    assert len(world.revoker) == 0
    world.clock.advance(20)
    assert world.get_token(broker, name).access_token == "same"
    assert world.retry_revocations(broker, name) == [RenewalOutcome.NOT_REVOKED]
    assert world.retired(name) == []
    assert len(world.revoker) == 0


def test_a_trial_that_gets_the_live_token_does_not_revoke_it(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The token was committed while the trial read the secret. The trial reads the records under its lease."""
    world.provider.to = issuing("same")
    world.faults.before("secrets.read", lambda: world.get_token(world.instance(), name))
    assert broker.trial(name, force=False).token_id == fingerprint("same")
    assert len(world.revoker) == 0
