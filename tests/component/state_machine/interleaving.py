"""Rules: paused operations go on, in any order, with faults, or not at all."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import EXPIRED, HOPS, LEASE_EXPIRED_S, MAX_OPERATIONS, SOME_HOPS, WHICH, Base

# After so many port calls; None: while the provider answers.
KILLED_AT = st.one_of(SOME_HOPS, st.none(), st.none())
FAULTS = st.sampled_from(["fail", "lose_response", "send_twice", "send_again_later"])


class Interleaving(Base):
    """Operations go on in any order, lose their leases, meet faults of our own services, and are killed."""

    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, MAX_OPERATIONS - 1), hops=HOPS, is_killed=st.sampled_from([False, False, True]))
    def go_on(self, which: int, hops: int | None, is_killed: bool) -> None:
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        if is_killed:
            self.kill(operation)
        else:
            self.go_on_with(operation, hops)

    @precondition(lambda self: len(self.stage.waiting) > 1)
    @rule(turns=st.lists(st.integers(0, MAX_OPERATIONS - 1), min_size=2, max_size=12))
    def take_turns(self, turns: list[int]) -> None:
        """One call each, in this order."""
        for turn in turns:
            if self.stage.waiting:
                self.go_on_with(self.stage.waiting[turn % len(self.stage.waiting)], 0)

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, is_expired=EXPIRED, at=KILLED_AT, times=st.integers(1, 3))
    def start_and_kill(self, which: int, scope: int, is_expired: bool, at: int | None, times: int) -> None:
        """A process is killed after so many calls, or with its request sent. Again after its lease expired."""
        if is_expired:
            self.advance_to_expiry(self.name(which), -1)
        for _ in range(times):
            operation = self.get_one(which, scope, at or 0)
            while at is None and not operation.ended and operation.stops_at != "response":
                self.go_on_with(operation, 0)
            if not operation.ended:
                self.kill(operation)
                self.world.clock.advance(LEASE_EXPIRED_S)

    @precondition(lambda self: self.can_start() and self.stage.waiting)
    @rule(which=st.integers(0, MAX_OPERATIONS - 1), hops=HOPS)
    def freeze(self, which: int, hops: int | None) -> None:
        """A process pauses until its lease has expired and another one has taken over. Then it goes on."""
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        self.world.clock.advance(LEASE_EXPIRED_S)
        key = operation.trace.key
        if key is not None:
            self.get_token_of(key.name, key.scope or None, None)
        self.go_on_with(operation, hops)

    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, MAX_OPERATIONS - 1), fault=FAULTS, hops=HOPS)
    def fault(self, which: int, fault: str, hops: int | None) -> None:
        """The call before which an operation pauses fails."""
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        call = operation.stops_at or ""
        if call.partition(".")[0] in self.world.faults.down:
            return
        if call == "response":
            operation.cut = True
        elif "." in call and fault == "send_again_later":
            self.world.faults.send_twice(call, between=lambda: self.stage.stop("between"))
        elif "." in call:
            getattr(self.world.faults, fault)(call)
        operation.trace.faulted = True
        self.go_on_with(operation, hops)
