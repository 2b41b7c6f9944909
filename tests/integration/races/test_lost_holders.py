"""Lease holders that are killed or stopped: another takes over after the lease, and a late one changes nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import pytest

from local.lambda_environments import EnvironmentPool, FunctionError
from tests.integration.handlers.world import World
from token_broker.core.records import CLOCK_TOLERANCE
from token_broker.service import Broker

from .conftest import API_FUNCTION, ROUNDS, SOAK, MakePool
from .fleet import RESPONSE_S, Got, Instances, Processes, Race
from .gate import Gate
from .ground import Ground

# Environments to lose have leases of 2.6 s, acquisitions of 1.8 s and exchanges of 1.2 s. So a takeover is soon.
LEASE_SCALE = "0.15"
HOLDERS = 8 if SOAK else 5
ROUNDS_OF_HOLDERS = ROUNDS // HOLDERS
PATIENCE = 100
PAUSE_S = 0.2


@dataclass(frozen=True)
class Holder:
    """One environment to kill or stop."""

    pool: EnvironmentPool
    functions: Processes

    @property
    def pid(self) -> int:
        (pid,) = self.pool.pids
        return pid

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)


@dataclass
class Holders:
    """Environments to kill or stop, each with its own lease, and others that take over."""

    ground: Ground
    doomed: list[Holder]
    others: Processes

    def lead(self, names: list[str]) -> list[Future[Got]]:
        """Starts one caller per connection, each in its own environment."""
        return [self._ask(holder, name) for holder, name in zip(self.doomed, names, strict=True)]

    def hang(self, provider: str, names: list[str], then: Callable[[Holder], None]) -> list[Future[Got]]:
        """Lets each holder in turn ask a provider that hangs, and kills or stops it before its exchange times out."""
        simulator = self.ground.world.simulator(provider)
        simulator.fail("hang", times=len(names))
        callers = []
        for number, (holder, name) in enumerate(zip(self.doomed, names, strict=True), 1):
            callers.append(self._ask(holder, name))
            assert simulator.waits.until_held(number, RESPONSE_S)
            then(holder)
        return callers

    def _ask(self, holder: Holder, name: str) -> Future[Got]:
        return self.ground.race.meanwhile(partial(holder.functions.get, name))

    def taken_over(self, names: list[str]) -> dict[str, str]:
        """The token of each connection after another environment took over. Two callers for each ask until then."""
        asked = names * 2
        responses = self.ground.race.together([partial(self._patiently, name) for name in asked])
        found = {name: {got.token_id for at, got in zip(asked, responses, strict=True) if at == name} for name in names}
        assert {got.code for got in responses} == {""}
        assert {len(tokens) for tokens in found.values()} == {1}
        return {name: tokens.pop() for name, tokens in found.items()}

    def _patiently(self, name: str) -> Got:
        for _ in range(PATIENCE):
            got = self.others.get(name)
            if got.code != "acquisition_in_progress":
                return got
            time.sleep(PAUSE_S)
        raise AssertionError(f"nobody took {name} over")

    def go_on(self) -> None:
        """Lets stopped environments continue."""
        for holder in self.doomed:
            os.kill(holder.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def lost_pools(make_pool: MakePool) -> list[EnvironmentPool]:
    """Environments to lose, with short leases."""
    return [make_pool(API_FUNCTION, size=1, TOKEN_BROKER_LEASE_SCALE=LEASE_SCALE) for _ in range(HOLDERS)]


@pytest.fixture(scope="session")
def other_pool(make_pool: MakePool) -> EnvironmentPool:
    """Environments that take over, with the usual time for a token request."""
    return make_pool(API_FUNCTION, size=2)


@pytest.fixture
def holders(
    world: World,
    make_broker: Callable[[], Broker],
    race: Race,
    lost_pools: list[EnvironmentPool],
    other_pool: EnvironmentPool,
) -> Holders:
    ground = Ground(world, race, make_broker, ROUNDS_OF_HOLDERS, lambda: Instances(make_broker))
    # The imports of a first acquisition must not count against the short deadlines. This one itself may come too late.
    for pool in (*lost_pools, other_pool):
        pool.prewarm()
        for _ in pool.pids:
            Processes(world, {API_FUNCTION: pool}).get(ground.connect("unidy"))
    doomed = [Holder(pool, Processes(world, {API_FUNCTION: pool})) for pool in lost_pools]
    return Holders(ground, doomed, Processes(world, {API_FUNCTION: other_pool}))


@pytest.mark.parametrize("provider", ["unidy", "ucommerce"])
def test_a_killed_holder_is_replaced_by_one_other_request_after_its_lease(holders: Holders, provider: str) -> None:
    """A refresh token that the holder marked is not sent again. The next holder starts the grant anew."""
    for ground in holders.ground:
        simulator = ground.world.simulator(provider)
        names = [ground.seeded(provider, slot, keep=False)[0] for slot in range(HOLDERS)]
        for name in names:
            ground.expire_token(name)
        callers = holders.hang(provider, names, lambda holder: os.kill(holder.pid, signal.SIGKILL))
        ends = {name: ground.lease_end(name) for name in names}
        for caller in callers:
            with pytest.raises(FunctionError):
                caller.result(RESPONSE_S)
        winners = holders.taken_over(names)
        simulator.waits.drop()
        assert ground.count(names[0], "token_requests") == 2 * HOLDERS
        assert ground.count(names[0], "issued") == HOLDERS
        assert ground.count(names[0], "replayed_refresh_tokens") == 0
        assert all(ground.issued_at(name, winners[name]) >= ends[name] + CLOCK_TOLERANCE for name in names)


@pytest.mark.parametrize("revocable", [True, False], ids=["revoked", "left-to-the-worker"])
def test_a_holder_stopped_past_its_lease_cannot_commit_and_its_token_is_revoked(
    holders: Holders, gate: Gate, revocable: bool
) -> None:
    for ground in holders.ground:
        names = [ground.connect("unidy") for _ in range(HOLDERS)]
        # The holder has the provider's response, and its commit is on the way to the table.
        commits = [gate.hold("UpdateItem", holding="#token_id = :token_id") for _ in names]
        callers = holders.lead(names)
        for commit in commits:
            commit.wait()
        for holder in holders.doomed:
            holder.stop()
        winners = holders.taken_over(names)
        gate.open()
        if not revocable:
            ground.world.simulator("unidy").fail("status", on="revoke", status=503, times=HOLDERS)
        holders.go_on()
        late = [caller.result(RESPONSE_S) for caller in callers]
        assert [got.token_id for got in late] == [winners[name] for name in names]
        assert ground.count(names[0], "issued") == 2 * HOLDERS
        if not revocable:
            assert len(ground.live(names[0])) == 2 * HOLDERS
            for name in names:
                assert len(ground.kept(name)) == 2
                ground.retry_revocations(name)
        assert ground.live(names[0]) == set(winners.values())
        for name in names:
            assert ground.kept(name) == {winners[name]}
            assert holders.others.get(name).token_id == ground.bystander.get(name).token_id == winners[name]
        assert ground.count(names[0], "token_requests") == 2 * HOLDERS


def test_a_holder_stopped_during_its_request_changes_nothing_when_it_continues(holders: Holders) -> None:
    """Its lease has expired when it continues. Its result is ignored, because another holder has stored a token."""
    for ground in holders.ground:
        simulator = ground.world.simulator("unidy")
        names = [ground.connect("unidy") for _ in range(HOLDERS)]
        callers = holders.hang("unidy", names, Holder.stop)
        winners = holders.taken_over(names)
        simulator.waits.drop()
        holders.go_on()
        late = [caller.result(RESPONSE_S) for caller in callers]
        assert {got.token_id for got in late} <= {"", *winners.values()}
        assert ground.count(names[0], "token_requests") == 2 * HOLDERS
        for name in names:
            got = ground.bystander.get(name)
            assert (got.token_id, got.warnings) == (winners[name], ())
        assert [(got.code, got.token_id) for got in late] == [("", winners[name]) for name in names]
