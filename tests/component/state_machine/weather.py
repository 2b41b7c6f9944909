"""Rules: time passes, the provider has its days, and so have our own services."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.component.state_machine.base import PORTS, WHICH, Base
from tests.component.state_machine.servers import TROUBLES

OUTAGE_S = 20


class Weather(Base):
    """What nobody among us does."""

    @rule(seconds=st.sampled_from([0.5, 5, 13, 17.5, 18.5, 18.5, 31, 31, 61, 200, 905, 3601]))
    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(which=WHICH, before=st.sampled_from([-2, -0.3, 0.05, 0.3, 10, 29, 100]))
    def advance_to_the_end_of_a_token(self, which: int, before: float) -> None:
        self.to_the_end_of_a_token(self.name(which), before)

    @rule(troubles=st.lists(st.sampled_from([*TROUBLES, "ok"]), max_size=4))
    def provider_will(self, troubles: list[str]) -> None:
        self.server.trouble.clear()
        self.server.trouble.extend(troubles)

    @rule(
        down=st.sampled_from([None, None, None, "503", "hang", "unreachable", "lost"]),
        life=st.integers(0, 3),
        ends=st.one_of(st.none(), st.integers(0, 7)),
    )
    def provider_is(self, down: str | None, life: int, ends: int | None) -> None:
        """Up or down; its tokens live for so long from now on; one of them it ends before its time."""
        self.server.down = down
        self.server.life_s = self.kind.lives[life % len(self.kind.lives)]
        if ends is not None and self.held:
            handout = self.held[ends % len(self.held)]
            self.server.issues[handout.token.token_id].end("by the provider", self.world.clock())

    @rule(port=st.sampled_from(PORTS))
    def take_down(self, port: str) -> None:
        """For a while."""
        self.world.faults.take_down(port)
        self.world.clock.at(OUTAGE_S, self.bring_up)
        for operation in self.stage.waiting:
            operation.seen.faulted = True
