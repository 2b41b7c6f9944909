"""When an issued token expires: the earliest of all that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.core.providers import MAX_LIFETIME_S
from token_broker.oauth.responses import IssuedToken, UnusableResponse, clock_of, jwt_expiry

MAX_LIFETIME = timedelta(seconds=MAX_LIFETIME_S)
DEFAULT_LIFETIME = timedelta(seconds=3600)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a token expires. `assumed`: the provider gave no lifetime. `disputed`: its own `exp` is past all the same.

    `expired`: why a token of no lifetime has none; None for any other.
    """

    expires_at: datetime
    assumed: bool
    disputed: bool
    expired: str | None = None


def expiry_of(
    issued: IssuedToken,
    *,
    sent_at: datetime,
    cap: timedelta | None,
    default: timedelta = DEFAULT_LIFETIME,
) -> Expiry:
    """When a token expires, counted from the moment before its request was sent.

    The earliest of what the response states, the JWT's own `exp`, `cap` and 30 days; `default` where the provider
    states nothing. A token that has expired already expires at `sent_at`. Raises UnusableResponse for a lifetime that
    is too short to be counted.
    """
    if issued.expires_in == 0:
        return Expiry(sent_at, assumed=False, disputed=False, expired="expires_in is 0")
    lifetimes = []
    if issued.expires_in is not None:
        lifetimes.append(timedelta(seconds=min(issued.expires_in, MAX_LIFETIME.total_seconds())))
    # Compared with the provider's own clock where it sends a Date: clocks can differ by minutes.
    provider_now = clock_of(issued.provider_now, sent_at)
    moments = (issued.expires_at, jwt_expiry(issued.access_token))
    remaining = [moment - provider_now for moment in moments if moment is not None]
    lifetimes += [time for time in remaining if time > timedelta()]
    is_past = any(time <= timedelta() for time in remaining)
    if is_past and not lifetimes:
        return Expiry(sent_at, assumed=False, disputed=False, expired="it had expired when it was issued")
    assumed = not lifetimes
    if assumed:
        lifetimes.append(default)
    if cap is not None:
        lifetimes.append(cap)
    lifetime = min(*lifetimes, MAX_LIFETIME)
    if lifetime <= timedelta():
        raise UnusableResponse("its lifetime is shorter than a microsecond")
    return Expiry(sent_at + lifetime, assumed, disputed=is_past)
