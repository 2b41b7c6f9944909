"""Any record, and any change of one, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from hypothesis import strategies as st

from tests.unit.records import CURRENT, ISSUER, NOW, OTHER, failure, rate_limited, record, refused, seconds, token
from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.records import Lease, RefreshToken, Token, TokenRecord

KEEP_WARM = st.sampled_from(["used", "always", "never", "suspended"])
DIGESTS = st.sampled_from(["s1", "s2"])
VERSIONS = st.sampled_from(["v1", "v2"])
MOMENTS = st.integers(-7200, 7200).map(lambda count: NOW + seconds(count))


FAILURES: st.SearchStrategy[Failure] = st.builds(
    lambda make, ago, cooldown, secret, settings: make(
        ago=ago, cooldown=cooldown, secret_version=secret, settings_digest=settings
    ),
    st.sampled_from([failure, refused]),
    st.integers(0, 90_000),
    st.integers(-90_000, 90_000),
    st.none() | VERSIONS,
    DIGESTS,
)
RATE_LIMITS: st.SearchStrategy[Failure] = st.builds(
    lambda ago, cooldown: rate_limited(ago=ago, cooldown=cooldown), st.integers(0, 3600), st.integers(-3600, 3600)
)
HEALTH: st.SearchStrategy[ConnectionHealth] = st.builds(
    ConnectionHealth,
    failure=st.none() | FAILURES,
    rate_limit=st.none() | RATE_LIMITS,
    unresolved_logins=st.integers(0, 3),
    login_version=st.none() | VERSIONS,
    new_versions=st.lists(st.tuples(VERSIONS, MOMENTS), max_size=3).map(tuple),
    refused_versions=st.lists(VERSIONS, max_size=3, unique=True).map(tuple),
    trials=st.lists(st.tuples(VERSIONS, MOMENTS), max_size=6).map(
        lambda found: tuple(sorted(found, key=lambda t: t[1]))
    ),
    revision=st.none() | st.just("h1"),
)
TOKENS: st.SearchStrategy[Token] = st.builds(
    lambda age, remaining, renew_at, token_id, issuer, settings, secret, reissued: token(
        age=age,
        remaining=remaining,
        renew_at=renew_at,
        token_id=token_id,
        token_endpoint=issuer,
        settings_digest=settings,
        secret_version=secret,
        reissued=reissued,
    ),
    st.integers(-5, 7200),
    st.integers(-60, 7200),
    MOMENTS,
    st.sampled_from([CURRENT, OTHER]),
    st.sampled_from([ISSUER, "https://elsewhere.example.com"]),
    st.none() | DIGESTS,
    VERSIONS,
    st.booleans(),
)
REFRESH_TOKENS: st.SearchStrategy[RefreshToken] = st.builds(
    RefreshToken, st.just("0f0e0d0c0b0a0908"), st.none() | MOMENTS, st.booleans(), st.just(b"refresh")
)
LEASES: st.SearchStrategy[Lease] = MOMENTS.map(lambda until: Lease("another", since=until - seconds(17), until=until))
RECORDS: st.SearchStrategy[TokenRecord] = st.builds(
    record,
    st.none() | TOKENS,
    refresh_token=st.none() | REFRESH_TOKENS,
    lease=st.none() | LEASES,
    failure=st.none() | FAILURES,
    health=HEALTH,
    keep_warm=KEEP_WARM,
    settings_digest=st.none() | DIGESTS,
    last_used_at=st.none() | st.integers(-100_000, 0).map(lambda count: NOW + seconds(count)),
    stale_at=st.none() | MOMENTS,
    deferred_until=st.none() | MOMENTS,
    reports_until=st.none() | MOMENTS,
    reissues=st.booleans(),
    due_at=st.none() | MOMENTS,
)


@dataclass(frozen=True)
class Change:
    """A change of a record at a moment. `name`: the method that makes it."""

    name: str
    apply: Callable[[TokenRecord, datetime], TokenRecord]

    def __repr__(self) -> str:
        return self.name


def _at(moment: datetime, found: Failure) -> Failure:
    """The same failure, as if it had happened then."""
    return replace(found, at=moment, retry_at=moment + (found.retry_at - found.at))


def _new(moment: datetime, found: Token) -> Token:
    """The same token, as if it had been issued then. It is valid for a second at least."""
    lifetime = max(found.lifetime, seconds(1))
    renew_at = min(max(moment, moment + (found.renew_at - found.issued_at)), moment + lifetime)
    return replace(found, issued_at=moment, expires_at=moment + lifetime, renew_at=renew_at)


CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda keep_warm, digest, mark: Change(
            "lease_taken",
            lambda found, now: found.lease_taken(
                Lease("mine", now, now + seconds(17)),
                keep_warm=keep_warm,
                settings_digest=digest,
                mark_refresh_token=mark,
            ),
        ),
        KEEP_WARM,
        DIGESTS,
        st.booleans(),
    ),
    st.just(Change("lease_ended", lambda found, _now: found.lease_ended())),
    st.builds(
        lambda issued, refresh, used: Change(
            "committed",
            lambda found, now: found.committed(_new(now, issued), refresh, at_lease=found, now=now, used=used),
        ),
        TOKENS,
        st.none() | REFRESH_TOKENS,
        st.booleans(),
    ),
    st.builds(lambda met: Change("failed", lambda found, now: found.failed(_at(now, met))), FAILURES),
    st.builds(
        lambda wait: Change("deferred", lambda found, now: found.deferred(now + seconds(wait))), st.integers(0, 900)
    ),
    st.just(Change("reported", lambda found, now: found.reported(now))),
    st.just(Change("used", lambda found, now: found.used(now))),
    st.just(Change("marked_stale", lambda found, now: found.marked_stale(now))),
    st.builds(
        lambda keep_warm, digest, resumed: Change(
            "settings_applied",
            lambda found, now: found.settings_applied(
                keep_warm=keep_warm, settings_digest=digest, now=now, resumed=resumed
            ),
        ),
        KEEP_WARM,
        DIGESTS,
        st.booleans(),
    ),
    st.builds(lambda deleted: Change("purged", lambda found, _now: found.purged(deleted=deleted)), st.booleans()),
    st.builds(lambda health: Change("health_changed", lambda found, _now: found.health_changed(health)), HEALTH),
    st.just(
        Change("cooldowns_ended", lambda found, _now: found.cooldowns_ended(found.health.cooldowns_ended())),
    ),
)
