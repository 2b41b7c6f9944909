"""A vendor whose tokens begin with a person's consent. It judges each refresh token that arrives by its own rule."""

from __future__ import annotations

import json
from collections import ChainMap
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qs

from tests.fakes import World
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.core.provider_files import parse_provider
from token_broker.core.providers import RefreshSpec
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.oauth.grants import GRANTS
from token_broker.ports import RenewalMessage
from token_broker.service import Broker
from token_broker.service.renew import Renewal
from token_broker.service.sweep import sweep

SLUG = "seller-api"
FILE: dict[str, Any] = {
    "title": "Seller API",
    "documentation": "https://id.example/docs",
    "grant": "refresh_token",
    "credentials": ["client_id", "client_secret"],
    "settings": [{"name": "host", "kind": "label", "default": "id", "help": "The region's host."}],
    "request": {"url": "https://{host}.example/token", "fields": {"scope": "{scope}"}},
    "revocation": {"url": "https://id.example/revoke"},
}
SEED = "seed-1"
LIFETIME_S = 3600
DUE_AFTER_S = 3500
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Rule:
    """How often the vendor accepts one refresh token: once; again for a time after it was first used; or always.

    `spec`: what the provider's file says of it.
    """

    name: str
    spec: RefreshSpec
    accepted_for: timedelta | None = timedelta()


RULES = (
    Rule("once", RefreshSpec()),
    *(
        Rule(f"again within {window}", RefreshSpec(resend=True, resend_within=window), window)
        for window in (timedelta(seconds=60), timedelta(minutes=30))
    ),
    Rule("always", RefreshSpec(resend=True), None),
)


@dataclass
class Vendor:
    """The token endpoint. `misused`: the refresh tokens that came although the rule says no: each ends the consent."""

    world: World
    rule: Rule
    rotates: bool = True
    numbers: Any = field(default_factory=lambda: count(1))
    first_used_at: dict[str, datetime] = field(default_factory=dict)
    successor: dict[str, str] = field(default_factory=dict)
    arrived: list[str] = field(default_factory=list)
    misused: list[str] = field(default_factory=list)
    valid: str = SEED
    ended: bool = False

    def __call__(self, request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        form = parse_qs((request.body or b"").decode())
        token, now = form["refresh_token"][0], self.world.clock()
        self.arrived.append(token)
        first = self.first_used_at.setdefault(token, now)
        may_come = self.rule.accepted_for is None or now <= first + self.rule.accepted_for
        is_known = token == self.valid or token in self.successor
        if self.rotates and token in self.successor and not may_come:
            self.misused.append(token)
            self.ended = True
        if self.ended or not is_known:
            return HttpResponse(400, JSON, b'{"error": "invalid_grant"}')
        n = next(self.numbers)
        body = {"access_token": f"tok-{n}", "token_type": "Bearer", "expires_in": LIFETIME_S}
        if self.rotates:
            self.valid = self.successor.setdefault(token, f"refresh-{n}")
            body["refresh_token"] = self.valid
        return HttpResponse(200, JSON, json.dumps(body).encode())


def connected(world: World, rule: Rule, **settings: Any) -> tuple[ConnectionName, Vendor]:
    """A connection with a seed in its secret, and its vendor."""
    provider = parse_provider(SLUG, FILE, file="seller-api.toml", grants=GRANTS)
    world.catalogue = ChainMap({SLUG: replace(provider, refresh=rule.spec)}, dict(load_catalogue()))
    name = ConnectionName(SLUG, "main")
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret", "refresh_token": SEED})
    world.settings(name, **{"scope": "a", "allowed_scopes": ["*"], **settings})
    world.provider.to = vendor = Vendor(world, rule)
    return name, vendor


class Operation:
    """The schedule and the queue: sweeps each minute, and gives each message to the worker after its delay."""

    def __init__(self, world: World, broker: Broker) -> None:
        self.world = world
        self.broker = broker
        self._waiting: list[tuple[datetime, int, RenewalMessage]] = []
        self._order = count()

    def run(self, seconds: float) -> list[Renewal]:
        """Lets time pass. Returns what the worker did."""
        world, done = self.world, []
        end, next_sweep = world.clock() + timedelta(seconds=seconds), world.clock()
        while world.clock() < end:
            self._collect()
            if world.clock() >= next_sweep:
                next_sweep = world.clock() + timedelta(seconds=60)
                deadline = world.clock() + timedelta(seconds=45)
                sweep(self.broker.context, scheduled_at=world.clock(), deadline=deadline, threads=1)
                self._collect()
            ready = sorted(entry for entry in self._waiting if entry[0] <= world.clock())
            for entry in ready:
                self._waiting.remove(entry)
                done.append(self.broker.renew(entry[2].name, entry[2].scope_id, entry[2].token_id))
            moments = [next_sweep, *(at for at, _, _ in self._waiting), end]
            world.clock.advance(to=max(min(moments), world.clock() + timedelta(milliseconds=100)))
        return done

    def _collect(self) -> None:
        for message in self.world.queue.take():
            self._waiting.append((self.world.clock() + message.delay, next(self._order), message))
