"""A sweep whose process is killed: the next one queues the remaining keys, and each key is renewed once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from local.lambda_environments import EnvironmentPool, FunctionError
from tests.integration.handlers.world import World
from token_broker.adapters.sqs import read_message
from token_broker.service import Broker

from .conftest import ROUNDS
from .fleet import RESPONSE_S, Processes, Race
from .gate import Gate
from .ground import Ground

KEYS = 3


@pytest.mark.parametrize("step", ["UpdateItem", "SendMessageBatch"], ids=["while-it-claims", "before-it-queues"])
def test_a_killed_sweep_loses_no_key_and_none_is_renewed_twice(
    world: World,
    make_broker: Callable[[], Broker],
    race: Race,
    pools: dict[str, EnvironmentPool],
    gate: Gate,
    step: str,
) -> None:
    for ground in Ground(world, race, make_broker, ROUNDS, lambda: Processes(world, pools)):
        names = [ground.seeded("unidy", slot, keep=False)[0] for slot in range(KEYS)]
        for name in names:
            ground.make_due(name)
        held = gate.hold(step)
        sweeping = ground.race.meanwhile(ground.fleet.sweep)
        held.wait()
        for pid in pools[world.stack.sweep_function].pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(FunctionError):
            sweeping.result(RESPONSE_S)
        gate.open()
        for name in names:
            ground.make_due(name)  # a claim has expired
        ground.fleet.sweep()
        # A request of the killed process may arrive in a later round.
        messages = [read_message(body) for body in world.aws.queued_bodies()]
        queued = [message for message in messages if str(message.name) in names]
        assert {str(message.name) for message in queued} == set(names)
        for message in queued:
            ground.fleet.renew(str(message.name), message.scope_id)
        assert ground.count(names[0], "token_requests") == KEYS
