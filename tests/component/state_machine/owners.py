"""Rules: what the owners of connections do, and who gets at our tables and secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import HOPS, WHICH, Base
from tests.fakes import CALLER
from tests.fakes.world import SETTINGS
from token_broker.core.names import ConnectionName

REQUEST_TIME = timedelta(seconds=26)
DEEDS = st.sampled_from(["purge", "purge", "trial", "trial", "delete"])
# Other settings; "elsewhere": the kind's own, that lead to another host.
CHANGES = st.sampled_from(["none", "none", "lifetime", "warm", "suspended", "suspended", "elsewhere", "elsewhere"])
SECRETS = st.sampled_from(["right", "right", "right", "wrong", "pending", "pending wrong", "there", "only heard of"])
SEALED = st.sampled_from(["token", "token", "refresh_token", "retired"])
LOOK_AGAIN_S = 31
# Shorter than what a caller wants who does not say.
SHORT_S = 20


class Owners(Base):
    """Tokens, settings, connections and secrets change under the callers."""

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, all_scopes=st.booleans(), force=st.booleans(), what=DEEDS, hops=HOPS)
    def manage(self, which: int, scope: int, all_scopes: bool, force: bool, what: str, hops: int | None) -> None:
        """A DELETE of tokens or of the connection, or a trial; a connection that is gone is made anew."""
        name, text = self.name(which), None if all_scopes else self.kind.scopes[scope % len(self.kind.scopes)] or ""
        if self.world.connections.get(name) is None:
            self._put(name, "none", hops)
        elif what == "purge":
            deadline = self.world.clock() + REQUEST_TIME
            self.start("purge", lambda broker: broker.purge(name, text, deadline=deadline), hops)
        elif what == "trial":
            self.start("trial", lambda broker: broker.trial(name, force=force), hops)
        else:
            self.start("delete", lambda broker: broker.connections.delete(name, expected=None), hops)

    @precondition(Base.can_start)
    @rule(which=WHICH, change=CHANGES, hops=HOPS)
    def put(self, which: int, change: str, hops: int | None) -> None:
        self._put(self.name(which), change, hops)

    def _put(self, name: ConnectionName, change: str, hops: int | None) -> None:
        changes: dict[str, dict[str, Any]] = {
            "none": {},
            "lifetime": {"lifetime_s": 900},
            "warm": {"keep_warm": "always"},
            "suspended": {"suspended": True},
            "elsewhere": dict(self.kind.wrong_redirect),
        }
        whole = {"allowed_callers": [CALLER], **SETTINGS[name.provider], **self.kind.settings, **changes[change]}
        self.start("put", lambda broker: broker.connections.put(name, whole, expected=None, absent=False), hops)

    @precondition(lambda self: not self.stage.waiting)
    @rule(
        which=WHICH,
        scope=WHICH,
        change=CHANGES,
        is_deleted=st.sampled_from([False, False, True]),
        down=st.sampled_from([None, "tokens", "tokens"]),
    )
    def change_and_let_everybody_see(
        self, which: int, scope: int, change: str, is_deleted: bool, down: str | None
    ) -> None:
        """All instances have a token in memory, then read of other settings; then our table may be away."""
        name = self.name(which)
        self.ask_everywhere(which, scope)
        if is_deleted:
            self.start("delete", lambda broker: broker.connections.delete(name, expected=None), None)
        else:
            self._put(name, change, None)
        self.world.clock.advance(LOOK_AGAIN_S)
        self.ask_everywhere(which, scope)
        if down is not None and not self.world.faults.down:
            self.world.faults.take_down(down)
            self.world.clock.advance(LOOK_AGAIN_S)
            self.ask_everywhere(which, scope)
            self.world.faults.bring_up(down)

    @precondition(Base.can_start)
    @rule(which=WHICH, how=SECRETS, heard=st.booleans(), hops=HOPS)
    def change_secret(self, which: int, how: str, heard: bool, hops: int | None) -> None:
        """In our vault, at the provider ("there"), or at both ("right"). Whether an event comes is another matter."""
        name = self.name(which)
        if how == "there":
            self.server.accepted[self.client(name)] = "changed over there"
        elif how == "pending":
            accepted = self.server.accepted[self.client(name)]
            self.new_secret(name, is_right=True, stage="AWSPENDING")
            self.server.accepted[self.client(name)] = accepted
        elif how != "only heard of":
            stage = "AWSPENDING" if how == "pending wrong" else "AWSCURRENT"
            self.new_secret(name, is_right=how == "right", stage=stage)
        if heard:
            self.start("secret_changed", lambda broker: broker.secret_changed(name), hops)

    @precondition(lambda self: not self.stage.waiting)
    @rule(which=WHICH, scope=WHICH, times=st.integers(2, 6))
    def guess(self, which: int, scope: int, times: int) -> None:
        """One wrong secret after the other."""
        for _ in range(times):
            self.new_secret(self.name(which), is_right=False)
            self.to_the_end_of_a_token(self.name(which), -1)
            self.world.clock.advance(LOOK_AGAIN_S)
            self.ask_as(which, scope, None)

    @rule(which=WHICH, scope=WHICH, what=SEALED, other=WHICH, then=st.sampled_from([None, "ask", "ask in need"]))
    def tamper(self, which: int, scope: int, what: str, other: int, then: str | None) -> None:
        """A sealed value that does not open, or one sealed for another key. In need: no longer token can be had."""
        self.world.watched.tamper(self.key(which, scope), what, self.key(other, other))
        if then == "ask in need":
            self.to_the_end_of_a_token(self.name(which), SHORT_S)
            self.server.trouble.appendleft("503")
        if then is not None and self.can_start():
            self.ask_as(which, scope, None)
