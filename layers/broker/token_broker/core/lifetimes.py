"""How long an issued token lives, by the least of all that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.core.replies import Issued, Unusable, jwt_expiry

MAX_LIFE = timedelta(hours=48)
DEFAULT_LIFE = timedelta(seconds=3600)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A token's end. `assumed`: the provider told none. `disputed`: its JWT claims to be past already."""

    expires_at: datetime
    assumed: bool
    disputed: bool


def lifetime(
    issued: Issued,
    *,
    sent_at: datetime,
    cap: timedelta | None,
    untold: timedelta | None,
    default: timedelta = DEFAULT_LIFE,
) -> Lifetime:
    """The end of a token, counted from the moment before its request was sent.

    The least of `expires_in`, the JWT's own `exp`, `cap` and 48 h; `untold`, else `default`, where the provider tells
    nothing. Raises Unusable for a token that is past already.
    """
    lives = [timedelta(seconds=min(issued.expires_in, MAX_LIFE.total_seconds()))] if issued.expires_in else []
    disputed = False
    exp = jwt_expiry(issued.access_token)
    if exp is not None:
        # Measured against the provider's own clock where it tells it: clocks can be minutes apart.
        left = exp - (issued.provider_now or sent_at)
        if left > timedelta():
            lives.append(left)
        elif lives:
            disputed = True
        else:
            raise Unusable("it had expired when it was issued")
    assumed = not lives
    if assumed:
        lives.append(untold or default)
    if cap is not None:
        lives.append(cap)
    life = min(*lives, MAX_LIFE)
    if life <= timedelta():
        raise Unusable("its life is shorter than a microsecond")
    return Lifetime(sent_at + life, assumed, disputed)
