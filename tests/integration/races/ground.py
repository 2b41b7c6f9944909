"""The place of a race: a world, a fleet, and reads of what must be true afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.integration.handlers.world import PROVIDERS, World
from token_broker.bootstrap import utc_now
from token_broker.core.records import TokenRecord
from token_broker.service import Broker

from .fleet import Fleet, Got, Instances, Race, named

NUMBERS: Final = itertools.count(1)
HOUR: Final = timedelta(hours=1)


@dataclass
class Ground:
    """Runs one race after the other. `make`: makes another broker instance in this process."""

    world: World
    race: Race
    make: Callable[[], Broker]
    rounds: int
    start_fleet: Callable[[], Fleet]
    fleet: Fleet = field(init=False)
    reader: Broker = field(init=False)  # only reads the tables
    _kept: dict[tuple[str, int], str] = field(default_factory=dict)
    _counted: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reader = self.make()

    def __iter__(self) -> Iterator[Ground]:
        """Rounds with fresh instances. Tables and simulators are reset unless a connection is kept."""
        for _ in range(self.rounds):
            if not self._kept:
                self.world.aws.empty()
                for provider in PROVIDERS:
                    self.world.simulator(provider).reset()
            self.fleet = self.start_fleet()
            self._counted.clear()
            yield self

    def connect(self, provider: str, **settings: Any) -> str:
        """A connection that is new to every instance."""
        return self.world.connect(provider, name=f"race-{next(NUMBERS)}", **settings)

    def seeded(self, provider: str, slot: int = 0, *, keep: bool = True) -> tuple[str, Got]:
        """A connection with a token, which the bystander got. Requests are counted from here.

        Over threads, with `keep`, it is the connection of the previous round. The new instances have not cached it.
        """
        name = self._kept.get((provider, slot)) or self.connect(provider)
        if keep and self.fleet.kind == "threads":
            self._kept[provider, slot] = name
        got = self.bystander.get(name)
        assert got.code == ""
        self._counted[provider] = self.world.report(provider)
        return name, got

    @property
    def bystander(self) -> Instances:
        """A fresh instance outside the fleet."""
        return Instances(self.make, count=1)

    def record(self, name: str) -> TokenRecord:
        """The stored record of a connection's only token key."""
        (record,) = self.reader.context.tokens.items(named(name)).records
        return record

    def current(self, name: str) -> str:
        """The fingerprint of the token in the table; '' without one."""
        token = self.record(name).token
        return token.token_id if token is not None else ""

    def lease_end(self, name: str) -> datetime:
        """When the current lease expires."""
        lease = self.record(name).lease
        assert lease is not None
        return lease.until

    def scope_id(self, name: str) -> str:
        """The scope_id of a connection's only token key."""
        return self.record(name).key.scope_id

    def expire_token(self, name: str) -> None:
        """Lets the token expire."""
        self.world.aws.change_token_item(name, expires_at=-HOUR, renew_at=-HOUR, due_at=-HOUR)

    def allow_reports(self, name: str) -> None:
        """Fills the bucket of reports, as if none had been made for a while."""
        self.world.aws.change_token_item(name, reports_until=-HOUR)

    def make_due(self, name: str) -> None:
        """Makes the token due for renewal. It stays valid."""
        self.world.aws.change_token_item(
            name, issued_at=-HOUR, renew_at=-timedelta(minutes=1), due_at=-timedelta(minutes=1)
        )

    def queued(self) -> int:
        """How many messages are in the renewal queue, delayed ones included.

        A message whose delay ends between two reads may be counted twice or not at all, so this repeats until two
        counts are equal.
        """
        count = self._messages()
        while count != (again := self._messages()):
            count = again
        return count

    def _messages(self) -> int:
        response = self.world.aws.sqs.get_queue_attributes(
            QueueUrl=self.world.stack.renewal_queue_url, AttributeNames=["All"]
        )
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
        return sum(int(response["Attributes"][count]) for count in counts)

    def count(self, name: str, counter: str) -> int:
        """A counter of the connection's simulator since the race began."""
        provider = provider_of(name)
        counted: int = self.world.report(provider)[counter] - self._counted.get(provider, {}).get(counter, 0)
        return counted

    def live(self, name: str) -> set[str]:
        """The fingerprints of the tokens that are live at the provider."""
        return {token["token_id"] for token in self.world.report(provider_of(name))["live_tokens"]}

    def issued_at(self, name: str, token_id: str) -> datetime:
        """When the provider issued a live token, by this machine's clock."""
        simulator = self.world.simulator(provider_of(name))
        (token,) = (token for token in simulator.tokens.live(simulator.now()) if token.token_id == token_id)
        return datetime.fromtimestamp(token.issued_at, UTC)

    def kept(self, name: str) -> set[str]:
        """The fingerprints of the stored tokens: current and retired ones."""
        now, items = utc_now(), self.reader.context.tokens.items(named(name))
        current = {token.token_id for record in items.records if (token := record.live_token(now)) is not None}
        return current | {item.token_id for item in items.retired}

    def retry_revocations(self, name: str) -> None:
        """Runs the worker on a message for each retired token that must be revoked."""
        for item in self.reader.context.tokens.items(named(name)).retired:
            if item.revoke:
                self.fleet.renew(name, item.key.scope_id, item.token_id)

    def tokens_of(self, responses: list[Got]) -> set[str]:
        """The fingerprints of the tokens that callers got. Checks that none got an error."""
        assert {got.code for got in responses} == {""}
        return {got.token_id for got in responses}


def provider_of(name: str) -> str:
    return name.partition("/")[0]
