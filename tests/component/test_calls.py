"""P10: how often the ports are called on each path. Each call is one call of AWS.

At most 8 for a miss and for a renewal, and 9 for a renewal with a refresh token. The numbers are exact, so that no path
grows unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes import World, issuing
from token_broker.core.names import ConnectionName
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome

LOGIN = {"field": "accessToken", "status": "SUCCESS", "expires_in": None}
REFRESH = {"refresh_token": "refresh-{n}"}
# Read, lease, the settings again for a new key, secret, data key, commit.
MISS = 6
SECOND_READ = 1  # a new instance does not know the connection's own scope before the first
SCOPE_SETS = 1  # all keys of the connection, for another scope than its own
LOGINS = 2  # a login is counted before it is sent, and settled after it
BUDGET = 2  # the endpoint's budget is looked at before the lease, and taken from before the request
# Read, lease, secret, data key, commit.
RENEWAL = 5
RETIRED = 1  # the token before, where the provider can revoke
SEAL_REFRESH_TOKEN = 1  # it has a data key of its own
OPEN_REFRESH_TOKEN = 1


@dataclass(frozen=True)
class Path:
    """The calls of a connection's first token and of its renewal."""

    provider: str
    miss: int
    renewal: int
    scope: str = ""
    response: dict[str, Any] = field(default_factory=dict)


PATHS = [
    Path("oauth2", MISS, RENEWAL + RETIRED),
    Path("oauth2", MISS + SCOPE_SETS, RENEWAL + RETIRED, scope="a"),
    Path(
        "oauth2",
        MISS + SEAL_REFRESH_TOKEN,
        RENEWAL + RETIRED + OPEN_REFRESH_TOKEN + SEAL_REFRESH_TOKEN,
        response=REFRESH,
    ),
    Path("unified-services", MISS, RENEWAL),
    Path("unicommerce", MISS + LOGINS, RENEWAL + LOGINS, response=LOGIN),
    Path("unicommerce", MISS + LOGINS, RENEWAL + LOGINS, response=LOGIN | REFRESH),
    Path("commerce-layer", MISS + BUDGET, RENEWAL + BUDGET + RETIRED),
    Path("ucommerce", MISS, RENEWAL),
    Path(
        "ucommerce",
        MISS + SEAL_REFRESH_TOKEN,
        RENEWAL + OPEN_REFRESH_TOKEN + SEAL_REFRESH_TOKEN,
        response=REFRESH,
    ),
    Path("unidy", MISS + SECOND_READ, RENEWAL + RETIRED),
]


def name_of(path: Path) -> str:
    return " ".join([path.provider, path.scope, "with refresh token" if "refresh_token" in path.response else ""])


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_each_path_takes_so_many_calls(world: World, broker: Broker, path: Path) -> None:
    name = world.connection(path.provider, allowed_scopes=["*"] if path.scope else None)
    world.provider.to = issuing(**path.response)
    world.get_token(broker, name, scope=path.scope or None)
    assert world.faults.calls.total() == path.miss <= 8
    (record,) = world.tokens.items(name).records
    assert record.token is not None
    world.clock.advance(to=record.token.renew_at)
    world.faults.calls.clear()
    assert world.renew(broker, name, record.key.scope).outcome is RenewalOutcome.RENEWED
    assert world.faults.calls.total() == path.renewal <= (9 if "refresh_token" in path.response else 8)


def test_a_miss_of_another_instance_takes_no_other_calls(world: World, name: ConnectionName) -> None:
    """The key has an item already: its revision fences the lease, and the settings are not read again."""
    world.get_token(world.instance(), name)
    world.clock.advance(3600)
    world.faults.calls.clear()
    world.get_token(world.instance(), name)
    assert world.faults.calls.total() == MISS - 1
