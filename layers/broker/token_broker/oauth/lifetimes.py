"""When an issued token expires: the earliest of all that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.oauth.responses import IssuedToken, UnusableResponse, jwt_expiry

MAX_LIFETIME = timedelta(hours=48)
DEFAULT_LIFETIME = timedelta(seconds=3600)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a token expires. `assumed`: the provider gave no lifetime. `disputed`: its JWT says it expired already."""

    expires_at: datetime
    assumed: bool
    disputed: bool


def expiry_of(
    issued: IssuedToken,
    *,
    sent_at: datetime,
    cap: timedelta | None,
    default: timedelta = DEFAULT_LIFETIME,
) -> Expiry:
    """When a token expires, counted from the moment before its request was sent.

    The least of `expires_in`, the JWT's own `exp`, `cap` and 48 h; `default` where the provider gives neither. Raises
    UnusableResponse for a token that has expired already.
    """
    lifetimes = []
    if issued.expires_in:
        lifetimes.append(timedelta(seconds=min(issued.expires_in, MAX_LIFETIME.total_seconds())))
    disputed = False
    exp = jwt_expiry(issued.access_token)
    if exp is not None:
        # Compared with the provider's own clock where it sends a Date: clocks can differ by minutes.
        remaining = exp - (issued.provider_now or sent_at)
        if remaining > timedelta():
            lifetimes.append(remaining)
        elif lifetimes:
            disputed = True
        else:
            raise UnusableResponse("it had expired when it was issued")
    assumed = not lifetimes
    if assumed:
        lifetimes.append(default)
    if cap is not None:
        lifetimes.append(cap)
    lifetime = min(*lifetimes, MAX_LIFETIME)
    if lifetime <= timedelta():
        raise UnusableResponse("its lifetime is shorter than a microsecond")
    return Expiry(sent_at + lifetime, assumed, disputed)
