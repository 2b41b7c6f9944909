"""Rules: time passes, the provider fails, and our own services fail."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.component.state_machine.base import PORTS, WHICH, Base
from tests.component.state_machine.servers import TROUBLES

OUTAGE_S = 20


class Weather(Base):
    """What neither callers nor owners cause."""

    @rule(seconds=st.sampled_from([0.5, 5, 13, 17.5, 18.5, 18.5, 31, 31, 61, 200, 905, 3601]))
    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(which=WHICH, before=st.sampled_from([-2, -0.3, 0.05, 0.3, 10, 29, 100]))
    def advance_to_the_expiry_of_a_token(self, which: int, before: float) -> None:
        self.advance_to_expiry(self.name(which), before)

    @rule(troubles=st.lists(st.sampled_from([*TROUBLES, "ok"]), max_size=4))
    def next_troubles(self, troubles: list[str]) -> None:
        self.server.trouble.clear()
        self.server.trouble.extend(troubles)

    @rule(
        down=st.sampled_from([None, None, None, "503", "hang", "unreachable", "lost"]),
        lifetime=st.integers(0, 3),
        revoked=st.one_of(st.none(), st.integers(0, 7)),
    )
    def change_provider(self, down: str | None, lifetime: int, revoked: int | None) -> None:
        """The provider is up or down, changes the lifetime of its tokens, and may revoke one that callers got."""
        self.server.down = down
        self.server.lifetime_s = self.case.lifetimes_s[lifetime % len(self.case.lifetimes_s)]
        if revoked is not None and self.held:
            response = self.held[revoked % len(self.held)]
            self.server.issued[response.token.token_id].revoke("by the provider", self.world.clock())

    @rule(port=st.sampled_from(PORTS))
    def take_down(self, port: str) -> None:
        """One of our services fails for a while."""
        self.world.faults.take_down(port)
        self.world.clock.at(OUTAGE_S, self.bring_up)
        for operation in self.stage.waiting:
            operation.trace.faulted = True
