"""P6, P13: a person's consent is not lost where the vendor's rule allows to keep it, nor used against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from tests.component.vendor_with_consent import DUE_AFTER_S, RULES, SEED, Operation, Rule, Vendor, connected
from tests.fakes import Simulation, World, answering, calling_back, hanging, in_turn, refusing, unreachable
from tests.fakes.consent_store import InMemoryConsentStore
from token_broker.core.consents import Consent
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.core.providers import RefreshSpec
from token_broker.core.records import Lease
from token_broker.errors import (
    AcquisitionInProgress,
    ConsentRequired,
    ProviderRefused,
    WouldConsumeGrant,
    WrongConsentState,
)
from token_broker.oauth.exchange import HttpResponse
from token_broker.oauth.responses import IssuedRefreshToken
from token_broker.ports import Send
from token_broker.service import Broker
from token_broker.service.consents import NewConsent, begin_consent, lift_consent_failure
from token_broker.service.drop_consent import DroppedConsent
from token_broker.service.renew import RenewalOutcome

ONCE, IN_A_MINUTE, IN_HALF_AN_HOUR, ALWAYS = RULES
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def renew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.clock.advance(DUE_AFTER_S)
    world.renew(broker, name, "a")


def test_the_secret_s_refresh_token_begins_the_consent_and_each_renewal_rotates_it(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    assert world.get_token(broker, name).access_token == "tok-1"
    for _ in range(3):
        renew(world, broker, name)
    assert vendor.arrived == [SEED, "refresh-1", "refresh-2", "refresh-3"]
    consent = world.consents.read(name)
    assert consent.token is not None
    assert (consent.token.refresh_id, consent.seed_id) == (fingerprint("refresh-4"), fingerprint(SEED))
    assert (consent.sent_at, consent.lease, consent.client_id) == (None, None, "id")


def test_a_refresh_token_that_does_not_rotate_stays(world: World) -> None:
    name, vendor = connected(world, ALWAYS)
    vendor.rotates = False
    broker = world.instance()
    world.get_token(broker, name)
    renew(world, broker, name)
    assert vendor.arrived == [SEED, SEED]


def test_nothing_of_a_consent_is_stored_with_a_token_or_in_clear(world: World) -> None:
    name, _ = connected(world, ONCE)
    world.get_token(world.instance(), name)
    consent = world.consents.read(name)
    assert world.record(name, "a").refresh_token is None
    assert consent.token is not None
    assert b"refresh-1" not in consent.token.sealed
    assert "refresh-1" not in repr(consent)


def test_two_scope_sets_share_one_consent_and_never_send_one_refresh_token_at_once(world: World) -> None:
    name, vendor = connected(world, ONCE)
    simulation = Simulation(world.clock)
    in_flight: set[str] = set()

    def slow() -> None:
        assert not in_flight
        in_flight.add("one")
        simulation.sleep(2)
        in_flight.clear()

    def get(scope: str) -> object:
        return world.get_token(world.instance(sleep=simulation.sleep), name, scope=scope)

    world.provider.to = calling_back(slow, vendor)
    callers = [simulation.start(partial(get, scope)) for scope in ("a", "b")]
    simulation.run()
    assert [caller.error for caller in callers] == [None, None]
    assert (vendor.arrived, vendor.misused) == ([SEED, "refresh-1"], [])


def test_a_caller_waits_for_another_scope_set_no_longer_than_for_its_own(world: World) -> None:
    name, vendor = connected(world, ONCE)
    errors: list[Exception] = []

    def meanwhile() -> None:
        began = world.clock()
        with pytest.raises(AcquisitionInProgress) as caught:
            world.get_token(world.instance(), name, scope="b")
        errors.append(caught.value)
        assert world.clock() - began <= timedelta(seconds=4)

    world.provider.to = calling_back(meanwhile, vendor)
    world.get_token(world.instance(), name, scope="a")
    assert len(errors) == 1
    assert vendor.misused == []


# ------------------------------------------------------------------ what a response means for the refresh token

LOST: list[tuple[str, Send]] = [
    ("no response", hanging()),
    ("500", answering(500)),
    ("503 with Retry-After", answering(503, {"error": "server_error"}, {"retry-after": "1"})),
    ("a body that says nothing", answering(200, b"<html>")),
    ("a body without a token", answering(200, {"token_type": "Bearer"})),
]
NOT_SPENT: list[tuple[str, Send]] = [
    ("nothing sent", unreachable()),
    ("rate limit", answering(429, {}, {"retry-after": "1"})),
    ("wrong client", refusing("invalid_client", 401)),
    ("unknown error", answering(400, {"error": "vendor_code_7"})),
    ("unknown error with 200", answering(200, {"error": "vendor_code_7"})),
    ("redirect", answering(302, b"", {"location": "https://id.example/login"})),
]


@EVERY_RULE
@pytest.mark.parametrize("response", [send for _, send in LOST], ids=[what for what, _ in LOST])
def test_a_lost_response_is_settled_by_the_vendor_s_rule(world: World, rule: Rule, response: Send) -> None:
    """The vendor used the refresh token up before its response was lost."""
    name, vendor = connected(world, rule)
    broker, lost = world.instance(), []

    def lose(request: object, network: object, timeout: timedelta) -> HttpResponse:
        vendor(request, network, timeout)  # type: ignore[arg-type]  # passed on
        lost.append(1)
        return response(request, network, timeout)  # type: ignore[arg-type]  # as above

    world.provider.to = lose
    with pytest.raises(Exception):  # noqa: B017, PT011  # which one follows from the response
        world.get_token(broker, name)
    world.provider.to = vendor
    Operation(world, broker).run(40)
    world.clock.advance(400)
    if rule is ONCE:
        with pytest.raises(ConsentRequired):
            world.get_token(broker, name)
    else:
        assert world.get_token(broker, name).access_token
    assert vendor.misused == []
    assert len(lost) == 1


@pytest.mark.parametrize("response", [send for _, send in NOT_SPENT], ids=[what for what, _ in NOT_SPENT])
def test_an_error_that_leaves_the_refresh_token_as_it_was_costs_no_consent(world: World, response: Send) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.provider.to = in_turn(response, vendor)
    with pytest.raises(Exception):  # noqa: B017, PT011  # which one follows from the response
        world.get_token(broker, name)
    assert world.consents.read(name).sent_at is None
    world.clock.advance(3601)
    assert world.get_token(broker, name).access_token == "tok-1"
    assert vendor.arrived == [SEED]


def test_an_error_of_a_resend_settles_nothing_of_the_first_sending(world: World) -> None:
    """Otherwise the refresh token would later be sent as if for the first time, outside the vendor's window."""
    name, vendor = connected(world, IN_A_MINUTE)
    broker = world.instance()
    world.provider.to = in_turn(answering(503), answering(429, {}, {"retry-after": "1"}), vendor)
    with pytest.raises(Exception):  # noqa: B017, PT011  # the outage
        world.get_token(broker, name)
    first_sent_at = world.consents.read(name).sent_at
    Operation(world, broker).run(21)
    assert world.consents.read(name).sent_at == first_sent_at
    world.clock.advance(120)
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name)


