"""Rules: time passes, the provider fails, and our own services fail."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import WHICH, Base
from tests.component.state_machine.servers import TROUBLES

OUTAGE_S = 20
DYNAMODB = ("tokens", "health", "due_index", "budgets", "connections")
SERVICES = st.sampled_from([DYNAMODB, DYNAMODB, ("tokens",), ("secrets",), ("sealer",), ("sealer",), ("queue",)])
THREE_DAYS_S = 3 * 86_400


class Weather(Base):
    """What neither callers nor owners cause."""

    @rule(seconds=st.sampled_from([0.5, 5, 13, 17.5, 18.5, 18.5, 31, 31, 61, 61, 200, 905, 905, 3601]))
    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(which=WHICH, before=st.sampled_from([-2, -0.3, 0.05, 0.3, 10, 29, 100]))
    def advance_to_the_expiry_of_a_token(self, which: int, before: float) -> None:
        self.advance_to_expiry(self.name(which), before)

    @rule(
        down=st.sampled_from([None, None, None, "503", "hang", "unreachable", "lost"]),
        lifetime=st.sampled_from([0, 0, 0, 1, 2, 3]),
        revoked=st.one_of(st.none(), st.integers(0, 7)),
        troubles=st.lists(st.sampled_from([*TROUBLES, "ok"]), max_size=4),
    )
    def change_provider(self, down: str | None, lifetime: int, revoked: int | None, troubles: list[str]) -> None:
        """The provider is up or down, changes the lifetime of its tokens, and may revoke one that callers got."""
        self.server.down = down
        self.server.meet(*troubles)
        self.server.lifetime_s = self.case.lifetimes_s[lifetime % len(self.case.lifetimes_s)]
        if revoked is not None and self.held:
            response = self.held[revoked % len(self.held)]
            self.server.issued[response.token.token_id].revoke("by the provider", self.world.clock())

    @rule(ports=SERVICES)
    def take_down(self, ports: tuple[str, ...]) -> None:
        """One of our services fails for a while: DynamoDB or a part of it, Secrets Manager, KMS, SQS."""
        for port in ports:
            self.world.faults.take_down(port)
        self.world.clock.at(OUTAGE_S, self.bring_up)
        for operation in self.stage.waiting:
            operation.trace.faulted = True

    @precondition(lambda self: not self.stage.waiting)
    @rule(seconds=st.sampled_from([0, THREE_DAYS_S]))
    def delete_items(self, seconds: float) -> None:
        """DynamoDB deletes the items whose time is over. Nobody may have looked at them for three days."""
        now = self.world.clock.advance(seconds)
        table = self.world.table
        for record in [record for record in table.records.values() if record.delete_at and record.delete_at <= now]:
            self.world.tokens.delete(record)
        for name in [name for name, health in table.health.items() if health.delete_at and health.delete_at <= now]:
            del table.health[name]
