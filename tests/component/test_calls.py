"""P10: how often the ports are called on each path. Each call is one call of AWS.

At most 8 for a miss and for a renewal, and one more with a refresh token. The numbers are exact, so that no path grows
unnoticed. docs/architecture.md, "AWS calls", has the same sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from tests.component.vendor_with_consent import RULES, Rule, connected
from tests.fakes import CALLER, World, answering, issuing
from tests.signing_keys import private_key
from token_broker.catalogue import load_catalogue
from token_broker.core.names import ConnectionName
from token_broker.errors import ProviderRateLimited
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome

ONCE, IN_A_MINUTE, *_ = RULES
LOGIN = {"field": "accessToken", "status": "SUCCESS", "expires_in": None}
REFRESH = {"refresh_token": "refresh-{n}"}
# Read, lease, the settings again for a new key, secret, data key, commit.
MISS = 6
SECOND_READ = 1  # a new instance does not know the connection's own scope before the first
SCOPE_SETS = 1  # all keys of the connection, for another scope than its own
LOGINS = 2  # a login is counted before it is sent, and settled after it
API_HOST = 1  # the first one is stored; with a login by the write that settles it
BUDGET = 1  # a request is taken from the endpoint's budget
LOOK_AT_BUDGET = 1  # before the lease, if the key has a record
SIGNATURE = 1  # by KMS
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
    default_scope: str | None = None
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
    Path("commerce-layer", MISS + BUDGET, RENEWAL + LOOK_AT_BUDGET + BUDGET + RETIRED),
    Path(
        "commerce-layer",
        MISS + SECOND_READ + BUDGET,
        RENEWAL + LOOK_AT_BUDGET + BUDGET + RETIRED,
        default_scope="market:id:1",
    ),
    Path(
        "commerce-layer",
        MISS + SCOPE_SETS + BUDGET,
        RENEWAL + LOOK_AT_BUDGET + BUDGET + RETIRED,
        scope="market:id:1",
    ),
    Path("oauth2-private-key-jwt", MISS + SIGNATURE, RENEWAL + SIGNATURE),
    Path("oauth2-private-key-jwt", MISS + SECOND_READ + SIGNATURE, RENEWAL + SIGNATURE, default_scope="a"),
    Path("oauth2-private-key-jwt", MISS + SCOPE_SETS + SIGNATURE, RENEWAL + SIGNATURE, scope="a"),
    Path(
        "oauth2-private-key-jwt",
        MISS + SECOND_READ + SIGNATURE + SEAL_REFRESH_TOKEN,
        RENEWAL + OPEN_REFRESH_TOKEN + SEAL_REFRESH_TOKEN + SIGNATURE,
        default_scope="a",
        response=REFRESH,
    ),
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
    parts = [path.provider, path.scope, path.default_scope and f"default {path.default_scope}"]
    return " ".join(part for part in (*parts, "refresh_token" in path.response and "with refresh token") if part)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_each_path_takes_so_many_calls(world: World, broker: Broker, path: Path) -> None:
    settings = {"scope": path.default_scope} if path.default_scope else {}
    name = world.connection(path.provider, allowed_scopes=["*"] if path.scope else None, **settings)
    world.signing_keys.pems[name] = private_key("P-256")
    world.provider.to = issuing(**path.response)
    world.get_token(broker, name, scope=path.scope or None)
    bar = 9 if "refresh_token" in path.response else 8
    assert world.faults.calls.total() == path.miss <= bar
    (record,) = world.tokens.items(name).records
    assert record.token is not None
    world.clock.advance(to=record.token.renew_at)
    world.faults.calls.clear()
    assert world.renew(broker, name, record.key.scope).outcome is RenewalOutcome.RENEWED
    assert world.faults.calls.total() == path.renewal <= bar


def test_a_miss_of_another_instance_takes_no_other_calls(world: World, name: ConnectionName) -> None:
    """The key has an item already: its revision fences the lease, and the settings are not read again."""
    world.get_token(world.instance(), name)
    world.clock.advance(3600)
    world.faults.calls.clear()
    world.get_token(world.instance(), name)
    assert world.faults.calls.total() == MISS - 1


# A consent: read, open, data key for the next refresh token, mark, store. In a short window a message goes before.
CONSENT = 5
SEED = 2  # another data key, and its own write
PLAN = 1


@pytest.mark.parametrize(
    ("rule", "more"), [(ONCE, 0), (IN_A_MINUTE, PLAN)], ids=lambda value: getattr(value, "name", "")
)
def test_a_consent_takes_so_many_calls(world: World, rule: Rule, more: int) -> None:
    name, _ = connected(world, rule)
    broker = world.instance()
    world.get_token(broker, name)
    assert world.faults.calls.total() == MISS + SECOND_READ + SEED + CONSENT + more
    (record,) = world.tokens.items(name).records
    assert record.token is not None
    world.clock.advance(to=record.token.renew_at)
    world.faults.calls.clear()
    assert world.renew(broker, name, record.key.scope).outcome is RenewalOutcome.RENEWED
    assert world.faults.calls.total() == RENEWAL + CONSENT + more


def test_a_used_up_budget_costs_a_new_key_one_lease_and_then_none(world: World, broker: Broker) -> None:
    name = world.connection("commerce-layer")
    host = "auth.commercelayer.io"
    world.budgets.cool_down(host, world.clock() + timedelta(minutes=1))
    for secrets_read in (1, 1):
        with pytest.raises(ProviderRateLimited):
            world.get_token(broker, name)
        assert (world.faults.calls["secrets.read"], len(world.provider)) == (secrets_read, 0)


CATALOGUE = load_catalogue()


@pytest.mark.parametrize("slug", [slug for slug in CATALOGUE if not CATALOGUE[slug].grant.needs_consent])
def test_a_provider_of_the_catalogue_stays_within_the_calls(slug: str) -> None:
    """The sum of what its file asks for. The paths above and below show that the summands are right."""
    provider = CATALOGUE[slug]
    logs_in, has_limit = provider.grant.counts_logins, provider.limit is not None
    both = [(LOGINS, logs_in), (BUDGET, has_limit), (SIGNATURE, provider.assertion is not None)]
    of_a_miss = [*both, (API_HOST, provider.response.base_url is not None and not logs_in)]
    of_a_renewal = [*both, (LOOK_AT_BUDGET, has_limit), (RETIRED, provider.revocation_url is not None)]
    miss = MISS + sum(calls for calls, is_made in of_a_miss if is_made)
    assert miss <= 8
    assert not provider.grant.has_scopes or miss + SECOND_READ <= 9
    assert RENEWAL + sum(calls for calls, is_made in of_a_renewal if is_made) <= 8


@pytest.mark.parametrize(
    ("slug", "settings", "secret", "response", "miss"),
    [
        (
            "salesforce-jwt-bearer",
            {"base_url": "https://my.salesforce.com", "signing_key": "kms"},
            {"client_id": "id", "username": "user"},
            {"access_token": "tok", "instance_url": "https://my.salesforce.com"},
            MISS + SIGNATURE + API_HOST,
        ),
        (
            "linnworks",
            {},
            {"ApplicationId": "id", "ApplicationSecret": "secret", "Token": "token"},
            {"Token": "tok", "Server": "https://eu-ext.linnworks.net", "TTL": 1800},
            MISS + LOGINS,
        ),
    ],
)
def test_the_first_api_host_is_one_call_and_none_with_a_login(
    world: World, slug: str, settings: dict[str, Any], secret: dict[str, str], response: dict[str, Any], miss: int
) -> None:
    name = ConnectionName(slug, "main")
    world.secrets.put(name, secret)
    world.signing_keys.pems[name] = private_key("2048")
    world.connections.put(name, {"allowed_callers": [CALLER], **settings}, version="v1", expected=None, absent=False)
    world.provider.to = answering(200, response)
    world.faults.calls.clear()
    world.get_token(world.instance(), name)
    assert world.faults.calls.total() == miss <= 8