def test_a_refresh_token_in_a_response_without_a_usable_token_is_stored(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    vendor.successor[SEED] = vendor.valid = "refresh-x"
    body = {"access_token": "x", "token_type": "mac", "refresh_token": "refresh-x"}
    world.provider.to = in_turn(answering(200, body), vendor)
    with pytest.raises(Exception):  # noqa: B017, PT011  # no usable token
        world.get_token(broker, name)
    world.clock.advance(60)
    world.get_token(broker, name)
    assert (vendor.arrived, vendor.misused) == (["refresh-x"], [])


def test_a_refused_refresh_token_is_not_sent_again_and_a_live_token_is_served_to_its_end(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    vendor.ended = True
    renew(world, broker, name)
    assert world.consents.read(name).refused == "invalid_grant"
    response = world.get_token(world.instance(), name)
    assert (response.access_token, "renewal_failing" in response.warnings) == ("tok-1", True)
    Operation(world, broker).run(3600)
    for _ in range(3):
        with pytest.raises(ConsentRequired) as caught:
            world.get_token(broker, name)
        assert caught.value.provider_error == "invalid_grant"
        world.clock.advance(1000)
    assert vendor.arrived == [SEED, "refresh-1"]


def test_another_refresh_token_in_the_secret_helps_within_half_a_minute(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    vendor.ended = True
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name)
    vendor.ended, vendor.valid = False, "seed-2"
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret", "refresh_token": "seed-2"})
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "tok-1"
    assert world.consents.read(name).generation == 2


def rotate_seed(world: World, name: ConnectionName, vendor: Vendor, seed: str) -> None:
    """A person consents, and the operator puts the refresh token into the secret."""
    vendor.valid = seed
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret", "refresh_token": seed})


def test_a_seed_that_was_read_before_a_rotation_replaces_no_refresh_token(world: World) -> None:
    """It waits for another scope set's sending, while the next seed begins a consent."""
    name, vendor = connected(world, ONCE)
    world.get_token(world.instance(), name, scope="a")
    consent, now = world.consents.read(name), world.clock()
    busy = replace(consent, lease=Lease("other", since=now, until=now + timedelta(seconds=17)))
    world.consents.consents[name] = busy
    rotate_seed(world, name, vendor, "seed-a")

    def while_it_waits(_: float) -> None:
        if world.consents.read(name) == busy:
            world.consents.consents[name] = consent
            rotate_seed(world, name, vendor, "seed-b")
            world.get_token(world.instance(), name, scope="c")

    world.get_token(world.instance(sleep=while_it_waits), name, scope="b")
    assert (vendor.arrived, vendor.misused) == ([SEED, "seed-b", "refresh-2"], [])


def test_a_seed_of_the_past_begins_no_consent_again(world: World) -> None:
    """Secrets Manager may return it for a while after a rotation, and an old file may bring it back."""
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name, scope="a")
    rotate_seed(world, name, vendor, "seed-b")
    world.get_token(broker, name, scope="b")
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret", "refresh_token": SEED})
    world.get_token(broker, name, scope="c")
    assert vendor.arrived == [SEED, "seed-b", "refresh-2"]
    broker.drop_consent(name)
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name, scope="a")


