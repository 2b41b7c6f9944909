"""Rules: paused operations go on, in any order, with faults, or not at all."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import HOPS, LEASE_EXPIRED_S, MAX_OPERATIONS, SOME_HOPS, WHICH, Base

FAULTS = st.sampled_from(["fail", "lose_response", "send_twice", "send_again_later"])


class Interleaving(Base):
    """Operations go on in any order, lose their leases, meet faults of our own services, and are killed."""

    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, MAX_OPERATIONS - 1), hops=HOPS)
    def go_on(self, which: int, hops: int | None) -> None:
        self.go_on_with(self.stage.waiting[which % len(self.stage.waiting)], hops)

    @precondition(lambda self: len(self.stage.waiting) > 1)
    @rule(turns=st.lists(st.integers(0, MAX_OPERATIONS - 1), min_size=2, max_size=12))
    def take_turns(self, turns: list[int]) -> None:
        """One call each, in this order."""
        for turn in turns:
            if self.stage.waiting:
                self.go_on_with(self.stage.waiting[turn % len(self.stage.waiting)], 0)

    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, MAX_OPERATIONS - 1))
    def kill_one(self, which: int) -> None:
        self.kill(self.stage.waiting[which % len(self.stage.waiting)])

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, hops=SOME_HOPS)
    def start_and_kill(self, which: int, scope: int, hops: int) -> None:
        """A process is killed while it holds its lease. Then the lease expires."""
        operation = self.get_one(which, scope, hops)
        if not operation.ended:
            self.kill(operation)
            self.world.clock.advance(LEASE_EXPIRED_S)

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, is_expired=st.booleans(), times=st.integers(1, 3))
    def kill_with_the_request_sent(self, which: int, scope: int, is_expired: bool, times: int) -> None:
        """The outcome of the request stays unknown. Again after the lease expired."""
        if is_expired:
            self.advance_to_expiry(self.name(which), -1)
        for _ in range(times):
            operation = self.get_one(which, scope, 0)
            while not operation.ended and operation.stops_at != "response":
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
