"""P6, P13: the process dies at every step of a renewal with a consent, or a write fails, for each rule of a vendor.

No consent is lost that the rule allows to keep, and no refresh token is sent more often than it allows: the vendor
judges that itself. The same holds if TokenTable is emptied at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from tests.component.test_crashes import LEASE, Crash, Journey
from tests.component.vendor_with_consent import DUE_AFTER_S, LIFETIME_S, RULES, Operation, Rule, Vendor, connected
from tests.fakes import World, calling_back
from token_broker.core.names import ConnectionName
from token_broker.core.records import CLOCK_TOLERANCE
from token_broker.errors import BrokerUnavailable, ConsentRequired
from token_broker.service import Broker

ONCE = RULES[0]
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
# From the write that marks the refresh token as sent to the commit of the access token.
MARK, SEND, STORE, COMMIT = range(4)
STEPS = ("consents.save", "send", "consents.save", "tokens.save")
# Only where the vendor's window is short: the worker is told before the mark.
PLAN = "queue.send"


def steps_of(rule: Rule) -> tuple[str, ...]:
    within = rule.spec.resend_within
    return (PLAN, *STEPS) if within is not None and within <= timedelta(seconds=120) else STEPS


def renew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.renew(broker, name, "a")


def get(world: World, broker: Broker, name: ConnectionName) -> None:
    """A caller comes when the token has expired."""
    world.clock.advance(LIFETIME_S - DUE_AFTER_S)
    world.get_token(broker, name)


ENTRIES = (renew, get)
Entry = Callable[[World, Broker, ConnectionName], None]


def due(world: World, rule: Rule) -> tuple[ConnectionName, Vendor, Broker]:
    """A connection whose token is due, and which nobody keeps warm: the next caller comes much later."""
    name, vendor = connected(world, rule, keep_warm="never")
    broker = world.instance()
    world.get_token(broker, name)
    world.settings(name, scope="a", allowed_scopes=["*"], keep_warm="always")
    world.clock.advance(DUE_AFTER_S)
    return name, vendor, broker


def is_kept(world: World, name: ConnectionName, vendor: Vendor) -> bool:
    """Whether a caller who comes later gets a token; if not, a person is needed. The vendor never objects."""
    survivor = world.instance()
    operation = Operation(world, survivor)
    operation.run(400)
    world.clock.advance(LIFETIME_S)
    try:
        assert world.get_token(survivor, name).token.alive(world.clock())
    except ConsentRequired:
        assert vendor.misused == []
        return False
    # The consent is as good as new.
    world.clock.advance(LIFETIME_S + 1)
    world.get_token(survivor, name)
    assert (vendor.misused, world.consents.read(name).sent_at) == ([], None)
    return True


@EVERY_RULE
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_steps_are_these(world: World, rule: Rule, entry: Entry) -> None:
    """The tests below go through all of them. A new call has to be added to STEPS."""
    name, _, broker = due(world, rule)
    steps = steps_of(rule)
    journey = Journey(world, first=steps[0])
    entry(world, broker, name)
    assert tuple(journey.calls) == steps


@EVERY_RULE
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("tokens_lost", [False, True], ids=["", "TokenTable emptied"])
def test_a_crash_at_any_step_loses_no_consent_that_the_rule_allows_to_keep(
    rule: Rule, entry: Entry, tokens_lost: bool
) -> None:
    steps = steps_of(rule)
    for step, _ in enumerate(steps):
        for after in (False, True):
            world = World()
            name, vendor, broker = due(world, rule)
            journey = Journey(world, first=steps[0], dies_at=step, after=after)
            with pytest.raises(Crash):
                entry(world, broker, name)
            journey.end()
            if tokens_lost:
                world.lose_tokens()
            number = step - len(steps) + len(STEPS)
            is_marked = number > MARK or (number == MARK and after)
            is_stored = number > STORE or (number == STORE and after)
            may_be_lost = rule is ONCE and is_marked and not is_stored
            assert is_kept(world, name, vendor) is not may_be_lost, (steps[step], after)


def lose_grant_table(world: World) -> None:
    """GrantTable fails from the moment on at which the refresh token has been sent."""
    world.provider.to = calling_back(lambda: world.faults.take_down("consents"), world.provider.to)


@EVERY_RULE
@pytest.mark.parametrize(
    ("fails", "loses_once"),
    [
        pytest.param(lambda world: world.faults.fail("consents.save"), False, id="the mark is not written"),
        pytest.param(
            lambda world: world.faults.lose_response("consents.save"), False, id="the mark's response is lost"
        ),
        pytest.param(
            lambda world: (world.faults.let_pass("consents.save"), world.faults.fail("consents.save", 5)),
            False,
            id="the consent is stored late",
        ),
        pytest.param(
            lambda world: (world.faults.let_pass("consents.save"), world.faults.lose_response("consents.save")),
            False,
            id="the consent's response is lost",
        ),
        pytest.param(lose_grant_table, True, id="the consent is not stored before the lease ends"),
        pytest.param(
            lambda world: (world.faults.let_pass("tokens.save"), world.faults.fail("tokens.save", 2)),
            False,
            id="the token is not stored",
        ),
        pytest.param(
            lambda world: (world.faults.let_pass("tokens.save"), world.faults.lose_response("tokens.save")),
            False,
            id="the token's response is lost",
        ),
    ],
)
def test_a_write_that_fails_loses_no_consent_that_the_rule_allows_to_keep(
    world: World, rule: Rule, fails: Callable[[World], object], loses_once: bool
) -> None:
    name, vendor, broker = due(world, rule)
    began = world.clock()
    fails(world)
    with suppress(BrokerUnavailable):
        world.renew(broker, name, "a")
    world.faults.bring_up("consents")
    world.provider.to = vendor
    assert world.clock() - began <= LEASE + CLOCK_TOLERANCE
    assert is_kept(world, name, vendor) is not (loses_once and rule is ONCE)


@EVERY_RULE
def test_two_scope_sets_and_a_crash_between_them_send_nothing_twice(world: World, rule: Rule) -> None:
    """The survivor of another scope set finds the mark of the one that died."""
    name, vendor, broker = due(world, rule)
    journey = Journey(world, first="consents.save", dies_at=SEND, after=True)
    with pytest.raises(Crash):
        world.renew(broker, name, "a")
    journey.end()
    world.clock.advance((LEASE + CLOCK_TOLERANCE).total_seconds())
    if rule is ONCE:
        with pytest.raises(ConsentRequired):
            world.get_token(world.instance(), name, scope="b")
    else:
        assert world.get_token(world.instance(), name, scope="b").access_token
    assert vendor.misused == []
