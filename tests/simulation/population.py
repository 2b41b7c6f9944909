"""Keys of the five providers, and how their callers behave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from local.providers.accounts import REDIRECT_URI
from tests.fakes import CALLER
from token_broker.core.names import ConnectionName

HOUR = 3600.0
# Of 10,000 keys, in the order of the chart. The 200 of Commerce Layer share one address and its limit of 30 a minute.
SHARES = {"ucommerce": 150, "unified-services": 2000, "unidy": 4000, "commerce-layer": 200, "unicommerce": 3650}
PROVIDERS = tuple(SHARES)
# Each connection has a path of its own, except at Commerce Layer, whose one address is the vendor's.
HOSTS = {
    "ucommerce": "stores.example",
    "unified-services": "login.example",
    "unidy": "id.example",
    "commerce-layer": "auth.commercelayer.io",
    "unicommerce": "market.example",
}
# Average seconds between the calls on a key, and how many of 500 keys have that rate.
PROFILES = {"busy": (10.0, 1), "regular": (1200.0, 100), "seldom": (2 * HOUR, 300), "rare": (6 * HOUR, 99)}


@dataclass(frozen=True)
class Key:
    """A connection with one scope set, and its callers.

    `every_s`: the average time between two calls (a Poisson process). `steady`: instead between half of it and all of
    it, evenly spread. `starts_s`: when it is PUT. Its callers come from `calls_from_s` on. `lifetime_s`: of its tokens.
    """

    name: ConnectionName
    profile: str
    every_s: float
    lifetime_s: float
    keep_warm: str = "used"
    min_ttl_s: float = 30
    starts_s: float = 0
    calls_from_s: float = 0
    steady: bool = False
    sales_channel: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The body of the PUT."""
        connection = self.name.connection
        provider = self.name.provider
        root = f"https://{HOSTS[provider]}/{connection}"
        own: dict[str, dict[str, Any]] = {
            "ucommerce": {"base_url": root, "redirect_uri": REDIRECT_URI},
            "unified-services": {"token_url": f"{root}/oauth2/v2.0/token", "scope": "api://unified/.default"},
            "unidy": {"base_url": root, "scope": "users:read"},
            "commerce-layer": {"scope": "market:id:abc"} if self.sales_channel else {},
            "unicommerce": {"base_url": root},
        }
        return {"allowed_callers": [CALLER], "keep_warm": self.keep_warm, **own[provider]}

    def secret(self, version: int) -> dict[str, str]:
        """The n-th version of the credentials."""
        connection = self.name.connection
        password = f"secret-{version}"
        if self.name.provider == "unicommerce":
            return {"username": connection, "password": password}
        if self.sales_channel:
            return {"client_id": connection}
        return {"client_id": connection, "client_secret": password}

    @property
    def min_ttl(self) -> timedelta:
        return timedelta(seconds=self.min_ttl_s)


def population(size: int, *, ramp_s: float = HOUR) -> list[Key]:
    """`size` keys in the providers' shares. Their use starts over the first hour."""
    keys = []
    for provider, share in SHARES.items():
        number = min(max(round(share * size / 10_000), 5), 200 if provider == "commerce-layer" else size)
        keys += [_key(provider, index, ramp_s * index / number) for index in range(number)]
    return keys


def crowd(provider: str, number: int, *, within_s: float, every_s: float, steady: bool = False) -> list[Key]:
    """Keys of one provider whose use starts within a short time. A third of them are always kept warm."""
    return [
        Key(
            ConnectionName(provider, f"c-{index}"),
            "crowd",
            every_s,
            lifetime_s(provider),
            keep_warm="always" if index % 3 == 2 and not steady else "used",
            starts_s=within_s * index / number,
            calls_from_s=within_s * index / number,
            steady=steady,
        )
        for index in range(number)
    ]


def lifetime_s(provider: str, *, sales_channel: bool = False) -> float:
    """The lifetime of a provider's token. Unicommerce gives none, so there it is the catalogue's 20 h."""
    lifetimes_s = {
        "ucommerce": 300,
        "unified-services": 3599,
        "unidy": 7200,
        "commerce-layer": 7200,
        "unicommerce": 72_000,
    }
    return 14_400 if sales_channel else lifetimes_s[provider]


def window_s(provider: str, lifetime: float) -> float:
    """The renewal window. It is written here a second time, because the broker is measured by it.

    20 % of the lifetime, at least 107 s (sweep interval 60 s, safety margin 30 s, lease 17 s), at most 15 min or half
    the lifetime. Commerce Layer gives a new token in the last 900 s only.
    """
    window = min(lifetime / 2, max(0.2 * lifetime, 60 + 30 + 17), 900)
    return min(window, 900 - 60) if provider == "commerce-layer" else window


def _key(provider: str, index: int, starts_s: float) -> Key:
    profile = _profile(index)
    sales_channel = provider == "commerce-layer" and index % 4 == 1
    lifetime = lifetime_s(provider, sales_channel=sales_channel)
    keep_warm = {3: "always", 7: "never"}.get(index % 20 if profile != "busy" else 0, "used")
    # Some callers want as much as they can without waiting (P3): half the window.
    min_ttl = window_s(provider, lifetime) / 2 if index % 6 == 5 else 30
    return Key(
        ConnectionName(provider, f"k-{index}"),
        profile,
        PROFILES[profile][0],
        lifetime,
        keep_warm=keep_warm,
        min_ttl_s=min_ttl,
        starts_s=starts_s,
        # The first sweep of a key that is always kept warm, and its renewal, come within two minutes.
        calls_from_s=starts_s + (300 if keep_warm == "always" else 0),
        sales_channel=sales_channel,
    )


def _profile(index: int) -> str:
    # 101 shares no divisor with 500, so profiles mix with what depends on the index above.
    place = index * 101 % 500
    for profile, (_, share) in PROFILES.items():
        if place < share:
            return profile
        place -= share
    raise AssertionError("the shares do not add up to 500")