def test_a_rotated_client_secret_changes_nothing_of_the_consent(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    world.secrets.put(name, {"client_id": "id", "client_secret": "new", "refresh_token": SEED})
    world.get_token(broker, name)
    renew(world, broker, name)
    assert (vendor.arrived, vendor.misused) == ([SEED, "refresh-1"], [])
    assert world.consents.read(name).generation == 1


@pytest.mark.parametrize("changed", [{"client_id": "other"}, {"host": "other"}], ids=["client", "endpoint"])
def test_a_refresh_token_goes_only_to_its_own_client_and_endpoint(world: World, changed: dict[str, str]) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    if "client_id" in changed:
        world.secrets.put(name, {"client_id": "other", "client_secret": "secret"})
    else:
        world.settings(name, scope="a", **changed)
    world.clock.advance(3601)
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name)
    assert vendor.arrived == [SEED]


# ------------------------------------------------------------------ kept alive


def test_an_unused_consent_is_used_before_it_dies_even_if_all_tokens_are_lost(world: World) -> None:
    idle = Rule("idle", RefreshSpec(idle_life=timedelta(days=60)))
    name, vendor = connected(world, idle, keep_warm="never")
    broker = world.instance()
    world.get_token(broker, name)
    world.lose_tokens()
    world.clock.advance(47 * 86_400)
    operation = Operation(world, broker)
    operation.run(300)
    assert vendor.arrived == [SEED]
    world.clock.advance(86_400)
    operation.run(300)
    operation.run(3000)
    assert vendor.arrived == [SEED, "refresh-1"]


def test_a_consent_of_a_deleted_connection_is_left_alone_and_not_lost(world: World) -> None:
    name, vendor = connected(world, Rule("idle", RefreshSpec(idle_life=timedelta(days=10))))
    broker = world.instance()
    world.get_token(broker, name)
    broker.connections.delete(name, expected=None)
    world.clock.advance(9 * 86_400)
    assert {renewal.outcome for renewal in Operation(world, broker).run(600)} == {RenewalOutcome.GONE}
    world.settings(name, scope="a")
    assert world.get_token(broker, name).access_token == "tok-2"
    assert vendor.misused == []


def test_a_late_message_stores_no_consent_where_there_is_none(world: World) -> None:
    name, _ = connected(world, ONCE)
    assert world.instance().renew(name, None).outcome is RenewalOutcome.GONE
    assert world.consents.read(name).revision is None


def test_the_end_of_a_consent_is_known_ahead(world: World) -> None:
    name, _ = connected(world, Rule("a year", RefreshSpec(life=timedelta(days=365))))
    broker = world.instance()
    world.get_token(broker, name)
    (deadline,) = broker.connections.show(name).deadlines
    assert (deadline.what, round(deadline.days_left(world.clock()))) == ("consent", 365)
    world.clock.advance(366 * 86_400)
    with pytest.raises(ConsentRequired, match="expired"):
        world.get_token(broker, name)
    assert broker.connections.show(name).state == "consent_required"


# ------------------------------------------------------------------ commands


def test_only_the_command_drops_a_consent(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    purged = broker.purge_and_revoke(name, None, deadline=world.clock() + timedelta(seconds=20))
    assert [item.reason for item in purged.not_revoked] == ["would_end_consent"]
    assert len(world.revoker) == 0
    assert world.get_token(broker, name).access_token == "tok-2"

    dropped = broker.drop_consent(name)
    assert (dropped.refresh_id, dropped.reason, dropped.tokens) == (fingerprint("refresh-2"), None, 1)
    assert "token=refresh-2" in world.revoker.bodies()[0]
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name)
    assert broker.drop_consent(name).refresh_id is None
    assert vendor.arrived == [SEED, "refresh-1"]


