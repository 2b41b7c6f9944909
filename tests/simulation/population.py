"""Who asks for what: keys of the five providers, and how their callers behave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from local.providers.accounts import REDIRECT_URI
from tests.fakes import CALLER
from token_broker.core.names import ConnectionName

HOUR = 3600.0
# Of 10,000 keys, in the order of the chart. Commerce Layer's 200 stand behind one address and share its 30 a minute.
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
# Seconds between the calls on one key, on average, and how many of 500 keys are asked for so often.
PROFILES = {"busy": (10.0, 1), "regular": (1200.0, 100), "seldom": (2 * HOUR, 300), "rare": (6 * HOUR, 99)}


@dataclass(frozen=True)
class Key:
    """A connection with one scope set, and its callers.

    `every_s`: between two calls, on average, by a Poisson process; `steady`: at most so long, evenly spread from half
    of it on. `starts_s`: when it is PUT; its callers come from `asked_from_s` on. `life_s`: what the vendor gives.
    """

    name: ConnectionName
    profile: str
    every_s: float
    life_s: float
    keep_warm: str = "used"
    min_ttl_s: float = 30
    starts_s: float = 0
    asked_from_s: float = 0
    steady: bool = False
    sales_channel: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """As PUT takes them."""
        connection, provider = self.name.connection, self.name.provider
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
        """The credentials' n-th version."""
        connection, password = self.name.connection, f"secret-{version}"
        if self.name.provider == "unicommerce":
            return {"username": connection, "password": password}
        if self.sales_channel:
            return {"client_id": connection}
        return {"client_id": connection, "client_secret": password}

    @property
    def min_ttl(self) -> timedelta:
        return timedelta(seconds=self.min_ttl_s)


def population(size: int, *, ramp_s: float = HOUR) -> list[Key]:
    """`size` keys in the providers' shares, which come into use over the first hour."""
    keys = []
    for provider, share in SHARES.items():
        number = min(max(round(share * size / 10_000), 5), 200 if provider == "commerce-layer" else size)
        keys += [_key(provider, index, ramp_s * index / number) for index in range(number)]
    return keys


def crowd(provider: str, number: int, *, within_s: float, every_s: float, steady: bool = False) -> list[Key]:
    """Keys of one provider that come into use at about the same time, a third of them kept always warm."""
    return [
        Key(
            ConnectionName(provider, f"c-{index}"),
            "crowd",
            every_s,
            life_s(provider),
            keep_warm="always" if index % 3 == 2 and not steady else "used",
            starts_s=within_s * index / number,
            asked_from_s=within_s * index / number,
            steady=steady,
        )
        for index in range(number)
    ]


def life_s(provider: str, *, sales_channel: bool = False) -> float:
    """What a token of the provider lives: `expires_in`; for Unicommerce, which tells none, the catalogue's 20 h."""
    lives = {"ucommerce": 300, "unified-services": 3599, "unidy": 7200, "commerce-layer": 7200, "unicommerce": 72_000}
    return 14_400 if sales_channel else lives[provider]


def window_s(provider: str, life: float) -> float:
    """How long before its end a token is to be renewed, by the design's section 5.6, written here a second time: what
    the broker does is measured by it. (Sweep interval 60 s, slack 30 s, lease 17 s; Commerce Layer reissues in its last
    900 s.)"""
    window = min(life / 2, max(0.2 * life, 60 + 30 + 17), 900)
    return min(window, 900 - 60) if provider == "commerce-layer" else window


def _key(provider: str, index: int, starts_s: float) -> Key:
    profile = _profile(index)
    sales_channel = provider == "commerce-layer" and index % 4 == 1
    life = life_s(provider, sales_channel=sales_channel)
    keep_warm = {3: "always", 7: "never"}.get(index % 20 if profile != "busy" else 0, "used")
    # A service that is choosy asks for as much as section 2 (P3) lets it without waiting: half the window.
    min_ttl = window_s(provider, life) / 2 if index % 6 == 5 else 30
    return Key(
        ConnectionName(provider, f"k-{index}"),
        profile,
        PROFILES[profile][0],
        life,
        keep_warm=keep_warm,
        min_ttl_s=min_ttl,
        starts_s=starts_s,
        # The sweep that makes a key warm which is always to be so, and its renewal, come within two minutes.
        asked_from_s=starts_s + (300 if keep_warm == "always" else 0),
        sales_channel=sales_channel,
    )


def _profile(index: int) -> str:
    # By steps that share no divisor with 500: the profiles mix with what goes by the index above.
    place = index * 101 % 500
    for profile, (_, share) in PROFILES.items():
        if place < share:
            return profile
        place -= share
    raise AssertionError("the shares do not add up to 500")
