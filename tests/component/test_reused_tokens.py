"""Servers that issue the same token again: no error around its end, no expired token, no token revoked too much."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import Reissuing, World, calling_back, in_turn, issuing, slow
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import AcquisitionInProgress, ProviderInvalidResponse
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome


def test_a_token_that_the_next_lease_holder_may_get_too_is_not_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A purge fences the first holder. When its response comes, another one holds the lease."""

    def purge_and_take_lease() -> None:
        world.provider.to = issuing("same")
        broker.purge_and_revoke(name, None, deadline=world.clock())
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


# ------------------------------------------------------------------ the same token until it expires
@pytest.mark.parametrize("tells_left", [True, False])
@pytest.mark.parametrize("keep_warm", ["never", "always"])
@pytest.mark.parametrize("pace_s", [0.3, 1, 7])
def test_callers_get_a_live_token_without_error_all_the_time(
    world: World, broker: Broker, tells_left: bool, keep_warm: str, pace_s: float
) -> None:
    name = world.connection(keep_warm=keep_warm)
    server = Reissuing(world.clock, tells_left=tells_left)
    world.provider.to = server
    end = world.clock() + timedelta(seconds=300)
    while world.clock() < end:
        response = world.get_token(world.instance(), name)
        assert world.clock() < server.expires_at[response.access_token]
        assert response.token.expires_at <= server.expires_at[response.access_token]
        due_at = world.record(name).due_at
        if due_at is not None and due_at <= world.clock():
            assert world.renew(broker, name).code is None
        world.clock.advance(pace_s)
    # At most one early request shows that the server reissues. Then each token costs two requests at most.
    assert len(world.provider) <= 2 * len(server.expires_at) + 1
    assert world.record(name).reissues is True
    assert world.record(name).failures() == ()


def test_a_token_with_no_time_left_is_awaited_within_the_acquisition(world: World, name: ConnectionName) -> None:
    server = Reissuing(world.clock)
    world.provider.to = server
    world.get_token(world.instance(), name)
    world.change(name, token=None)
    world.clock.advance(59.4)
    response = world.get_token(world.instance(), name)
    assert (response.access_token, response.warnings, len(world.provider)) == ("tok-2", (), 3)


def test_a_rotated_refresh_token_is_stored_before_the_wait_and_marked_before_it_is_sent(world: World) -> None:
    name = world.connection("ucommerce")
    server = Reissuing(world.clock, rotates=True)
    world.provider.to = server
    world.get_token(world.instance(), name)
    world.clock.advance(58.5)
    kept = []
    world.clock.at(0.5, lambda: kept.append(world.record(name).refresh_token))
    world.provider.to = in_turn(server, calling_back(lambda: kept.append(world.record(name).refresh_token), server))
    assert world.get_token(world.instance(), name).access_token == "tok-2"
    known = [(found.refresh_id, found.sent) for found in kept if found is not None]
    assert known == [(fingerprint("refresh-2"), False), (fingerprint("refresh-2"), True)]
    sent = [body.partition("refresh_token=")[2] for body in world.provider.bodies()[1:]]
    assert sent == ["refresh-1", "refresh-2"]
    stored = world.record(name).refresh_token
    assert stored is not None
    assert (stored.refresh_id, stored.sent) == (fingerprint("refresh-3"), False)


def test_a_slow_provider_leaves_no_time_to_ask_again_and_that_is_no_failure(world: World, name: ConnectionName) -> None:
    world.provider.to = slow(world.clock.sleep, 11.5, Reissuing(world.clock, lifetime_s=0))
    with pytest.raises(AcquisitionInProgress):
        world.get_token(world.instance(), name)
    assert world.record(name).failures() == ()
    assert world.record(name).lease is None


def test_a_lifetime_that_is_always_0_is_no_usable_token(world: World, name: ConnectionName) -> None:
    world.provider.to = issuing("same", expires_in=0)
    with pytest.raises(ProviderInvalidResponse, match="expires_in is 0"):
        world.get_token(world.instance(), name)
    assert len(world.provider) == 2
    world.settings(name, zero_means_never=True)
    response = world.get_token(world.instance(), name)
    assert response.token.lifetime == timedelta(days=30)
    assert response.token.expires_assumed is False


def test_a_token_that_is_issued_again_after_its_expiry_is_accepted_anew(world: World, name: ConnectionName) -> None:
    world.provider.to = issuing("same", expires_in=60)
    assert world.get_token(world.instance(), name).warnings == ()
    for pause_s in (60, 100):
        world.clock.advance(pause_s)
        response = world.get_token(world.instance(), name)
        assert response.warnings == ("same_token_reissued",)
        assert response.token.expires_at > world.clock() + timedelta(seconds=50)
    assert world.get_token(world.instance(), name).warnings == ("same_token_reissued",)


def test_a_provider_whose_file_has_a_reissue_window_is_not_learned_from(world: World) -> None:
    name = world.connection("commerce-layer", scope="market:id:a")
    world.provider.to = Reissuing(world.clock, lifetime_s=7200)
    token = world.get_token(world.instance(), name).token
    assert world.get_token(world.instance(), name, rejected=token.token_id).warnings == ("same_token_reissued",)
    record = world.record(name, "market:id:a")
    assert record.token is not None
    assert record.reissues is False
    assert record.token.renew_at < record.token.expires_at


def test_a_trial_that_gets_the_live_token_without_time_left_is_a_success(world: World, name: ConnectionName) -> None:
    world.provider.to = in_turn(issuing("same"), issuing("same", expires_in=0))
    world.get_token(world.instance(), name)
    assert world.instance().trial(name, force=False).expires_in == timedelta()
    assert world.record(name).failures() == ()