def test_a_response_that_comes_after_the_command_is_not_stored(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    reasons: list[str | None] = []
    world.provider.to = calling_back(lambda: reasons.append(world.instance().drop_consent(name).reason), vendor)
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name)
    assert reasons == ["in_use"]
    with pytest.raises(ConsentRequired):
        world.get_token(broker, name)
    assert world.consents.read(name).token is None
    assert world.record(name, "a").token is None


def drop_while(world: World, name: ConnectionName, action: Callable[[], object]) -> DroppedConsent:
    """Drops the consent. The action happens after it was read."""
    actions = [action]

    class Reading(InMemoryConsentStore):
        def read(self, name: ConnectionName) -> Consent:
            consent = super().read(name)
            if actions:
                actions.pop()()
            return consent

    store = Reading()
    store.consents = world.consents.consents
    return world.instance(consents=store).drop_consent(name)


def test_the_command_revokes_the_refresh_token_that_it_drops(world: World) -> None:
    name, _ = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    dropped = drop_while(world, name, lambda: renew(world, broker, name))
    assert (dropped.refresh_id, dropped.reason) == (fingerprint("refresh-2"), None)
    assert [body.split("token=")[1].split("&")[0] for body in world.revoker.bodies()] == ["refresh-2"]


def test_the_command_drops_no_consent_that_was_given_meanwhile(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)

    def consent_again() -> None:
        rotate_seed(world, name, vendor, "seed-b")
        world.get_token(broker, name, scope="b")

    with pytest.raises(WrongConsentState):
        drop_while(world, name, consent_again)
    assert world.consents.read(name).seed_id == fingerprint("seed-b")
    assert len(world.revoker) == 0
    assert world.get_token(broker, name, scope="b").access_token == "tok-2"


def test_a_consent_that_is_given_during_an_exchange_is_used_by_the_next_request(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()

    def consent_again() -> None:
        vendor.successor.clear()
        vendor.valid = "given-anew"
        stored, connection = world.consents.read(name), broker.connections.reader.stored(name)
        new = NewConsent("c" * 64, IssuedRefreshToken("given-anew"), "id", "https://id.example/token", account="me")
        context = world.instance().context
        begun = begin_consent(
            context, broker.connections.reader.connection(name, connection), stored, new, seed_id=stored.seed_id
        )
        assert begun is not None
        assert begun.generation == stored.generation + 1
        lift_consent_failure(context, name)

    world.provider.to = in_turn(calling_back(consent_again, refusing("invalid_grant")), vendor)
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name)
    assert world.get_token(broker, name).access_token == "tok-1"
    assert vendor.arrived == ["given-anew"]


def test_a_consent_that_cannot_be_revoked_is_dropped_all_the_same(world: World) -> None:
    name, _ = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    assert broker.drop_consent(name).reason == "provider_unavailable"
    assert world.consents.read(name).token is None


def test_a_trial_of_the_current_credentials_is_a_renewal_and_of_pending_ones_not_possible(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.get_token(broker, name)
    assert broker.trial(name, force=False).token_id == fingerprint("tok-2")
    assert world.get_token(world.instance(), name).access_token == "tok-2"
    world.clock.advance(300)
    pending = {"client_id": "id", "client_secret": "next", "refresh_token": SEED}
    world.secrets.put(name, pending, stage="AWSPENDING")
    with pytest.raises(WouldConsumeGrant):
        broker.trial(name, force=True)
    assert vendor.arrived == [SEED, "refresh-1"]


def test_a_trial_ends_the_cooldown_of_refused_credentials(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    world.provider.to = in_turn(*[refusing("invalid_client", 401)] * 2, vendor)
    for _ in range(2):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name)
        world.clock.advance(61)
    assert broker.trial(name, force=False).token_id == fingerprint("tok-1")
    assert world.get_token(broker, name).access_token == "tok-1"


def test_operators_see_that_a_person_is_needed(world: World) -> None:
    name, vendor = connected(world, ONCE)
    broker = world.instance()
    assert broker.connections.show(name).state == "idle"
    world.get_token(broker, name)
    assert broker.connections.show(name).state == "ok"
    vendor.ended = True
    renew(world, broker, name)
    assert broker.connections.show(name).state == "consent_required"
    world.lose_tokens()
    assert [state.state for state in broker.connections.page(10, None)[0]] == ["consent_required"]
